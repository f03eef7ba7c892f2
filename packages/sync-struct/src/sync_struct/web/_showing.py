"""The page of published structures: its server, and the connection of each browser."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyon.web import Conversation, Door, Serving, Site, Spelling, View, search, serving

from sync_struct._cli_paths import format_path, parse_path
from sync_struct.web._following import Following

if TYPE_CHECKING:
    import ssl

__all__ = ["showing"]

SPELLING = Spelling(parse_path, format_path, lambda key: format_path([key]))

LONGEST_SEARCH = 200
"""Maximum number of characters in a search."""


@contextlib.asynccontextmanager
async def showing(
    host: str,
    port: int,
    names: Iterable[str],
    door: Door | None = None,
    *,
    ssl: ssl.SSLContext | None = None,
) -> AsyncIterator[Serving]:
    """Return a context in which a page shows notifiers of a publisher.

    Parameters
    ----------
    host, port
        Host and port of the publisher, which need not be running yet. Or an address instead of the
        host, as in ``nats://host/name``, and 0.
    names : iterable of str
        Names of the notifiers.
    door : pyon.web.Door, optional
        Address of the page, and access control. By default all users of this computer have access.
    ssl : ssl.SSLContext, optional
        Use TLS with the publisher, with this context.

    Raises
    ------
    OSError
        The address of the page cannot be bound.
    ValueError
        The page would be accessible from other computers without a token and TLS.
    """
    following = Following(names)
    place = f"{host} port {port}" if port else host.rpartition("@")[2]

    async def attend(websocket: Any) -> None:
        await _Viewer(websocket, following, place).attend()

    async with serving(Site(Path(__file__).parent / "static", attend), door or Door()) as served:
        running = asyncio.ensure_future(following.run(host, port, ssl))
        try:
            yield served
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class _Viewer:
    """The connection of one browser."""

    def __init__(self, websocket: Any, following: Following, place: str) -> None:
        self._following = following
        self._header: dict[str, Any] = {"place": place, "states": self._states()}
        self._searching: asyncio.Future[None] | None = None
        self._view = View(lambda: following.structures, SPELLING)
        self._conversation = Conversation(websocket, self._view, self._receive, self._take_header)

    async def attend(self) -> None:
        self._following.observers.add(self._note_change)
        try:
            await self._conversation.attend()
        finally:
            self._following.observers.discard(self._note_change)
            self._stop_searching()

    def _note_change(self, path: tuple[Any, ...] | None) -> None:
        if path is None:
            self._header["states"] = None
        else:
            self._view.changes.note(path)
        self._conversation.wake()

    def _take_header(self) -> dict[str, Any]:
        header, self._header = self._header, {}
        if "states" in header:
            header["states"] = self._states()
        return header

    def _states(self) -> dict[str, Any]:
        now = time.monotonic()
        return {
            name: {
                "id": format_path([name]),
                "state": status.state,
                "age": now - status.since,
                "trouble": status.trouble,
            }
            for name, status in self._following.statuses.items()
        }

    def _receive(self, message: dict[str, Any]) -> None:
        text = message.get("search")
        if not isinstance(text, str):
            raise ValueError("expected rows, drawn or search")
        self._stop_searching()
        self._searching = asyncio.ensure_future(self._search(text[:LONGEST_SEARCH]))

    def _stop_searching(self) -> None:
        if self._searching is not None:
            self._searching.cancel()

    async def _search(self, text: str) -> None:
        found = await search(self._following.structures, text, self._view.spell)
        paths = [self._view.spell(path) for path in found.paths]
        self._header["found"] = {"text": text, "paths": paths, "note": found.note}
        self._conversation.wake()
