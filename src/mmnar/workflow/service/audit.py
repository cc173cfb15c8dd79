"""One JSON line a request. It names nobody; risks and patterns of single patients are patient data all the same."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

_PRIVATE: Final = 0o600


class AuditLog:
    """A file that only grows, and beside it ``<name>.key``, the key of its digests, made when it is not there.

    Args:
        path: Of the log.

    Raises:
        OSError: It cannot be written there.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        key = path.with_name(path.name + ".key")
        if not key.exists():
            with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "wb") as file:
                file.write(secrets.token_bytes(32))
        self._key = key.read_bytes()
        if len(self._key) < 32:
            raise OSError(f"the key of the log is cut short: {key.name}")
        self._append(b"")

    def write(self, body: bytes, status: int, answer: dict[str, Any] | None) -> None:
        """
        Raises:
            OSError: The line is not on the disk.
        """
        entry: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "input": hmac.new(self._key, body, hashlib.sha256).hexdigest(),
            "status": status,
        }
        if answer is not None:
            entry["run"] = answer["run"]
            entry["patients"] = [{"pattern": p["pattern"], "tasks": p["tasks"]} for p in answer["patients"]]
        with self._lock:
            self._append(json.dumps(entry).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _PRIVATE), "wb") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
