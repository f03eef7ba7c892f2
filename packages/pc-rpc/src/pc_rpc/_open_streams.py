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
"""Maximum number of open streams of one connection: each has a generator, and may have a task. No
program reads from so many."""


class OpenStreams:
    """The open streams of one connection.

    Parameters
    ----------
    names : collection of str
        The methods of the target that give their results item by item.
    schedule : Schedule
        The schedule of the connection, which counts open streams.
    """

    __slots__ = ("_names", "_open", "_schedule")

    def __init__(self, names: Collection[str], schedule: Schedule) -> None:
        self._names = names
        self._open: dict[int | None, Stream] = {}
        self._schedule = schedule

    def read_credit(self, call: Call, request: Request) -> None:
        """Set the credit of a call, if its request has credit and its method gives items.

        Raises
        ------
        ValueError
            The credit is invalid.
        """
        if "credit" in request.content and call.name in self._names and call.number is not None:
            call.credit = credit_of(request.content)

    def start(self, stream: Stream) -> None:
        """Add a stream, and start it.

        Raises
        ------
        RuntimeError
            There are too many streams, or one with this id is open.
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
        """Remove a stream that has ended."""
        del self._open[stream.call.number]
        self._schedule.streams -= 1

    def credit(self, content: dict[str, Any]) -> None:
        """Grant the credit of a request. Credit for streams that have ended is ignored."""
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
        """Note that no more credit comes: streams without credit end."""
        for stream in list(self._open.values()):
            stream.sealed = True
            stream.resume()

    def resume(self) -> None:
        """Resume all streams that may continue."""
        for stream in list(self._open.values()):
            stream.resume()

    def fail(self, failure: Failure) -> None:
        """End the streams that need turns, with a failure."""
        for stream in list(self._open.values()):
            if not stream.call.immediate:
                stream.call.failure = failure
                stream.cancel()

    def end(self) -> None:
        """End all streams."""
        for stream in list(self._open.values()):
            stream.cancel()

    @property
    def calls(self) -> list[Call]:
        """The calls that have opened the streams."""
        return [stream.call for stream in self._open.values()]
