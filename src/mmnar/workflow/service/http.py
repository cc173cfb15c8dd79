"""Token, limits and status codes. What goes wrong is one line, and nothing of a request is logged."""

from __future__ import annotations

import asyncio
import hmac
import threading
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mmnar.faults import as_report, in_one_line
from mmnar.progress import say
from mmnar.workflow.service.answers import Scorer
from mmnar.workflow.service.audit import AuditLog
from mmnar.workflow.service.requests import read_body


@dataclass(frozen=True)
class Limits:
    """
    Args:
        body: Bytes of a request.
        seconds: For sending the body, and again for its answer, waiting for others included.
    """

    body: int = 4_000_000
    seconds: float = 60.0


def application(scorer: Scorer, token: str, log: AuditLog, limits: Limits) -> FastAPI:
    """``GET /health`` and ``POST /predict``; 401 without the token, 4xx with one line for what cannot be answered."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    turn = threading.Lock()

    def scored(body: bytes) -> tuple[int, dict[str, Any]]:
        with turn:  # one at a time: memory and threads are those of one prediction
            return _answer(scorer, body)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise HTTPException(401, "token: expected 'Authorization: Bearer TOKEN', got none or another")
        body = await _body(request, limits)
        try:
            status, answer = await asyncio.wait_for(asyncio.to_thread(scored, body), limits.seconds)
        except TimeoutError:
            status, answer = 503, {"error": f"time: expected an answer in {limits.seconds:g} s, got none; ask again"}
        try:
            await asyncio.to_thread(log.write, body, status, answer if status == 200 else None)
        except OSError as error:
            say(in_one_line(error) or "the audit log cannot be written")
            raise HTTPException(503, "audit log: expected a line, got a failed write; no answer is given") from None
        return JSONResponse(answer, status)

    return app


async def _body(request: Request, limits: Limits) -> bytes:
    """
    Raises:
        HTTPException: 413 or 408.
    """

    async def whole() -> bytes:
        read = bytearray()
        async for part in request.stream():
            read += part
            if len(read) > limits.body:
                raise HTTPException(
                    413, f"body: expected {limits.body} bytes or less, got more; ask for fewer patients"
                )
        return bytes(read)

    try:
        return await asyncio.wait_for(whole(), limits.seconds)
    except TimeoutError:
        raise HTTPException(408, f"body: expected within {limits.seconds:g} s, got a part; send it again") from None


def _answer(scorer: Scorer, body: bytes) -> tuple[int, dict[str, Any]]:
    try:
        return 200, scorer.answer(read_body(body))
    except (OSError, MemoryError) as error:
        say(in_one_line(error) or "a failure of the system")
        return 503, {"error": "the machine: expected room and files, got a failure; its log says which"}
    except Exception as error:
        line = in_one_line(error)
        if line is not None:
            return 422, {"error": line}
        say(as_report(error))
        return 500, {"error": "a fault of mmnar; its log says where"}
