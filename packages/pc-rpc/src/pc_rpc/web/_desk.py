"""The desk of one page: its calls, with their state and their results.

The one idea to keep in mind: a desk outlives the connection of its page, for a while. A page that
reconnects, after a moment without network, finds the calls that went on and their results.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pc_rpc._cli_errors import remote_traceback
from pc_rpc.web._controller import Controller, Station
from pc_rpc.web._forms import arguments

__all__ = ["Call", "Desk", "Desks"]

MOST_CALLS = 30
"""Calls that a desk keeps. Beyond that, the oldest call that has ended is dropped."""

MOST_RUNNING = 10
"""Calls of one desk that run at the same time."""

MOST_ITEMS = 10_000
"""Items of a stream that are kept: the last ones."""

MOST_DESKS = 64
"""Desks that are kept. Beyond that, the oldest desk without a page is dropped."""

LONGEST_TEXT = 20_000
"""Characters of a traceback that are shown."""


@dataclass
class Call:
    """One call: running, done, failed or cancelled."""

    number: int
    title: str
    state: str = "running"
    begun: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    error: str = ""
    traceback: str = ""
    items: int = 0  # of a stream, so far
    task: asyncio.Future[None] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the call, as it is sent to a page."""
        running = self.state == "running"
        seconds = time.monotonic() - self.begun if running else self.seconds
        sent: dict[str, Any] = {"number": self.number, "title": self.title, "state": self.state}
        sent |= {"error": self.error, "traceback": self.traceback, "items": self.items}
        return {**sent, "seconds": seconds}


class Desk:
    """The calls of one page.

    Parameters
    ----------
    controller : Controller
        Has the targets.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.calls: dict[int, Call] = {}
        self.results: dict[str, Any] = {}
        self.observer: Callable[[int], None] | None = None
        """Callback of the open page, with the number of each call that has changed."""

    def begin(self, number: int, target: str, method: str, typed: dict[str, str]) -> None:
        """Make a call. A mistake in it becomes the error of the call."""
        if number in self.calls:
            return  # the page has sent it twice
        call = self.calls[number] = Call(number, f"{method}()")
        self._forget_oldest()
        try:
            invoke = self._prepared(call, target, method, typed)
        except ValueError as error:
            self._end(call, "failed", str(error))
        else:
            call.task = asyncio.ensure_future(self._run(call, invoke))
            self._notify(number)

    def _prepared(
        self, call: Call, target: str, method: str, typed: dict[str, str]
    ) -> Callable[[], Any]:
        station: Station | None = self._controller.stations.get(target)
        if station is None:
            raise ValueError(f"there is no target {target[:80]!r}")
        client = station.client
        if client is None:
            raise ValueError(f"no connection to {target}: {station.trouble}; nothing was called")
        form = station.forms.get(method)
        if form is None:
            raise ValueError(f"there is no method {method[:80]!r} of {target}")
        if sum(one.state == "running" for one in self.calls.values()) > MOST_RUNNING:
            raise ValueError(f"{MOST_RUNNING} calls are running already")
        args, kwargs = arguments(form, typed)
        shown = [*map(_brief, args), *(f"{name}={_brief(x)}" for name, x in kwargs.items())]
        call.title = f"{method}({', '.join(shown)})"
        try:
            found = functools.reduce(getattr, method.split("."), client.__rpc__)
        except AttributeError as error:
            raise ValueError(str(error)) from error
        return functools.partial(found, *args, **kwargs)

    async def _run(self, call: Call, invoke: Callable[[], Any]) -> None:
        name = str(call.number)
        try:
            result = invoke()
            if hasattr(result, "__aiter__"):
                await self._gather(call, result)
            else:
                self.results[name] = await result
        except asyncio.CancelledError:
            self._end(call, "cancelled", "given up; the server was asked to cancel it, if it can")
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            remote = hasattr(error, "parent_traceback")
            self._end(call, "failed", text, remote_traceback(error) if remote else "")
        else:
            self._end(call, "done")

    async def _gather(self, call: Call, stream: Any) -> None:
        """Keep the items of a stream as they arrive."""
        items = self.results[str(call.number)] = []
        async with contextlib.aclosing(stream):
            async for item in stream:
                call.items += 1
                items.append(item)
                del items[:-MOST_ITEMS]
                self._notify(call.number)

    def _end(self, call: Call, state: str, error: str = "", traceback: str = "") -> None:
        call.seconds = time.monotonic() - call.begun
        call.state, call.error = state, error[:LONGEST_TEXT]
        call.traceback = traceback[-LONGEST_TEXT:]
        self._notify(call.number)

    def cancel(self, number: int) -> None:
        """Give up a call."""
        call = self.calls.get(number)
        if call is not None and call.task is not None:
            call.task.cancel()

    def forget(self, number: int) -> None:
        """Drop a call that has ended, with its result."""
        call = self.calls.get(number)
        if call is not None and call.state != "running":
            del self.calls[number]
            self.results.pop(str(number), None)

    def _forget_oldest(self) -> None:
        ended = [number for number, call in self.calls.items() if call.state != "running"]
        for number in ended[: max(0, len(self.calls) - MOST_CALLS)]:
            self.forget(number)

    def _notify(self, number: int) -> None:
        if self.observer is not None:
            self.observer(number)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


class Desks:
    """The desks of all pages, by names that the pages make.

    Parameters
    ----------
    controller : Controller
        Has the targets.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._desks: OrderedDict[str, Desk] = OrderedDict()

    def of(self, name: str) -> Desk:
        """Return the desk of a page; make one if there is none."""
        if name not in self._desks:
            self._desks[name] = Desk(self._controller)
            unused = [
                one for one, desk in self._desks.items() if desk.observer is None and one != name
            ]
            for one in unused[: max(0, len(self._desks) - MOST_DESKS)]:
                del self._desks[one]
        self._desks.move_to_end(name)
        return self._desks[name]

    def cancel(self) -> None:
        """Give up all calls."""
        for desk in self._desks.values():
            for number in [*desk.calls]:
                desk.cancel(number)
