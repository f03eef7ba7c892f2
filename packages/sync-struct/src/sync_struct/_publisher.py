"""Publisher: the server that sends the changes of notifiers to their subscribers.

It maps names to notifiers. A `Channel` is responsible for one notifier and its subscribers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pyon.asyncio_connection import Connection
from pyon.asyncio_server import AsyncioServer

from sync_struct._channel import Channel, Counters
from sync_struct._errors import SubscriptionLost, UnknownNotifier
from sync_struct._log import DEFAULT_BACKLOG, Log
from sync_struct._own_loop import serving
from sync_struct._publisher_connection import PublisherConnection, Unidentified
from sync_struct._publisher_side import PublisherSide

if TYPE_CHECKING:
    import socket
    import ssl

    from sync_struct._notifier import Notifier

__all__ = ["Publisher"]


class Publisher(AsyncioServer):
    """A network server that publishes changes to structures encapsulated in a `Notifier`.

    Several publishers can serve one notifier. All methods must be called on the event loop; the
    notifiers may be changed by any thread.

    Parameters
    ----------
    notifiers : dict of str to Notifier
        The notifiers to publish, by name.
    legacy_version : {2, 1}, optional
        Generation of PYON for subscribers of the established protocol, which does not negotiate
        it. 1 serves sipyco before 1.10 and ARTIQ before 8. Our subscribers read both.
    backlog : int, optional
        Bytes of mods that are kept for subscribers that lag, per notifier.
    overflow : {"resync", "disconnect"}, optional
        Whether a subscriber that lags by more than `backlog` is sent the whole structure as soon
        as its socket accepts data again, or is disconnected.

    Examples
    --------
    >>> import asyncio
    >>> async def main():
    ...     notifier = Notifier({"temperature": 293.0})
    ...     async with Publisher({"sensors": notifier}) as publisher:
    ...         await publisher.start("127.0.0.1", 0)
    ...         subscriber = Subscriber("sensors", lambda received: received)
    ...         await subscriber.connect("127.0.0.1", publisher.port)
    ...         print(subscriber.target)
    ...         await subscriber.close()
    >>> from sync_struct import Notifier, Subscriber
    >>> asyncio.run(main())
    {'temperature': 293.0}
    """

    def __init__(
        self,
        notifiers: Mapping[str, Notifier],
        *,
        legacy_version: Literal[1, 2] = 2,
        backlog: int = DEFAULT_BACKLOG,
        overflow: Literal["resync", "disconnect"] = "resync",
    ) -> None:
        super().__init__()
        if legacy_version not in (1, 2):
            raise ValueError(f"expected 1 or 2 as legacy_version, got {legacy_version!r}")
        if overflow not in ("resync", "disconnect"):
            raise ValueError(f"expected 'resync' or 'disconnect' as overflow, got {overflow!r}")
        self._legacy_version = legacy_version
        self._backlog = backlog
        self._disconnects_slow = overflow == "disconnect"
        self._channels: dict[str, Channel] = {}
        self._unidentified = Unidentified()
        self._loop: asyncio.AbstractEventLoop | None = None
        for name, notifier in notifiers.items():
            self.add_notifier(name, notifier)

    def add_notifier(self, name: str, notifier: Notifier) -> None:
        """Publish one more notifier.

        Raises
        ------
        ValueError
            The name is in use or contains a newline, or the notifier is one of a part.
        """
        if name in self._channels:
            raise ValueError(f"a notifier {name!r} is published already: remove it first")
        if "\n" in name:
            raise ValueError(f"expected a name without a newline, got {name!r}")
        if notifier._path:
            raise ValueError("expected the notifier of a whole structure, got one of a part")
        log = Log(notifier._structure, self._backlog)
        self._channels[name] = channel = Channel(log, self._legacy_version, self._disconnects_slow)
        if self._loop is not None:
            channel.open(self._loop)

    def remove_notifier(self, name: str) -> None:
        """Stop publishing a notifier: its subscribers are sent the reason and disconnected.

        Raises
        ------
        KeyError
            There is no notifier of that name.
        """
        channel = self._channels.pop(name)
        channel.close(SubscriptionLost(f"the notifier {name!r} is not published any more"))

    def set_stale(self, name: str, stale: bool) -> None:
        """Mark a notifier as out of date, because its origin cannot be reached, or as up to date.

        Subscribers of a notifier that is out of date have the state ``"stale"``; the established
        protocol cannot express this. When the notifier is up to date again, subscribers are
        informed after the changes made so far.

        Raises
        ------
        KeyError
            There is no notifier of that name.
        """
        self._channels[name].set_stale(stale)

    @property
    def counters(self) -> dict[str, Counters]:
        """Figures about each notifier, by name."""
        return {name: channel.counters() for name, channel in self._channels.items()}

    def serves(self, loop: asyncio.AbstractEventLoop, port: int) -> bool:
        """Return whether it serves a port on an event loop. May be called by any thread."""
        return self._loop is loop and any(bound == port for _, bound in self.addresses)

    async def start(
        self,
        host: str | Sequence[str] | None,
        port: int,
        *,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        """Start serving: see `pyon.asyncio_server.AsyncioServer.start`."""
        self._begin()
        try:
            await super().start(host, port, ssl=ssl)
        except OSError:
            await self.stop()
            raise

    async def attach(self, sock: socket.socket) -> Connection:
        """Serve the client at the other end of a connected socket, and take over the socket.

        For gateways, which connect their clients themselves; `start` is not needed. The caller may
        wait until the returned connection is closed.
        """
        self._begin()
        connection = self._make_connection()
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: connection, sock)
        return connection

    def _begin(self) -> None:
        """Start to record the changes of the notifiers."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            serving.add(self)
            for channel in self._channels.values():
                channel.open(self._loop)

    async def stop(self) -> None:
        """Stop serving and disconnect subscribers. The publisher may be started again."""
        self._loop = None
        for channel in self._channels.values():
            channel.close(_stopping())
        await super().stop()

    def _make_connection(self) -> PublisherConnection:
        side = PublisherSide(lambda name: self._channel(name).log, self._legacy_version)
        return PublisherConnection(side, self._channel, self._unidentified, scratch=self._scratch)

    def _channel(self, name: str) -> Channel:
        if self._loop is None:  # the client connected between the two steps of `stop`
            raise _stopping()
        channel = self._channels.get(name)
        if channel is None:
            names = sorted(self._channels)
            known = ", ".join(map(repr, names)) or "none at all"
            raise UnknownNotifier(f"there is no notifier {name!r}; there is {known}", names)
        return channel


def _stopping() -> SubscriptionLost:
    return SubscriptionLost("the publisher stops")
