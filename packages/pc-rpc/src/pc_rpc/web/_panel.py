"""The control panel: each browser at it, and the server of all of them."""

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
"""Characters of what a page calls its desk."""

LONGEST_ARGUMENT = 200_000
"""Characters of all that is typed into one form."""


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
    """Return a context in which a page calls methods of a server, when somebody submits a form.

    Parameters
    ----------
    host, port
        Of the server, which need not be there yet.
    target : str, optional
        The only target to show. By default all are.
    door : pyon.web.Door, optional
        Where the page is served, and who may use it: always with a token. By default on this
        computer, with a token made anew, which the address that is yielded has.
    ssl : ssl.SSLContext, optional
        Speak TLS with the server.

    Raises
    ------
    OSError
        The address of the page cannot be bound.
    ValueError
        Other machines could enter without TLS.
    """
    door = door or Door()
    if door.token is None:
        door = replace(door, token=secrets.token_urlsafe(24))
    controller = Controller(host, port, target, ssl)
    desks = Desks(controller)
    place = format_address((host, port))

    async def attend(websocket: Any) -> None:
        await _Operator(websocket, controller, desks, place).attend()

    async with serving(Site(Path(__file__).parent / "static", attend), door) as served:
        running = asyncio.ensure_future(controller.run())
        try:
            yield served
        finally:
            desks.cancel()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class _Operator:
    """One browser."""

    def __init__(self, websocket: Any, controller: Controller, desks: Desks, place: str) -> None:
        self._controller = controller
        self._desks = desks
        self._place = place
        self._desk: Desk | None = None
        self._changed = True  # the targets or their states
        self._forms_told: dict[str, Any] = {}
        self._calls_due: set[int] = set()
        self._view = View(lambda: self._desk.results if self._desk else {}, SPELLING)
        self._conversation = Conversation(websocket, self._view, self._hear, self._take_news)

    async def attend(self) -> None:
        self._controller.lookers.add(self._look)
        try:
            await self._conversation.attend()
        finally:
            self._controller.lookers.discard(self._look)
            if self._desk is not None and self._desk.look == self._look_at_call:
                self._desk.look = None

    def _look(self) -> None:
        self._changed = True
        self._conversation.wake()

    def _look_at_call(self, number: int) -> None:
        self._calls_due.add(number)
        self._view.changes.note((str(number),))
        self._conversation.wake()

    def _take_news(self) -> dict[str, Any]:
        news: dict[str, Any] = {}
        if self._changed:
            self._changed = False
            news = self._targets()
        if self._calls_due and self._desk is not None:
            calls = self._desk.calls
            news["calls"] = [calls[one].told() for one in sorted(self._calls_due) if one in calls]
            self._calls_due.clear()
        return news

    def _targets(self) -> dict[str, Any]:
        """Return what a page is told of the server, and the forms that are not as it knows them."""
        controller = self._controller
        news: dict[str, Any] = {
            "place": self._place,
            "description": controller.description,
            "trouble": controller.trouble if not controller.stations else "",
            "states": {name: one.told() for name, one in controller.stations.items()},
        }
        forms = {}
        for name, station in controller.stations.items():
            if self._forms_told.get(name) is not station.forms:
                self._forms_told[name] = station.forms
                methods = [form.told() for form in station.forms.values()]
                forms[name] = {"doc": station.doc, "methods": methods}
        return {**news, "targets": forms} if forms else news

    # What the page says.

    def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"desk": str(name)} if len(name) <= LONGEST_NAME and self._desk is None:
                self._desk = self._desks.of(name)
                self._desk.look = self._look_at_call
                for number in self._desk.calls:
                    self._look_at_call(number)
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
