"""publish(): a publisher for scripts and notebooks, served by a background thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from sync_struct._channel import Counters
from sync_struct._log import DEFAULT_BACKLOG
from sync_struct._loop_thread import LoopThread
from sync_struct._notifier import Notifier
from sync_struct._publisher import Publisher

if TYPE_CHECKING:
    import ssl

__all__ = ["PublisherThread", "publish"]


class PublisherThread:
    """A `Publisher` in a background thread, as returned by `publish`. For any thread.

    Attributes
    ----------
    addresses : list of tuple
        Pairs of host and port on which it listens; empty when it is closed.
    port : int
        The TCP port that it listens on.
    """

    __slots__ = ("__weakref__", "_publisher", "_thread", "addresses")

    def __init__(self, publisher: Publisher, thread: LoopThread) -> None:
        self._publisher = publisher
        self._thread = thread
        self.addresses = publisher.addresses

    @property
    def port(self) -> int:
        """The TCP port that it listens on.

        Raises
        ------
        RuntimeError
            It is closed.
        """
        if not self.addresses:
            raise RuntimeError("the publisher is closed, so it has no port")
        return self.addresses[0][1]

    @property
    def counters(self) -> dict[str, Counters]:
        """Figures about each notifier, by name: see `Publisher.counters`."""
        return self._thread.call(lambda: self._publisher.counters)

    def add_notifier(self, name: str, notifier: Notifier) -> None:
        """Publish one more notifier: see `Publisher.add_notifier`."""
        self._thread.call(lambda: self._publisher.add_notifier(name, notifier))

    def remove_notifier(self, name: str) -> None:
        """Stop publishing a notifier: see `Publisher.remove_notifier`."""
        self._thread.call(lambda: self._publisher.remove_notifier(name))

    def close(self) -> None:
        """Send the changes made so far, disconnect subscribers and stop.

        May be called again. In the child of a fork it does nothing: the publisher belongs to the
        parent.
        """
        self._thread.stop()
        self.addresses = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self._thread.name}{'' if self.addresses else ', closed'}>"

    def __del__(self) -> None:
        thread = getattr(self, "_thread", None)
        if thread is not None and thread.alive and not thread.stopping:
            thread.stop(wait=False)
            warnings.warn(f"unclosed {thread.name}", ResourceWarning, source=self, stacklevel=2)


def publish(
    host: str | Sequence[str] | None,
    port: int,
    notifiers: Mapping[str, Notifier],
    *,
    ssl: ssl.SSLContext | None = None,
    legacy_version: Literal[1, 2] = 2,
    backlog: int = DEFAULT_BACKLOG,
    overflow: Literal["resync", "disconnect"] = "resync",
) -> PublisherThread:
    """Publish notifiers from a background thread, until the publisher is closed.

    For programs without asyncio, and for notebooks. Any thread may change the notifiers; a change
    never waits for the network.

    Parameters
    ----------
    host : str, sequence of str or None
        Address or addresses to listen on; None means all interfaces.
    port : int
        TCP port; with 0, the system chooses a free one.
    notifiers : dict of str to Notifier
        The notifiers to publish, by name.
    ssl : ssl.SSLContext, optional
        Serve TLS with this context; see `pyon.tcp.server_context`.
    legacy_version, backlog, overflow
        As for `Publisher`.

    Returns
    -------
    PublisherThread
        The publisher, which is serving. Close it, or use it in a ``with`` statement.

    Raises
    ------
    OSError
        An address cannot be bound, for example because it is in use.

    Examples
    --------
    >>> from sync_struct import Notifier, mirror, publish
    >>> lab = Notifier({"temperature": 293.0})
    >>> with publish("127.0.0.1", 0, {"lab": lab}) as publisher:
    ...     with mirror("127.0.0.1", publisher.port, "lab") as seen:
    ...         lab["temperature"] = 294.5
    ...         seen.wait(lambda d: d["temperature"] == 294.5)
    """
    _check(notifiers)
    started: concurrent.futures.Future[Publisher] = concurrent.futures.Future()
    options: dict[str, Any] = {
        "legacy_version": legacy_version,
        "backlog": backlog,
        "overflow": overflow,
    }

    async def serve() -> None:
        try:
            publisher = Publisher(notifiers, **options)
            await publisher.start(host, port, ssl=ssl)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(publisher)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await publisher.stop()

    names = ", ".join(map(repr, notifiers))
    thread = LoopThread(f"publisher of {names or 'nothing'} at {host} port {port}")
    thread.start(serve)
    try:
        return PublisherThread(started.result(), thread)
    except BaseException:
        thread.stop()
        raise


def _check(notifiers: Mapping[str, Notifier]) -> None:
    for name, notifier in notifiers.items():
        if not isinstance(notifier, Notifier):
            raise TypeError(
                f"{name!r}: expected a Notifier, got a {type(notifier).__name__}: wrap it, as in "
                f"{{{name!r}: Notifier(...)}}, and make all changes through the notifier"
            )
