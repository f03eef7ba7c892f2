"""Servers for tests: one of ours in a thread, and a peer that follows a script."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyon.tcp
import pytest
import trustme
from hypothesis import HealthCheck, settings
from pc_rpc import AsyncioClient, Client, Server

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

LONG = 30.0
"""Seconds until a wait fails, also on a slow machine."""


class ServerThread:
    """A server of ours on an event loop in a thread."""

    def __init__(self, targets: dict[str, Any], **options: Any) -> None:
        self._ssl = options.pop("ssl", None)
        self._hosts = options.pop("host", "127.0.0.1")
        self._port = options.pop("port", 0)
        self._make = lambda: Server(targets, **options)
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="server")
        self._thread.start()
        assert self._ready.wait(LONG)
        if self._error is not None:
            raise self._error

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = self._make()
        try:
            await self.server.start(self._hosts, self._port, ssl=self._ssl)
        except BaseException as error:
            self._error = error
            self._ready.set()
            return
        self.port = self.server.port
        self._ready.set()
        await self.server.wait_terminate()
        await self.server.stop()

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the server's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LONG)

    def do(self, function: Callable[[], Any]) -> Any:
        """Call a function on the server's loop and return its result."""

        async def call() -> Any:
            return function()

        return self.run(call())

    def join(self) -> None:
        """Wait until the server has ended by itself."""
        self._thread.join(LONG)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.server.terminate)
        self.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., ServerThread]]:
    """Start servers of ours: ``serve({"main": Driver()}, allow_parallel=True).port``."""
    with contextlib.ExitStack() as stack:

        def start(targets: dict[str, Any], **options: Any) -> ServerThread:
            thread = ServerThread(targets, **options)
            stack.callback(thread.stop)
            return thread

        yield start


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Make blocking clients that are closed in the end."""
    with contextlib.ExitStack() as stack:

        def make(port: int, *args: Any, **options: Any) -> Client:
            options.setdefault("timeout", LONG)
            client = Client(options.pop("host", "127.0.0.1"), port, *args, **options)
            stack.callback(client.close_rpc)
            return client

        yield make


def _write_pair(folder: Path, name: str, **options: Any) -> tuple[Path, Path]:
    """Write a certificate and its key, and return their paths."""
    certificate = trustme.CA().issue_cert("not.the.host", **options)
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.cert_chain_pems[0].write_to_path(paths[0])
    certificate.private_key_pem.write_to_path(paths[1])
    return paths


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Certificates with their keys, by name."""
    folder = tmp_path_factory.mktemp("certificates")
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return {
        "server": _write_pair(folder, "server"),
        "client": _write_pair(folder, "client"),
        "stranger": _write_pair(folder, "stranger"),
        "expired": _write_pair(
            folder, "expired", not_before=long_ago, not_after=long_ago + datetime.timedelta(1)
        ),
    }


@pytest.fixture
def contexts(pairs: dict[str, tuple[Path, Path]]) -> Callable[..., ssl.SSLContext]:
    """Make TLS contexts: ``contexts("server", "client", server=True)``: own and peer's name."""

    def make(own: str = "client", peer: str = "server", *, server: bool = False) -> ssl.SSLContext:
        factory = pyon.tcp.server_context if server else pyon.tcp.client_context
        return factory(*pairs[own], pairs[peer][0])

    return make


@contextlib.asynccontextmanager
async def _asyncio_client(port: int, *args: Any, **options: Any) -> Any:
    options.setdefault("timeout", LONG)
    async with AsyncioClient() as client:
        await client.connect_rpc("127.0.0.1", port, *args, **options)
        yield client


@pytest.fixture
def asyncio_client() -> Any:
    """``async with asyncio_client(port) as client``."""
    return _asyncio_client


class ScriptedPeer:
    """A server that runs a script for each connection, one after the other.

    The script gets a connected socket and a binary file for reading lines from it.
    """

    def __init__(self, script: Callable[[socket.socket, Any], None], connections: int = 1) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LONG)
        self.port = self._listener.getsockname()[1]
        self.error: BaseException | None = None
        self._script = script
        self._left = connections
        self._thread = threading.Thread(target=self._main, name="scripted peer")
        self._thread.start()

    def _main(self) -> None:
        try:
            while self._left:
                self._left -= 1
                sock, _ = self._listener.accept()
                with sock, sock.makefile("rb") as lines:
                    sock.settimeout(LONG)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._script(sock, lines)
        except BaseException as error:
            self.error = error
        finally:
            self._listener.close()

    def finish(self) -> None:
        self._thread.join(LONG)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


@pytest.fixture
def scripted_peer() -> Iterator[Callable[..., ScriptedPeer]]:
    """Start servers that follow a script; an error in a script is raised in the end."""
    peers: list[ScriptedPeer] = []

    def start(script: Callable[[socket.socket, Any], None], connections: int = 1) -> ScriptedPeer:
        peers.append(ScriptedPeer(script, connections))
        return peers[-1]

    yield start
    for peer in peers:
        peer.finish()


GREETING = b'{"targets":["main"],"description":null,"features":["pyon_v2"]}\n'
METHODS = b'{"__jsonclass__":["set",[["echo","other"]]]}\n'


def _greet(sock: socket.socket, lines: Any) -> None:
    assert lines.readline() == b"ARTIQ pc_rpc\n"
    sock.sendall(GREETING)
    assert lines.readline() == b"main pyon_v2\n"
    sock.sendall(METHODS)


@pytest.fixture
def greet() -> Callable[[socket.socket, Any], None]:
    """For scripts: go through the handshake as an established v2 server with a target ``main``."""
    return _greet


@pytest.fixture(params=[True, False], ids=["lean", "general"])
def either_road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have calls take the fast paths of both ends, or never: the guarantees are the same."""
    for module in ("_connection", "_asyncio_connection", "_session"):
        monkeypatch.setattr(f"pc_rpc.{module}.LEAN", request.param)


@pytest.fixture(params=["Client", "AsyncioClient"])
def either_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Make clients of both kinds that are called like blocking ones."""
    with contextlib.ExitStack() as stack:

        def make(port: int, *args: Any, **options: Any) -> Any:
            options.setdefault("timeout", LONG)
            if request.param == "Client":
                client: Any = Client("127.0.0.1", port, *args, **options)
                stack.callback(client.close_rpc)
                return client
            runner = stack.enter_context(asyncio.Runner())
            client = AsyncioClient()

            async def close() -> None:
                await client.close_rpc()

            stack.callback(lambda: runner.run(close()))
            runner.run(client.connect_rpc("127.0.0.1", port, *args, **options))
            return _Blocking(client, runner)

        yield make


class _Blocking:
    """An `AsyncioClient`, called like a blocking one."""

    def __init__(self, client: Any, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            async def run() -> Any:
                result = found(*args, **kwargs)
                return await result if hasattr(type(result), "__await__") else result

            result = self._runner.run(run())
            if hasattr(result, "__anext__"):
                return _BlockingStream(result, self._runner)
            return _Blocking(result, self._runner) if name == "with_rpc_timeout" else result

        return call


class _BlockingStream:
    """The stream of an `AsyncioClient`, iterated over like a blocking one."""

    def __init__(self, stream: Any, runner: asyncio.Runner) -> None:
        self._stream = stream
        self._runner = runner

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        async def run() -> Any:
            return await anext(self._stream)

        try:
            return self._runner.run(run())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        self._runner.run(self._stream.aclose())

    def leave(self) -> None:
        """Drop the stream, and let the loop notice that."""
        del self._stream
        self._runner.run(asyncio.sleep(0))


@pytest.fixture
def free_port():
    """A port without a listener, reserved until the test ends."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server may join it
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


# In debug mode asyncio logs slow callbacks. They depend on the load of the machine, and would be
# among the records that tests count.
logging.getLogger("asyncio").addFilter(lambda record: "took %.3f seconds" not in str(record.msg))
