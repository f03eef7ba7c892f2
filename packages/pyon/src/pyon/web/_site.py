"""A site: a page, its files, and the conversation with it, protected by `Access`.

The one idea to keep in mind: every request passes `_AccessMiddleware` first, which checks host
name, origin and token, and adds the headers that make the browser run only our code. Without the
token a client gets only the static files, which contain no data.
"""

from __future__ import annotations

import json
import logging
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from pyon.terminal import legible
from pyon.web._access import Access, Refused

__all__ = ["Site", "application"]

_logger = logging.getLogger("pyon.web")

SHARED = Path(__file__).parent / "static"

MOST_PAGES = 64
"""Maximum number of open pages: each may use a CPU core while many of its values change."""

LONGEST_FORM = 4096
"""Maximum size, in bytes, of the request that sends the token."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

Attend = Callable[[WebSocket], Awaitable[None]]


@dataclass(frozen=True)
class Site:
    """A page.

    Attributes
    ----------
    folder : Path
        The folder of its files, with ``index.html``. They are served beside the shared files, under
        ``/static/``.
    attend : coroutine function
        Called with the accepted WebSocket of each opened page: see `Conversation`.
    """

    folder: Path
    attend: Attend


def application(site: Site, access: Access) -> ASGIApp:
    """Return the site as an ASGI application."""
    files = _files(SHARED) | _files(site.folder)
    pages = 0

    async def index(request: Request) -> Response:
        try:
            access.check_entered(request.cookies)
        except Refused as refused:
            return _file(files["enter.html"], ".html", refused.status)
        return _file(files["index.html"], ".html")

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return PlainTextResponse("no such file", 404)
        return _file(files[name], name)

    async def enter(request: Request) -> Response:
        try:
            access.check_token(await _form(request))
        except Refused as refused:
            return _refusal(request.scope, refused)
        response = Response(status_code=204)
        response.set_cookie(
            access.cookie,
            access.proof,
            secure=access.encrypted,
            httponly=True,
            samesite="strict",
        )
        return response

    async def live(websocket: WebSocket) -> None:
        nonlocal pages
        if pages >= MOST_PAGES:
            _logger.warning("refused a page: %s pages are open already", pages)
            await websocket.close()
            return
        pages += 1
        try:
            await websocket.accept()
            await site.attend(websocket)
        finally:
            pages -= 1

    routes = [
        Route("/", index),
        Route("/static/{name}", file),
        Route("/enter", enter, methods=["POST"]),
        Route("/entered", lambda _: JSONResponse({})),
        WebSocketRoute("/live", live),
    ]
    return _AccessMiddleware(Starlette(routes=routes), access)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _file(content: bytes, name: str, status: int = 200) -> Response:
    kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(f"x{name}")[0]
    return Response(content, status, media_type=kind or "text/plain")


def _refusal(scope: Scope, refused: Refused) -> Response:
    path = legible(scope["path"])
    _logger.warning("refused %s with status %s: %s", path, refused.status, refused)
    return PlainTextResponse(f"{refused}\n", refused.status)


async def _form(request: Request) -> Any:
    """Return the token in a request; None if there is none."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > LONGEST_FORM:
            return None
    try:
        given = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return given.get("token") if isinstance(given, dict) else None


PUBLIC_PATHS = ("/", "/enter", "/static/")
"""Paths that are answered without the token: the form for the token, and static files."""


class _AccessMiddleware:
    """Checks every request, and adds the security headers to every response."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._check(HTTPConnection(scope))
            await self._app(scope, receive, send_with_headers)
        except Refused as refused:
            response = _refusal(scope, refused)
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": ""})
            else:
                await response(scope, receive, send_with_headers)

    def _check(self, request: HTTPConnection) -> None:
        scope = request.scope
        harmless = scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}
        headers: Headers = request.headers
        self._access.check_place(headers, needs_origin=not harmless)
        path = scope["path"]
        if path not in PUBLIC_PATHS and not path.startswith(PUBLIC_PATHS[-1]):
            self._access.check_entered(request.cookies)
