"""The open streams of one connection of a server: found by id, granted credit, ended together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pc_rpc._protocol import Request, credit_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from pc_rpc._failures import Failure
    from pc_rpc._schedule import Call, Schedule
    from pc_rpc._stream import Stream

MOST_STREAMS = 1000
"""Streams of one connection that are open at the same time: each keeps a generator, perhaps a task.
No program reads from as many."""


class OpenStreams:
    """The open streams of one connection.

    Parameters
    ----------
    names : collection of str
        The methods of the target that give their results item by item.
    schedule : Schedule
        Counts them.
    """

    __slots__ = ("_names", "_open", "_schedule")

    def __init__(self, names: Collection[str], schedule: Schedule) -> None:
        self._names = names
        self._open: dict[int | None, Stream] = {}
        self._schedule = schedule

    def look_for_credit(self, call: Call, request: Request) -> None:
        """Note that a call asks for items, if it does, and the method has some.

        Raises
        ------
        ValueError
            The credit is of no sense.
        """
        if "credit" in request.content and call.name in self._names and call.number is not None:
            call.credit = credit_of(request.content)

    def start(self, stream: Stream) -> None:
        """Take in a stream, and start it.

        Raises
        ------
        RuntimeError
            There are too many, or there is one with this id.
        """
        if stream.call.number in self._open:
            raise RuntimeError(f"a stream with the id {stream.call.number} is open already")
        if len(self._open) >= MOST_STREAMS:
            raise RuntimeError(f"more than {MOST_STREAMS} streams are open on this connection")
        self._open[stream.call.number] = stream
        self._schedule.streams += 1
        stream.schedule = self._schedule
        stream.sealed = self._schedule.half_closed
        stream.start()

    def ended(self, stream: Stream) -> None:
        """Forget a stream."""
        del self._open[stream.call.number]
        self._schedule.streams -= 1

    def credit(self, content: dict[str, Any]) -> None:
        """Do what a request for more items says. Streams that are over are ignored."""
        number = content.get("request")
        stream = self._open.get(number) if type(number) is int else None
        if stream is not None:
            stream.credit(*credit_of(content))

    def cancel(self, number: object) -> None:
        """End a stream, by its id. Other ids are ignored."""
        stream = self._open.get(number) if type(number) is int else None
        if stream is not None:
            stream.cancel()

    def seal(self) -> None:
        """Note that no more credit comes: what has used up its own ends."""
        for stream in list(self._open.values()):
            stream.sealed = True
            stream.go()

    def go_on(self) -> None:
        """Have all of them look whether they may go on."""
        for stream in list(self._open.values()):
            stream.go()

    def fail(self, failure: Failure) -> None:
        """End those that wait for turns, and have their readers told why."""
        for stream in list(self._open.values()):
            if not stream.call.immediate:
                stream.call.failure = failure
                stream.cancel()

    def end(self) -> None:
        """End all of them."""
        for stream in list(self._open.values()):
            stream.cancel()

    @property
    def calls(self) -> list[Call]:
        """The calls that have opened them."""
        return [stream.call for stream in self._open.values()]
