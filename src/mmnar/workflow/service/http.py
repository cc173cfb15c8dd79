"""Token, limits and status codes. What goes wrong is one line, and nothing of a request is logged."""

from __future__ import annotations

import asyncio
import hmac
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from mmnar.errors import ConfigError, SchemaError, SourceError
from mmnar.faults import as_report, in_one_line
from mmnar.progress import hush, warn
from mmnar.workflow.service.answers import Answer, Scorer
from mmnar.workflow.service.audit import AuditLog
from mmnar.workflow.service.fields import HEADERS, PAGE, fields, page
from mmnar.workflow.service.forms import FORMS, Form
from mmnar.workflow.service.requests import read_body


@dataclass(frozen=True)
class Limits:
    """
    Args:
        body: Bytes of a request.
        seconds: For sending the body, and again for its answer, waiting for others included.

    Raises:
        ConfigError: One is not positive.
    """

    body: int = 4_000_000
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.body < 1 or not 0 < self.seconds < math.inf:
            raise ConfigError("limits", "positive numbers of bytes and seconds", "another", "correct them")


def application(scorer: Scorer, token: str, log: AuditLog, limits: Limits) -> FastAPI:
    """``GET /health``, and ``POST`` to the paths of ``FORMS``: 401 without the token, 4xx with one line for what cannot
    be answered."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    service = _Service(scorer, token, log, limits)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return _json(error.status_code, {"error": str(error.detail)})

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ready"}

    for address, (name, kind) in PAGE.items():
        app.get(f"/{address}", response_model=None)(partial(_page, page(name), kind))
    app.get("/recipe")(service.recipe)
    for path, form in FORMS.items():
        app.post(path)(service.in_form(form))
    return app


class _Service:
    """What is asked of one run, checked, answered and logged."""

    def __init__(self, scorer: Scorer, token: str, log: AuditLog, limits: Limits) -> None:
        self._scorer, self._token, self._log, self._limits = scorer, token, log, limits
        # one at a time: memory and threads are those of one prediction; who waits too long is never begun
        self._worker = ThreadPoolExecutor(1)

    async def recipe(self, request: Request) -> JSONResponse:
        """What the page asks for, filled by the run's recipe."""
        async with self._refusals_logged():
            _check_token(request, self._token)
        loaded = self._scorer.loaded
        return _json(200, fields(loaded.recipe, loaded.run.folder.name))

    def in_form(self, form: Form) -> Callable[[Request], Awaitable[JSONResponse]]:
        """Risks, as a form of answer writes them."""

        async def predict(request: Request) -> JSONResponse:
            async with self._refusals_logged():
                _check_token(request, self._token)
                body = await _body(request, self._limits)
            status, found = await self._answered(body, form)
            if isinstance(found, str):
                await self._logged(status, body)
                return _json(status, {"error": found})
            answer, content = found
            await self._logged(status, body, answer)
            return _json(status, content, form.media_type)

        return predict

    @asynccontextmanager
    async def _refusals_logged(self) -> AsyncIterator[None]:
        try:
            yield
        except HTTPException as error:
            await self._logged(error.status_code)
            raise

    async def _answered(self, body: bytes, form: Form) -> tuple[int, tuple[Answer, dict[str, Any]] | str]:
        try:
            work = asyncio.get_running_loop().run_in_executor(self._worker, _answer, self._scorer, body, form)
            return await asyncio.wait_for(work, self._limits.seconds)
        except TimeoutError:
            return 503, f"time: expected an answer in {self._limits.seconds:g} s, got none; ask again"

    async def _logged(self, status: int, body: bytes | None = None, answer: Answer | None = None) -> None:
        try:
            await asyncio.to_thread(self._log.write, status, body, answer)
        except OSError as error:
            warn(in_one_line(error) or "the audit log cannot be written")
            raise HTTPException(503, "audit log: expected a line, got a failed write; no answer is given") from None


async def _page(text: str, kind: str) -> Response:
    return Response(text, media_type=kind, headers=HEADERS)


def _json(status: int, content: dict[str, Any], media_type: str = "application/json") -> JSONResponse:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return JSONResponse(content, status, headers, media_type)


def _check_token(request: Request, token: str) -> None:
    """
    Raises:
        HTTPException: 401.
    """
    given = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise HTTPException(401, "token: expected 'Authorization: Bearer TOKEN', got none or another; correct it")


async def _body(request: Request, limits: Limits) -> bytes:
    """
    Raises:
        HTTPException: 413 or 408.
    """

    async def whole() -> bytes:
        read, size = bytearray(), 0
        async for part in request.stream():
            size += len(part)
            if size <= limits.body:
                read += part
            else:  # read on and forget: a client that still sends does not hear an answer
                read.clear()
        if size > limits.body:
            raise HTTPException(413, f"body: expected {limits.body} bytes or less, got more; ask about fewer patients")
        return bytes(read)

    try:
        return await asyncio.wait_for(whole(), limits.seconds)
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, f"body: expected within {limits.seconds:g} s, got a part; send it again") from None


def _answer(scorer: Scorer, body: bytes, form: Form) -> tuple[int, tuple[Answer, dict[str, Any]] | str]:
    try:
        answer = scorer.answer(read_body(body))
        return 200, (answer, form.make(answer.content))
    except (SourceError, SchemaError) as error:
        return 422, str(error)
    except (OSError, MemoryError) as error:
        warn(in_one_line(error) or "a failure of the system")
        return 503, "the machine: expected room and files, got a failure; its log says which"
    except Exception as error:
        warn(as_report(error))
        return 500, "a fault of mmnar; its log says where"


def listen(app: FastAPI, host: str, port: int) -> None:
    """Until it is interrupted.

    Args:
        port: 0: any that is free.

    Raises:
        OSError: The address is taken, or not this machine's.
    """
    import uvicorn

    with bound(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        print(f"listening at http://{shown}:{listening.getsockname()[1]}", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, **SERVER))
        hush()
        server.run(sockets=[listening])


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: See ``listen``.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # without its protocol the event loop would not switch off Nagle's algorithm: 40 ms more for each answer
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


SERVER: Final[dict[str, Any]] = {
    "log_config": None,
    "log_level": "critical",
    "access_log": False,
    "server_header": False,
    "ws": "none",
    "lifespan": "off",
}
"""Of uvicorn, whose own lines would name what was asked."""
