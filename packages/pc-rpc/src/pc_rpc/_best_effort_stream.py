"""The iterator of a `BestEffortClient`: no network error gets through, it is the end."""

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
        Where they come from; None: there is no connection.
    lost : callable
        Told of a network error.
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
            self._forgive(error)
            raise StopIteration from error

    def close(self) -> None:
        """Close the generator at the driver. See `RemoteStream.close`."""
        if self._stream is not None:
            try:
                self._stream.close()
            except TimeoutError as error:
                self._forgive(error)

    def _forgive(self, error: BaseException) -> None:
        if hasattr(error, "parent_traceback"):
            raise error  # the method itself raised it
        self._stream = None
        self._lost(error)
