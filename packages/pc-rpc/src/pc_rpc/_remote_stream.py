"""The iterator over the items of a stream, for blocking clients.

The one idea to keep in mind: it behaves like the remote generator. The method is called when the
first item is requested, the driver runs ahead by the credit of `StreamCall` at most, and leaving
the loop in any way closes the generator at the driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pc_rpc._client_streams import next_items, result_of, too_late
from pc_rpc._errors import ConnectionLost
from pc_rpc._stream_iterator import ClosingIterator, StreamState

if TYPE_CHECKING:
    from pc_rpc._connection import BlockingConnection


class RemoteStream(StreamState["BlockingConnection"], ClosingIterator):
    """The items of a remote method, one after the other. Use it in a `for` loop.

    Close it, or use it as a context manager, if the loop may be left while something else still
    refers to it. When `close` returns, the generator at the driver has been closed. For one thread
    at a time. The parameters are those of `StreamState`.
    """

    __slots__ = ()

    def __next__(self) -> Any:
        if self._items:
            return self._items.pop()
        return self._advance()

    def _advance(self) -> Any:
        """Take the items of the next message, and return the first one."""
        connection = self._connection
        if connection is None:
            raise StopIteration
        if self._used:
            raise ValueError("the stream is being read already")
        self._used = True
        try:
            while not self._items:
                self._receive(connection)
            return self._items.pop()
        except TimeoutError as error:
            self._leave()
            if hasattr(error, "parent_traceback"):
                raise  # the method itself raised it
            raise too_late(connection.side, self._call, self._timeout) from None
        except BaseException:
            self._leave()
            raise
        finally:
            self._used = False

    def _receive(self, connection: BlockingConnection) -> None:
        call, side = self._call, connection.side
        more = call.credit()
        if more or call.reply is None:
            connection.exchange_part(call, self._chunks, more, self._timeout)
            self._chunks = ()
        items = next_items(side, call)
        if items is None:
            self._connection = None
            raise StopIteration(result_of(side, call))
        items.reverse()
        self._items = items

    def close(self) -> None:
        """Close the generator at the driver, and wait for that. Does nothing at the end.

        Raises
        ------
        TimeoutError
            It was not closed in time; the server has been asked to.
        Exception
            What the generator raised when it was closed.
        """
        connection, self._connection = self._connection, None
        self._items = []
        if connection is not None:
            try:
                connection.finish(self._call, self._timeout)
            except ConnectionLost:
                pass  # the server closes the generator then

    def __del__(self) -> None:
        self._leave()
