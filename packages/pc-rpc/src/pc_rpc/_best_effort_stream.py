"""The iterator over a stream of `BestEffortClient`: a network error ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pc_rpc._errors import ConnectionLost
from pc_rpc._stream_iterator import ClosingIterator

if TYPE_CHECKING:
    from collections.abc import Callable

    from pc_rpc._remote_stream import RemoteStream


class BestEffortStream(ClosingIterator):
    """The items of a remote method for as long as there is a connection. See `RemoteStream`.

    Parameters
    ----------
    stream : RemoteStream or None
        The source of the items; None: there is no connection.
    lost : callable
        Called with a network error.
    """

    def __init__(
        self, stream: RemoteStream | None, lost: Callable[[BaseException], object]
    ) -> None:
        self._stream = stream
        self._lost = lost

    def __next__(self) -> Any:
        if self._stream is None:
            raise StopIteration
        try:
            return next(self._stream)
        except (ConnectionLost, TimeoutError) as error:
            self._end(error)
            raise StopIteration from error

    def close(self) -> None:
        """Close the generator at the driver. See `RemoteStream.close`."""
        if self._stream is not None:
            try:
                self._stream.close()
            except TimeoutError as error:
                self._end(error)

    def _end(self, error: BaseException) -> None:
        """Note a network error; raise the error of a method again."""
        if hasattr(error, "parent_traceback"):
            raise error  # the method itself raised it
        self._stream = None
        self._lost(error)
