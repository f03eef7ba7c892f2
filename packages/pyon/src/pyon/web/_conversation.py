"""The conversation with one page: it requests rows, acknowledges frames, and receives frames.

The one idea to keep in mind: a frame is sent when the page has drawn the last one. So at most one
frame is in flight, and a page that does not read, or is not visible, costs nothing.

Messages of a page are JSON: ``{"rows": {...}}`` (see `View.want`), ``{"drawn": true}``, or a
message for the site.
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

IDLE_INTERVAL = 5.0
"""Seconds without changes after which an empty frame is sent: a page treats 15 s of silence as the
loss of the connection."""


class Conversation:
    """One page.

    Parameters
    ----------
    websocket : starlette.websockets.WebSocket
        Accepted already.
    view : View
        The view of the page.
    hear : callable, optional
        Called with each other message of the page, a dict. A ValueError ends the conversation.
    news : callable, optional
        Returns a dict of further entries for a frame; called once for each frame.
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
        """Schedule the next frame, after a change."""
        self._woken.set()

    async def attend(self) -> None:
        """Serve the page until it is closed, or has sent an invalid message."""
        self._woken.set()  # there may be changes already
        tasks = [asyncio.ensure_future(work()) for work in (self._receive, self._send_frames)]
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
                _logger.warning("invalid message from a page: %s; connection closed", error)
                await self._websocket.close(1008)

    async def _receive(self) -> None:
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

    async def _send_frames(self) -> None:
        news: dict[str, Any] = {}
        while True:
            woken = await self._wait_for_changes()
            if not self._drawn:
                continue
            frame = self.view.frame()
            news |= self._news() if self._news is not None else {}
            if woken and not (frame.rows or news):
                continue
            self._drawn = False
            await self._websocket.send_bytes(pack({"rows": frame.rows, **news}, frame.buffers))
            news = {}
            if self.view.has_more:
                self._woken.set()

    async def _wait_for_changes(self) -> bool:
        """Wait for a call of `wake`; return False after `IDLE_INTERVAL` without one."""
        try:
            async with asyncio.timeout(IDLE_INTERVAL):  # wait_for can lose a cancellation on 3.11
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True
