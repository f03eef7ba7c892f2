"""Mutated sessions of all generations, against servers and against clients.

Servers and clients are in this process, so that their unexpected errors are found. The session of a
finding is kept in ``.nox/faults-report/found``. Once it is fixed, it is moved to ``corpus``, whose
sessions are tried first.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from pc_rpc import AsyncioClient, Server
from sync_struct import Notifier, Publisher, Subscriber

from faults.hostile import LIMITS, is_documented
from faults.processes import HOST, close_server, environment, memory
from faults.report import Report
from faults.sessions import Messages, mutate, record_calls, record_structure, recorded

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(".nox/faults-report/found")
TOGETHER = 16
TIMEOUT = 0.3
SILENCE = 0.1
"""Seconds of silence after which the other end counts as finished."""

GRACE = 30.0
"""Seconds beyond which a session hangs: the machine may be busy."""

MEMORY = 200 * 2**20


class Driver:
    """A driver with the methods that the recorded sessions call."""

    def echo(self, *values: Any) -> Any:
        """Return the argument."""
        return values[0] if len(values) == 1 else values

    async def async_echo(self, value: Any) -> Any:
        """Return the argument."""
        return value

    def fail(self, *_: Any) -> None:
        """Raise an error."""
        raise ValueError("boom")

    async def rest(self, *_: Any) -> None:
        """Wait for a while."""
        await asyncio.sleep(0.01)


class Bench:
    """Servers to attack, and the sessions to mutate."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.said: dict[str, list[Messages]] = {}

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Run a server and a publisher, and load all sessions."""
        notifier = Notifier({"list": [1, 2], "array": np.zeros(2000), "grows": np.zeros(0)})
        targets = {"main": Driver(), "alpha": Driver(), "beta": Driver}
        server = Server(targets, limit=2**24, line_limit=2**20)
        publisher = Publisher({"d": notifier})
        async with server, publisher:
            await server.start(HOST, 0)
            await publisher.start(HOST, 0)
            self.ports = {"server": server.port, "publisher": publisher.port}
            calls, structures = recorded()
            calls.append(await record_calls(server.port, "main"))
            structures.append(await record_structure(publisher.port, notifier))
            self.said = {
                "server": [session[0] for session in calls],
                "client": [session[1] for session in calls],
                "publisher": [session[0] for session in structures],
                "subscriber": [session[1] for session in structures],
            }
            yield

    async def attack(self, against: str, messages: Messages) -> None:
        """Send the messages of one end to the other."""
        before = self.report.number_of_findings
        began = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT + GRACE):
                await ATTACKS[against](self, messages)
        except OSError:  # includes the client's own TimeoutError
            if (seconds := time.monotonic() - began) > TIMEOUT + GRACE:
                self.report.find("hung", f"{against}: {seconds:.1f} s")
        except Exception as error:
            if not is_documented(error):
                self.report.find("wrong", f"{against}: {type(error).__name__}: {error!s:.500}")
        self.report.count(f"sessions against a {against}")
        if self.report.number_of_findings > before:
            self.keep(against, messages)

    def keep(self, against: str, messages: Messages) -> None:
        """Write the session of a finding to a file."""
        text = json.dumps(
            {"against": against, "messages": [one.decode("latin-1") for one in messages]}, indent=1
        )
        FOUND.mkdir(parents=True, exist_ok=True)
        name = f"{against}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        (FOUND / name).write_text(text + "\n", encoding="utf-8")

    async def check_servers(self) -> None:
        """Check that both servers still serve well-behaved clients."""
        async with asyncio.timeout(GRACE), AsyncioClient() as client:
            await client.connect_rpc(HOST, self.ports["server"], "main", timeout=GRACE)
            if await client.echo([1, "x"]) != [1, "x"]:
                self.report.find("wrong", "a well-behaved client got something else")
        subscriber = Subscriber("d", lambda x: x, timeout=GRACE)
        await subscriber.connect(HOST, self.ports["publisher"])
        await subscriber.close()


async def _against_listener(port: int, messages: Messages) -> None:
    """Send all messages, and read until the other end is silent."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.writelines(messages)
        if writer.can_write_eof():
            writer.write_eof()
        while await asyncio.wait_for(reader.read(2**16), SILENCE):
            pass
    except TimeoutError:
        pass  # a subscription goes on
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def _saying(messages: Messages) -> AsyncIterator[int]:
    """Run a server that answers the first lines with a message each, then sends the rest."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.CancelledError):
            for n, message in enumerate(messages):
                if n < 4:
                    await reader.readline()
                if not writer.is_closing():
                    writer.write(message)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        await close_server(server)


async def _against_client(bench: Bench, messages: Messages) -> None:
    async with _saying(messages) as port, AsyncioClient() as client:
        await client.connect_rpc(HOST, port, "main", timeout=TIMEOUT, **LIMITS)
        await client.echo(5)
        await client.get_rpc_method_list()
        str(client.echo.__doc__)
        await client.echo(b"x" * 5000)


async def _against_subscriber(bench: Bench, messages: Messages) -> None:
    async with _saying(messages) as port:
        subscriber = Subscriber("d", lambda x: x, timeout=TIMEOUT, heartbeat=TIMEOUT, **LIMITS)
        try:
            await subscriber.connect(HOST, port)
            assert subscriber.receive_task is not None
            await asyncio.wait([subscriber.receive_task], timeout=TIMEOUT)
        finally:
            await subscriber.close()


ATTACKS: dict[str, Callable[[Bench, Messages], Coroutine[Any, Any, None]]] = {
    "server": lambda bench, messages: _against_listener(bench.ports["server"], messages),
    "publisher": lambda bench, messages: _against_listener(bench.ports["publisher"], messages),
    "client": _against_client,
    "subscriber": _against_subscriber,
}


def kept(folder: Path = CORPUS) -> list[tuple[str, Messages]]:
    """Return the sessions of the corpus."""
    sessions = []
    for path in sorted(folder.glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        messages = [text.encode("latin-1") for text in data["messages"]]
        sessions.append((data["against"], messages))
    return sessions


async def _fuzz(budget: float, report: Report) -> None:
    end = time.monotonic() + budget
    bench, batch = Bench(report), 0
    async with bench.serving():
        for against, sessions in bench.said.items():  # unchanged: no finding is expected
            for messages in sessions:
                await bench.attack(against, messages)
        for against, messages in kept():
            await bench.attack(against, messages)
        await bench.check_servers()
        while time.monotonic() < end and not report.failed:
            batch += 1
            rng = Random(f"wire/{report.seed}/{batch}")
            attacks = []
            for _ in range(TOGETHER):
                against = rng.choice(list(bench.said))
                others = bench.said[against]
                attacks.append(bench.attack(against, mutate(rng.choice(others), others, rng)))
            await asyncio.gather(*attacks)
            if batch % 20 == 0:
                await bench.check_servers()
        await bench.check_servers()


def _guided(budget: float, report: Report) -> None:
    """Run atheris, if it is installed, to find inputs that increase coverage."""
    done = subprocess.run(
        [sys.executable, "-m", "faults.guided", str(budget), str(report.seed)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    for number in re.findall(r"stat::number_of_executed_units: *(\d+)", done.stderr):
        report.count("sessions guided by coverage", int(number))
    if done.returncode == 3:
        report.note("atheris is not installed: no sessions guided by coverage")
    elif done.returncode != 0:
        report.find("wrong", f"guided by coverage: {(done.stdout + done.stderr)[-2500:]}")


def run(budget: float, seed: int, report: Report) -> None:
    """Mutate sessions at random, then guided by coverage, for as long as the budget lasts."""
    before = memory()
    guided = budget / 3 if budget > 30 else 0.0
    asyncio.run(_fuzz(budget - guided, report))
    if memory() - before > MEMORY:
        report.find("memory", f"{before} before, {memory()} now")
    if guided:
        _guided(guided, report)
    else:
        report.note(
            "no sessions guided by coverage: this needs a budget of more than 30 s for this page"
        )
