"""Reaching a publisher: where it is, which of the two protocols it knows, and reaching it again.

The one idea to keep in mind: a connection that is closed without a word may mean an established
publisher, which does that at a banner of ours, or a tunnel whose target is just starting. Only a
publisher that is known to be there can refuse.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
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

_logger = logging.getLogger(__name__)

FIRST_WAIT = 0.1
"""Seconds before the first attempt to connect again: a publisher that restarts needs about that."""

LONGEST_WAIT = 10.0
"""Seconds between attempts in the long run: nobody waits longer in front of a dashboard."""

BANNER_ATTEMPTS = 2
"""Connections that have to end without a word at our banner before the established one is tried.
Tunnels whose target is just starting do that once; a publisher of the established protocol always.
"""


class Place(NamedTuple):
    """Where a publisher is."""

    host: str
    port: int
    ssl: SSLContext | None

    @classmethod
    def of(cls, host: str, port: int | None, ssl: SSLContext | None) -> Place:
        """Return the place of a host and port, or of an address, which needs no port."""
        if port is None and not is_address(host):
            raise TypeError(f"expected a port, too: {host!r} is no address like nats://host/name")
        return cls(host, port or 0, ssl)

    def __str__(self) -> str:
        if is_address(self.host):
            return without_secrets(self.host)
        return f"{self.host} port {self.port}"

    async def connect(self, connection: SubscriberConnection) -> None:
        """Open a connection, or raise an `OSError` of the same class that names this place."""
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
    """Return an error of the same class that says where it was, and if TLS may be the reason."""
    hint = ""
    if getattr(error, "reason", None) == "WRONG_VERSION_NUMBER":
        hint = " (it does not speak TLS)"
    reason = error.strerror or str(error)
    if "Connect call failed" in reason and error.errno:  # asyncio's words, with the address again
        reason = os.strerror(error.errno)
    text = f"{place}: {reason}{hint}"
    return type(error)(text) if error.errno is None else type(error)(error.errno, text)


class Limits(NamedTuple):
    """What a subscriber bears."""

    timeout: float | None
    """Seconds until the first message."""

    size: int
    """Bytes of the largest message."""

    line_size: int
    """Bytes of its line."""


class Reaching:
    """How one subscriber reaches publishers.

    Parameters
    ----------
    subscription : Subscription
        What the connections are for.
    limits : Limits
    """

    def __init__(self, subscription: Subscription, limits: Limits) -> None:
        self._subscription = subscription
        self._limits = limits
        self._ours: set[Place] = set()  # where our own protocol has been spoken
        self._established: set[Place] = set()  # where it is not known

    async def follow(self, place: Place, longest_wait: float) -> NoReturn:
        """Connect again and again, at most `longest_wait` seconds after the last attempt."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(FIRST_WAIT, longest_wait)
        failed = False
        while True:
            began = loop.time()
            try:
                connection = await self.establish(place)
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
        """Connect, in whichever protocol, and wait for the structure."""
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
        """Connect in our protocol; return None if the publisher may not know it."""
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
        """Connect in the established protocol, and make sure that it is meant.

        The established banner is answered, so the publisher is there: if our banner is refused once
        more now, the publisher does not know it.
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
            "%s: %s knows the established protocol only: every mod comes, and after a lost "
            "connection the whole structure",
            self._subscription.request.name,
            place,
        )

    # One connection.

    async def _open(self, place: Place, legacy: bool) -> SubscriberConnection:
        """Connect, say a banner, and wait until the publisher has said something.

        In the established protocol, what it said is held.
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
                await connection.heard
        except TimeoutError:
            connection.drop()
            raise TimeoutError(f"{place}: no answer in {timeout} s") from None
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
