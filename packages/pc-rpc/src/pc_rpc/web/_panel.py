"""The control panel: the session of each browser, and the web server of all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyon
from pyon.tcp import format_address
from pyon.web import Conversation, Door, Serving, Site, Spelling, View, serving

from pc_rpc.web._controller import Controller
from pc_rpc.web._desk import Desk, Desks

if TYPE_CHECKING:
    import ssl

__all__ = ["controlling"]

_logger = logging.getLogger("pc_rpc.web")

LONGEST_NAME = 64
"""Characters of the name of a desk."""

LONGEST_ARGUMENT = 200_000
"""Characters of all texts that are typed into one form."""


def _read(text: str) -> list[Any]:
    keys = pyon.decode(text)
    if not isinstance(keys, list):
        raise ValueError("expected a list of keys")
    return keys


def _name(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)


SPELLING = Spelling(_read, pyon.encode, _name)


@contextlib.asynccontextmanager
async def controlling(
    host: str,
    port: int,
    target: str | None = None,
    door: Door | None = None,
    *,
    ssl: ssl.SSLContext | None = None,
) -> AsyncIterator[Serving]:
    """Serve a control panel within a context: a page that calls methods of a server.

    Parameters
    ----------
    host, port
        Address of the server, which need not be running yet.
    target : str, optional
        Show this target only. By default all targets.
    door : pyon.web.Door, optional
        Where the page is served, and who may use it: always with a token. By default on this
        computer, with a new token, which the address that is yielded contains.
    ssl : ssl.SSLContext, optional
        Speak TLS with the server.

    Raises
    ------
    OSError
        The address of the page cannot be bound.
    ValueError
        Other computers could open the page without TLS.
    """
    door = door or Door()
    if door.token is None:
        door = replace(door, token=secrets.token_urlsafe(24))
    controller = Controller(host, port, target, ssl)
    desks = Desks(controller)
    place = format_address((host, port))

    async def attend(websocket: Any) -> None:
        await _Session(websocket, controller, desks, place).attend()

    async with serving(Site(Path(__file__).parent / "static", attend), door) as served:
        running = asyncio.ensure_future(controller.run())
        try:
            yield served
        finally:
            desks.cancel()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class _Session:
    """The session of one browser."""

    def __init__(self, websocket: Any, controller: Controller, desks: Desks, place: str) -> None:
        self._controller = controller
        self._desks = desks
        self._place = place
        self._desk: Desk | None = None
        self._changed = True  # the targets or their states
        self._sent_forms: dict[str, Any] = {}
        self._changed_calls: set[int] = set()
        self._view = View(lambda: self._desk.results if self._desk else {}, SPELLING)
        self._conversation = Conversation(websocket, self._view, self._handle, self._take_news)

    async def attend(self) -> None:
        self._controller.observers.add(self._note_targets)
        try:
            await self._conversation.attend()
        finally:
            self._controller.observers.discard(self._note_targets)
            if self._desk is not None and self._desk.observer == self._note_call:
                self._desk.observer = None

    def _note_targets(self) -> None:
        self._changed = True
        self._conversation.wake()

    def _note_call(self, number: int) -> None:
        self._changed_calls.add(number)
        self._view.changes.note((str(number),))
        self._conversation.wake()

    def _take_news(self) -> dict[str, Any]:
        """Return what has changed since the last frame, except rows."""
        news: dict[str, Any] = {}
        if self._changed:
            self._changed = False
            news = self._targets()
        if self._changed_calls and self._desk is not None:
            calls = self._desk.calls
            changed = [calls[number] for number in sorted(self._changed_calls) if number in calls]
            news["calls"] = [call.as_dict() for call in changed]
            self._changed_calls.clear()
        return news

    def _targets(self) -> dict[str, Any]:
        """Return the state of the server, and the forms that were not sent yet."""
        controller = self._controller
        news: dict[str, Any] = {
            "place": self._place,
            "description": controller.description,
            "trouble": controller.trouble if not controller.stations else "",
            "states": {name: one.as_dict() for name, one in controller.stations.items()},
        }
        forms = {}
        for name, station in controller.stations.items():
            if self._sent_forms.get(name) is not station.forms:
                self._sent_forms[name] = station.forms
                methods = [form.as_dict() for form in station.forms.values()]
                forms[name] = {"doc": station.doc, "methods": methods}
        return {**news, "targets": forms} if forms else news

    # Messages of the page.

    def _handle(self, message: dict[str, Any]) -> None:
        match message:
            case {"desk": str(name)} if len(name) <= LONGEST_NAME and self._desk is None:
                self._desk = self._desks.of(name)
                self._desk.observer = self._note_call
                for number in self._desk.calls:
                    self._note_call(number)
            case {
                "call": int(number),
                "target": str(target),
                "method": str(method),
                "typed": typed,
            }:
                self._begin(number, target, method, typed)
            case {"cancel": int(number)} if self._desk is not None:
                self._desk.cancel(number)
            case {"forget": int(number)} if self._desk is not None:
                self._desk.forget(number)
            case _:
                raise ValueError("expected rows, drawn, desk, call, cancel or forget")

    def _begin(self, number: int, target: str, method: str, typed: Any) -> None:
        texts = isinstance(typed, dict) and all(isinstance(text, str) for text in typed.values())
        if self._desk is None or not texts or sum(map(len, typed.values())) > LONGEST_ARGUMENT:
            raise ValueError("expected a desk, and texts for the parameters")
        _logger.info("%s of %s was submitted", method[:80], target[:80])
        self._desk.begin(number, target, method, typed)
