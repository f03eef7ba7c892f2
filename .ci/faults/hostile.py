"""Hostile servers against our clients, and sent code that resists its deadline.

Each case is one that `hostile_cases` has as data, or that takes time: a line that never ends, a
reply that drips. A client must come back within its time-out, with an error that says whose fault
it is, and be able to go on elsewhere; nothing may appear in the log that nobody foresaw.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from typing import Any

from pc_rpc import AsyncioClient, Client, RpcError
from sync_struct import Subscriber, SyncStructError, mirror

from faults import hostile_cases as data
from faults import resisting
from faults.calls import settle
from faults.known import HELD_BACK
from faults.processes import HOST, close_server, held, memory
from faults.report import Report

TIMEOUT = 1.0
GRACE = 20.0
"""Seconds beyond the time-out after which a client counts as hanging: the machine may be busy."""

LIMITS: dict[str, Any] = {"limit": 16 * 2**20, "line_limit": 2**20}
MEMORY = 300 * 2**20
"""Bytes that all cases together may cost: each is bounded by the limits of its client."""

Answer = Callable[[bytes], AsyncIterator[bytes]]


@dataclass
class Case:
    """A hostile server, or publisher.

    Attributes
    ----------
    name : str
        What it does.
    lines : list of callable or bytes
        What it says to the first line of the client, the second one, and all others.
    """

    name: str
    lines: list[bytes | Answer]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be hostile to a client, as long as it stays; end quietly when the server is closed."""
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = 0
        while line := await reader.readline():
            answer = self.lines[min(number, len(self.lines) - 1)]
            number += 1
            if isinstance(answer, bytes):
                found = re.search(rb'"id":(\d+)', line)
                writer.write(answer.replace(data.ID, found[1] if found else b"0"))
                await writer.drain()
                continue
            async for piece in answer(line):
                writer.write(piece)
                await writer.drain()


async def _drip(line: bytes) -> AsyncIterator[bytes]:
    """Say a byte a second, for ever, none of which ends the reply."""
    found = re.search(rb'"id":(\d+)', line)
    yield b'{"id":%s,"status":"ok","ret":"' % (found[1] if found else b"0")
    while True:
        await asyncio.sleep(0.2)
        yield b"x"


async def _endless(line: bytes) -> AsyncIterator[bytes]:
    """Say a line that has no end."""
    while True:
        yield b"x" * 65536


async def _replies_without_end(line: bytes) -> AsyncIterator[bytes]:
    """Reply for ever, to nobody."""
    found = re.search(rb'"id":(\d+)', line)
    number = int(found[1]) if found else 0
    while True:
        number += 1
        yield b'{"id":%d,"status":"ok","ret":"wrong"}\n' % number


async def _mods_without_end(line: bytes) -> AsyncIterator[bytes]:
    """Send mods that belong together and never end."""
    yield data.HELLO + data.INIT
    while True:
        yield b'{"action":"setitem","path":["b"],"key":"c","value":1}\n' * 1000


SLOW: dict[str, Answer] = {
    "drips": _drip,
    "never ends a line": _endless,
    "replies to nobody for ever": _replies_without_end,
}


def servers() -> list[Case]:
    """Return the servers."""
    cases = [Case(f"greets with {name}", [text]) for name, text in data.GREETINGS.items()]
    for name, text in data.METHOD_LISTS.items():
        cases.append(Case(f"lists {name}", [data.GREETING, text]))
    for name, text in data.REPLIES.items():
        cases.append(Case(f"replies {name}", [data.GREETING, data.METHODS, text]))
    for name, description in data.DESCRIPTIONS.items():
        text = data.as_line({"id": 0, "status": "ok", "ret": description})
        text = text.replace(b'"id":0', b'"id":' + data.ID)
        cases.append(Case(f"describes {name}", [data.GREETING, data.METHODS, text]))
    for name, answer in SLOW.items():
        cases.append(Case(f"{name}, replying", [data.GREETING, data.METHODS, answer]))
        cases.append(Case(f"{name}, greeting", [answer]))
    return cases


def publishers() -> list[Case]:
    """Return the publishers."""
    cases = [
        Case(f"publishes {name}", [text])
        for name, text in data.PUBLISHERS.items()
        if name not in HELD_BACK
    ]
    cases.append(Case("publishes mods without end", [_mods_without_end]))
    cases += [Case(f"publisher {name}", [answer]) for name, answer in SLOW.items()]
    return cases


# Clients.

DOCUMENTED = re.compile(r"no remote method|AutoTarget needs|beyond the limit")
"""What a built-in exception says where one is documented."""


def is_foreseen(error: BaseException) -> bool:
    """Say whether an error is one that a careful caller of our clients expects."""
    if hasattr(error, "parent_traceback"):
        return isinstance(error, Exception)
    told = isinstance(error, (AttributeError, ValueError)) and DOCUMENTED.search(str(error))
    return isinstance(error, (RpcError, SyncStructError, OSError)) or bool(told)


def use_client(port: int) -> None:
    """Do what a user of `Client` does."""
    with Client(HOST, port, timeout=TIMEOUT, **LIMITS) as client:
        _refuse(client.echo(1))
        client.get_rpc_method_list()
        str(inspect.signature(client.echo))
        str(inspect.getdoc(client.echo))
        client.ping_rpc()


def use_asyncio_client(port: int) -> None:
    """Do what a user of `AsyncioClient` does."""

    async def use() -> None:
        async with AsyncioClient() as client:
            await client.connect_rpc(HOST, port, timeout=TIMEOUT, **LIMITS)
            _refuse(await client.with_rpc_timeout(TIMEOUT).echo(1))
            await client.get_rpc_method_list()
            str(inspect.signature(client.echo))
            str(inspect.getdoc(client.echo))
            await client.ping_rpc()

    asyncio.run(use())


def use_subscriber(port: int) -> None:
    """Do what a user of `Subscriber` does."""

    async def use() -> None:
        subscriber = Subscriber("d", lambda x: x, timeout=TIMEOUT, heartbeat=TIMEOUT, **LIMITS)
        try:
            async with asyncio.timeout(TIMEOUT):
                await subscriber.connect(HOST, port)
                assert subscriber.receive_task is not None
                await asyncio.wait([subscriber.receive_task])
        finally:
            await subscriber.close()

    asyncio.run(use())


def use_mirror(port: int) -> None:
    """Do what a user of `mirror` does."""
    with mirror(HOST, port, "d", timeout=TIMEOUT, heartbeat=TIMEOUT) as seen:
        seen.wait(lambda d: d["never"], timeout=TIMEOUT)


def _refuse(result: Any) -> None:
    if result == "wrong":
        raise AssertionError("a call got the reply to another one")


def _try(
    case: Case, use: Callable[[int], None], loop: asyncio.AbstractEventLoop, report: Report
) -> None:
    """Have a client use a hostile server."""

    async def start() -> asyncio.Server:
        return await asyncio.start_server(case.serve, HOST, 0, limit=2**30)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    began = time.monotonic()
    who = use.__name__.removeprefix("use_")
    try:
        use(server.sockets[0].getsockname()[1])
    except BaseException as error:  # a client must not let through what ends a program, either
        if not is_foreseen(error):
            report.find("wrong", f"{case.name}; {who}: {type(error).__name__}: {error!s:.300}")
    seconds = time.monotonic() - began
    if seconds > 4 * TIMEOUT + GRACE:
        report.find("hung", f"{case.name}; {who}: {seconds:.1f} s")
    report.count(f"hostile servers met by {who}")
    asyncio.run_coroutine_threadsafe(close_server(server), loop).result()


RECORDS = 20
"""Log records per case, on average: what a peer does wrong is said, and not for ever."""


def _meet_all(budget: float, rng: Random, report: Report) -> None:
    """Have each client meet each server, in an order that follows from the seed."""
    meetings = [(case, use) for case in servers() for use in (use_client, use_asyncio_client)]
    meetings += [(case, use) for case in publishers() for use in (use_subscriber, use_mirror)]
    rng.shuffle(meetings)
    end = time.monotonic() + budget
    loop = asyncio.new_event_loop()
    with ThreadPoolExecutor(1, "hostile") as server, ThreadPoolExecutor(6, "clients") as pool:
        server.submit(loop.run_forever)

        def meet(meeting: tuple[Case, Callable[[int], None]]) -> bool:
            if time.monotonic() > end:
                return False
            _try(*meeting, loop, report)
            return True

        met = list(pool.map(meet, meetings))
        loop.call_soon_threadsafe(loop.stop)
    loop.run_until_complete(_cancel_all())
    loop.close()
    if not all(met):
        report.note(f"{met.count(False)} of {len(met)} cases were not tried: no time was left")


async def _cancel_all() -> None:
    for _ in range(5):  # what was accepted last is to begin: it ends in order only then
        await asyncio.sleep(0)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def run(budget: float, seed: int, report: Report) -> None:
    """Try each case once, or as many as there is time for."""
    sys.setswitchinterval(0.001)
    for name, why in HELD_BACK.items():
        report.note(f"a defect that is known, not tried: a publisher of {name}: {why}")
    before, memory_before = held(), memory()
    end, rng = time.monotonic() + budget, Random(f"hostile/{seed}")
    _meet_all(budget * 0.6, rng, report)
    settle(before, report)
    met = sum(number for what, number in report.counts("hostile servers met by "))
    written = sum(number for what, number in report.counts("log records of "))
    if written > RECORDS * met:
        report.find("wrong", f"hostile servers had {written} records written into the log")
    if (growth := memory() - memory_before) > MEMORY:
        report.find("memory", f"clients of hostile servers: {growth / 2**20:.0f} MiB more")
    resisting.try_all(end, rng, report)
