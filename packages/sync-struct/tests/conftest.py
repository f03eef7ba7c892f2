"""What the tests share: waiting for facts, and a network that can be told to fail."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Self

import pytest
from pyon.asyncio_server import AsyncioServer

PATIENCE = 30.0
"""Seconds until a fact that should come true counts as never coming."""


async def until(fact: Callable[[], Any]) -> None:
    """Give the loop turns until `fact()` is true."""
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110  (any fact, not only those that have an event)
            await asyncio.sleep(0)


async def turns(number: int = 20) -> None:
    """Give the loop some turns, for connections to be noticed and to be closed."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture(name="until")
def until_fixture():
    return until


class Relay(AsyncioServer):
    """A network between a subscriber and a publisher.

    Attributes
    ----------
    held : bool
        Nothing passes from the publisher to the subscriber.
    cut_after : int or None
        The connection is cut behind so many bytes from the publisher.
    refusing : bool
        New connections are closed at once.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self.target = port
        self.held = self.refusing = False
        self.cut_after: int | None = None
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.start("127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.cut()
        await self.stop()

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _handle_connection_cr(self, near_reader: Any, near: Any) -> None:
        self._writers.add(near)
        self.connections += 1
        up = None
        try:
            if not self.refusing:
                far_reader, far = await asyncio.open_connection("127.0.0.1", self.target)
                self._writers.add(far)
                up = asyncio.ensure_future(self._up(near_reader, far))
                await self._down(far_reader, near)
        finally:
            if up is not None:
                up.cancel()
                await asyncio.wait([up])
                far.transport.abort()
            near.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.transport.abort()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            while self.held:  # noqa: ASYNC110
                await asyncio.sleep(0)
            if self.cut_after is not None:
                data, self.cut_after = data[: self.cut_after], self.cut_after - len(data)
            writer.write(data)
            await writer.drain()
            if self.cut_after is not None and self.cut_after <= 0:
                self.cut_after = None
                return


@pytest.fixture(name="Relay")
def relay_fixture():
    return Relay


# In debug mode asyncio logs which callbacks were slow. That depends on what else the computer does,
# and would be found among the records that tests count.
logging.getLogger("asyncio").addFilter(lambda record: "took %.3f seconds" not in str(record.msg))
