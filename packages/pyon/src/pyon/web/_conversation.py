"""The conversation with one page: it says what it wants and what it has drawn, and is sent frames.

The one idea to keep in mind: a frame is sent when the page has drawn the last one. So there is one
at most on its way, and a page that does not read, or is not on a screen, costs nothing.

What a page says is JSON: ``{"rows": {...}}`` (see `View.want`), ``{"drawn": true}``, or what is
handed to the site.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from pyon.web._view import View, pack

__all__ = ["Conversation"]

_logger = logging.getLogger("pyon.web")

SIGN_OF_LIFE = 5.0
"""Seconds without news after which a page is sent an empty frame: it takes 15 s of silence for the
end of the connection."""


class Conversation:
    """One page.

    Parameters
    ----------
    websocket : starlette.websockets.WebSocket
        Accepted already.
    view : View
        What it sees.
    hear : callable, optional
        Called with what it says otherwise, a dict. May raise ValueError, which ends it.
    news : callable, optional
        Returns what it is told beside rows, a dict; called once for each frame.
    """

    def __init__(
        self,
        websocket: WebSocket,
        view: View,
        hear: Callable[[dict[str, Any]], None] | None = None,
        news: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        self._websocket = websocket
        self.view = view
        self._hear = hear
        self._news = news
        self._woken = asyncio.Event()
        self._drawn = True

    def wake(self) -> None:
        """Have the next frame made: something has changed."""
        self._woken.set()

    async def attend(self) -> None:
        """Serve the page until it is closed, or has said what cannot be understood."""
        self._woken.set()  # there may be news already
        tasks = [asyncio.ensure_future(work()) for work in (self._listen, self._tell)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            try:
                task.result()
            except WebSocketDisconnect:
                pass
            except ValueError as error:
                _logger.warning("a page said what cannot be understood: %s", error)
                await self._websocket.close(1008)

    async def _listen(self) -> None:
        while True:
            try:
                message = json.loads(await self._websocket.receive_text())
            except (KeyError, RecursionError) as error:  # binary, or too many brackets
                raise ValueError("expected JSON in a message of text") from error
            if not isinstance(message, dict):
                raise ValueError("expected a JSON object")
            if "rows" in message:
                self.view.want(message["rows"])
            elif "drawn" in message:
                self._drawn = True
            elif self._hear is not None:
                self._hear(message)
            self._woken.set()

    async def _tell(self) -> None:
        news: dict[str, Any] = {}
        while True:
            lively = await self._next_turn()
            if not self._drawn:
                continue
            frame = self.view.frame()
            news |= self._news() if self._news is not None else {}
            if not (frame.rows or news or not lively):
                continue
            self._drawn = False
            await self._websocket.send_bytes(pack({"rows": frame.rows, **news}, frame.buffers))
            news = {}
            if self.view.has_more:
                self._woken.set()

    async def _next_turn(self) -> bool:
        """Wait until there may be something to tell; return whether there was, in time."""
        try:
            async with asyncio.timeout(SIGN_OF_LIFE):  # wait_for can lose a cancellation on 3.11
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True
