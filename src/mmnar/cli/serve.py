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
) -> None:
    """Answer POST /predict with the risks that mmnar predict gives, of a run on a table or MEDS. Research use only.

    Args:
        run: A run folder.
        log: Audit log, one JSON line a request (patient data); the key of its digests lies beside it.
        token_file: File with the token that every request must show; default: the environment's MMNAR_TOKEN.
        host: Address to listen at. There is no encryption: beyond this machine put a proxy with TLS before it.
        port: To listen at.
        max_bytes: Largest body of a request.
        max_seconds: Longest time for a body, and for an answer.
    """
    for package in ("fastapi", "uvicorn"):
        if find_spec(package) is None:
            raise lacking("mmnar serve", package, "serve")
    if max_bytes < 1 or not 0 < max_seconds < float("inf") or not 0 < port < 65536:
        raise ConfigError("limits and port", "positive, a port below 65536", "another number", "correct them")
    import uvicorn

    from mmnar.workflow import open_run
    from mmnar.workflow.service.answers import Scorer
    from mmnar.workflow.service.audit import AuditLog
    from mmnar.workflow.service.http import Limits, application

    token = _token(token_file)
    service = application(Scorer(open_run(run)), token, AuditLog(log), Limits(max_bytes, max_seconds))
    print(f"listening at http://{host}:{port}", flush=True)
    uvicorn.run(service, host=host, port=port, log_level="critical", access_log=False, server_header=False)


def _token(file: Path | None) -> str:
    token = (os.environ.get("MMNAR_TOKEN", "") if file is None else file.read_text(encoding="utf-8")).strip()
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable():
        fact = "none, a shorter one or another alphabet"
        raise ConfigError(
            "token", f"{_SHORTEST} ASCII characters or more", fact, "give --token-file or set MMNAR_TOKEN"
        )
    return token
