"""One JSON line a request. It names nobody; risks and patterns of single patients are patient data all the same.

The form of a line is told in ``docs/serve.md``, for others read it.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mmnar.errors import StoreError
from mmnar.workflow.service.answers import Answer

LOG_VERSION: Final = 1
KEY_BYTES: Final = 32
_PRIVATE: Final = 0o600


class AuditLog:
    """A file that only grows, and beside it ``<name>.key``, the key of its digests, made when it is not there.

    Args:
        path: Of the log.
        run: Which run answers: sha256 of its ``run.json``. It stands in each line.

    Raises:
        OSError: It cannot be written there.
        StoreError: The key is damaged.
    """

    def __init__(self, path: Path, run: str) -> None:
        self._path, self._run, self._lock = path, run, threading.Lock()
        key = key_of(path)
        if not key.exists():
            with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
        self._key = read_key(path)
        self._append(b"\n" if _is_cut(path) else b"")

    def write(self, status: int, body: bytes | None = None, answer: Answer | None = None) -> None:
        """
        Args:
            status: Of the response.
            body: Of the request; None = it was not read to its end.
            answer: Where there is one.

        Raises:
            OSError: The line is not on the disk.
        """
        entry: dict[str, Any] = {
            "log_version": LOG_VERSION,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "run": self._run,
            "status": status,
            "input": None if body is None else digest(self._key, body),
        }
        if answer is not None:
            told = zip(answer.who, answer.content["patients"], strict=True)
            entry["patients"] = [
                {
                    "subject": subject_digest(self._key, who[0]),
                    "patient": patient_digest(self._key, *who),
                    "pattern": patient["pattern"],
                    "tasks": patient["tasks"],
                }
                for who, patient in told
            ]
        with self._lock:
            self._append(json.dumps(entry).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _PRIVATE)
        try:
            end = os.fstat(file).st_size
            try:
                if os.write(file, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
                os.fsync(file)
            except OSError:
                os.ftruncate(file, end)  # half a line would spoil the next one
                raise
        finally:
            os.close(file)


def key_of(log: Path) -> Path:
    """Where the key of a log lies."""
    return log.with_name(log.name + ".key")


def read_key(log: Path) -> bytes:
    """The key of a log.

    Raises:
        OSError: It cannot be read.
        StoreError: It is damaged.
    """
    key = key_of(log).read_bytes()
    if len(key) != KEY_BYTES:
        raise StoreError(f"'{key_of(log).name}'", f"{KEY_BYTES} bytes", "another length", "begin another log")
    return key


def digest(key: bytes, content: bytes) -> str:
    """Keyed: without the key nobody can try what content it is of."""
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def subject_digest(key: bytes, subject: str) -> str:
    """Of a patient alone: whoever reads the log can tell that two lines are about the same one, not who it is."""
    return digest(key, json.dumps([subject]).encode())


def patient_digest(key: bytes, subject: str, asked: str) -> str:
    """Of a patient and what tells one question about them from others (see ``requests.Patient``)."""
    return digest(key, json.dumps([subject, asked]).encode())


def _is_cut(log: Path) -> bool:
    """Whether it ends within a line, which would take the next one with it."""
    if not log.exists() or not log.stat().st_size:
        return False
    with log.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"
