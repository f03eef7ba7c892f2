"""Connecting to a publisher: its address, which of the two protocols it speaks, and reconnecting.

The one idea to keep in mind: a connection that is closed without a message may be that of an
established publisher, which rejects our banner in this way, or of a tunnel whose target is still
starting. It counts as a rejection only if the publisher is known to be running.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import socket
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from pyon.backoff import Backoff

from sync_struct._addresses import connect_through, is_address, without_secrets
from sync_struct._lean_steps import take_lines
from sync_struct._protocol import LEGACY_BANNER, write_banner
from sync_struct._subscriber_connection import Refused, SubscriberConnection

if TYPE_CHECKING:
    from ssl import SSLContext

    from sync_struct._subscription import Subscription

__all__ = ["LONGEST_WAIT", "Limits", "Place", "Reaching"]

_logger = logging.getLogger("sync_struct")

FIRST_WAIT = 0.1
"""Seconds before the first attempt to reconnect: a restart of a publisher takes about that long."""

LONGEST_WAIT = 10.0
"""Longest wait between attempts, in seconds: nobody waits longer in front of a dashboard."""

BANNER_ATTEMPTS = 2
"""Connections that have to be closed after our banner before the established banner is tried. A
tunnel whose target is still starting closes one; an established publisher closes all."""

ERRNO = re.compile(r"\[Errno (\d+)\]")


class Place(NamedTuple):
    """Host, port and TLS context of a publisher, or an address."""

    host: str
    port: int
    ssl: SSLContext | None

    @classmethod
    def of(cls, host: str, port: int | None, ssl: SSLContext | None) -> Place:
        """Return the place of a host and port, or of an address, which needs no port."""
        if port is None and not is_address(host):
            raise TypeError(f"expected a port: {host!r} is not an address like nats://host/name")
        return cls(host, port or 0, ssl)

    def __str__(self) -> str:
        if is_address(self.host):
            return without_secrets(self.host)
        return f"{self.host} port {self.port}"

    async def connect(self, connection: SubscriberConnection) -> None:
        """Open a connection; an `OSError` is raised with this place in its message."""
        if is_address(self.host):
            await connect_through(self.host, self.ssl, connection)
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: connection, self.host, self.port, ssl=self.ssl)
        except TimeoutError:
            raise
        except OSError as error:
            raise _named(error, self) from error


def _named(error: OSError, place: Place) -> OSError:
    """Return an error of the same class with the place, and a hint if TLS may be the cause."""
    hint = ""
    if getattr(error, "reason", None) == "WRONG_VERSION_NUMBER":
        hint = " (it does not speak TLS)"
    numbers = {int(number) for number in ERRNO.findall(str(error))}
    if error.errno is None and len(numbers) == 1:  # each address of a name failed, in the same way
        error = OSError(numbers.pop(), "Connect call failed")
    reason = error.strerror or str(error)
    if "Connect call failed" in reason and error.errno:  # asyncio's text repeats the address
        reason = os.strerror(error.errno)
    if isinstance(error, ConnectionRefusedError):
        hint = "; is the publisher running?"
    elif isinstance(error, socket.gaierror):
        hint = "; is the name right?"
    text = f"{place}: {reason}{hint}"
    return type(error)(text) if error.errno is None else type(error)(error.errno, text)


class Limits(NamedTuple):
    """Limits of a subscriber."""

    timeout: float | None
    """Seconds until the first message."""

    size: int
    """Bytes of the largest message."""

    line_size: int
    """Bytes of the largest line."""


class Reaching:
    """Connects one subscriber to publishers.

    Parameters
    ----------
    subscription : Subscription
        Handles the messages of the connections.
    limits : Limits
    """

    def __init__(self, subscription: Subscription, limits: Limits) -> None:
        self._subscription = subscription
        self._limits = limits
        self._ours: set[Place] = set()  # where our own protocol has been spoken
        self._established: set[Place] = set()  # where only the established protocol is supported

    async def follow(self, place: Place, longest_wait: float) -> NoReturn:
        """Connect repeatedly, with at most `longest_wait` seconds between attempts."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(FIRST_WAIT, longest_wait)
        failed = False
        while True:
            began = loop.time()
            try:
                connection = await self.establish(place)
            except ImportError:  # an extra is missing: trying again does not install it
                raise
            except Exception as error:
                level = logging.DEBUG if failed else logging.WARNING
                _logger.log(level, "%s: %r; trying again", place, error)
                failed = True
                self._subscription.callbacks.report(error)
            else:
                failed = False
                await connection.over
                if loop.time() - began > LONGEST_WAIT:
                    backoff.reset()
            await asyncio.sleep(backoff.next())

    async def establish(self, place: Place) -> SubscriberConnection:
        """Connect in either protocol, and wait for the structure."""
        connection, legacy = await self._reach(place)
        if legacy:
            self._subscription.connection = connection
            self._subscription.replica.connected(legacy=True)
            connection.release()
        await connection.ready
        return connection

    # Which protocol.

    async def _reach(self, place: Place) -> tuple[SubscriberConnection, bool]:
        """Return a connection, and whether it speaks the established protocol."""
        ours = await self._try_ours(place)
        if ours is not None:
            self._ours.add(place)
            return ours, False
        return await self._try_established(place)

    async def _try_ours(self, place: Place) -> SubscriberConnection | None:
        """Connect in our protocol; return None if the publisher may not support it."""
        refusals: list[Refused] = []
        for attempt in range(BANNER_ATTEMPTS):
            if attempt:
                await asyncio.sleep(FIRST_WAIT)
            try:
                return await self._open(place, False)
            except Refused as refused:
                refusals.append(refused)
        if (
            place in self._ours
            or is_address(place.host)
            or not all(refused.cleanly for refused in refusals)
        ):
            raise refusals[-1]
        return None

    async def _try_established(self, place: Place) -> tuple[SubscriberConnection, bool]:
        """Connect in the established protocol, and verify that ours is not supported.

        If the established banner is answered, the publisher is running. If it then rejects our
        banner once more, it does not support our protocol.
        """
        established = await self._open(place, True)
        keep = False
        try:
            ours = await self._open(place, False)
            self._ours.add(place)
            return ours, False
        except Refused as refused:
            keep = refused.cleanly
            if not keep:
                raise
        finally:
            if not keep:
                established.drop()
        self._warn(place)
        return established, True

    def _warn(self, place: Place) -> None:
        level = logging.INFO if place in self._established else logging.WARNING
        self._established.add(place)
        _logger.log(
            level,
            "%s: %s supports only the established protocol: it sends every mod, and after a lost "
            "connection the whole structure",
            self._subscription.request.name,
            place,
        )

    # One connection.

    async def _open(self, place: Place, legacy: bool) -> SubscriberConnection:
        """Connect, send a banner, and wait for the publisher's first message.

        In the established protocol, its messages are held.
        """
        connection = self._make(place, legacy)
        if legacy:
            connection.hold()
        else:
            self._subscription.connection = connection
            self._subscription.replica.connected(legacy=False)
        timeout = self._limits.timeout
        try:
            async with asyncio.timeout(timeout):
                await place.connect(connection)
                await connection.answered
        except TimeoutError:
            connection.drop()
            raise TimeoutError(f"{place}: no reply within {timeout} s") from None
        except BaseException:
            connection.drop()
            raise
        return connection

    def _make(self, place: Place, legacy: bool) -> SubscriberConnection:
        subscription = self._subscription
        request = subscription.request
        if legacy:
            opening = [LEGACY_BANNER, request.name.encode()]
        else:
            opening = [write_banner(request._replace(position=subscription.replica.position))]
        return SubscriberConnection(
            subscription.receive,
            functools.partial(take_lines, subscription),
            subscription.lose,
            request.name,
            str(place),
            opening,
            limit=self._limits.size,
            line_limit=self._limits.line_size,
        )
