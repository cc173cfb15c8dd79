"""``mmnar serve``: a run behind HTTP."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from mmnar.cli.apps import app
from mmnar.errors import ConfigError
from mmnar.extras import lacking

_SHORTEST = 16


@app.command
def serve(
    run: Path,
    *,
    log: Path,
    token_file: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_bytes: int = 4_000_000,
    max_seconds: float = 60.0,
    notes_encoder: str | None = None,
) -> None:
    """Answer over HTTP with the risks that mmnar predict gives, of a run on a table or on MEDS. Research use only.

    Args:
        run: A run folder.
        log: Audit log, one JSON line a request (patient data); the key of its digests lies beside it.
        token_file: File with the token that every request must show; default: the environment's MMNAR_TOKEN.
        host: Address to listen at. There is no encryption: beyond this machine put a proxy with TLS before it.
        port: To listen at; 0: any that is free.
        max_bytes: Largest body of a request.
        max_seconds: Longest time for a body, and for an answer.
        notes_encoder: Folder of the model that turned the run's notes into vectors, if it lies elsewhere here.
    """
    for package in ("fastapi", "uvicorn"):
        if find_spec(package) is None:
            raise lacking("mmnar serve", package, "serve")
    if not 0 <= port < 65536:
        raise ConfigError("--port", "a number from 0 to 65535", "another", "correct it")
    import tempfile

    from mmnar.files import sha256_of
    from mmnar.workflow import open_run
    from mmnar.workflow.service.answers import scorer_of
    from mmnar.workflow.service.audit import AuditLog
    from mmnar.workflow.service.http import Limits, application, listen

    limits, token = Limits(max_bytes, max_seconds), _token(token_file)
    opened = open_run(run)
    with tempfile.TemporaryDirectory(prefix=".tmp-mmnar-") as place:
        scorer = scorer_of(opened, Path(place), notes_encoder)
        audit = AuditLog(log, sha256_of(opened.folder / "run.json"))
        listen(application(scorer, token, audit, limits), host, port)


def _token(file: Path | None) -> str:
    token = (os.environ.get("MMNAR_TOKEN", "") if file is None else file.read_text(encoding="utf-8")).strip()
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable():
        fact = "none, a shorter one or another alphabet"
        raise ConfigError(
            "token", f"{_SHORTEST} ASCII characters or more", fact, "give --token-file or set MMNAR_TOKEN"
        )
    return token
