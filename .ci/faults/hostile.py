"""Hostile servers against our clients, and sent code that resists its deadline.

A case is data of `hostile_cases`, or slow input: a line that never ends, a reply sent byte by byte.
A client must return within its time-out, with a documented error, and work with other servers
afterwards; the log must have no unexpected error.
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
from faults.known import HELD_BACK
from faults.processes import HOST, close_server, held, memory
from faults.report import Report
from faults.rounds import find_leaks

TIMEOUT = 1.0
GRACE = 20.0
"""Seconds beyond the time-out after which a client counts as hanging: the machine may be busy."""

LIMITS: dict[str, Any] = {"limit": 16 * 2**20, "line_limit": 2**20}
MEMORY = 300 * 2**20
"""Bytes of memory that all cases together may take: client limits bound each."""

Answer = Callable[[bytes], AsyncIterator[bytes]]


@dataclass
class Case:
    """A hostile server, or publisher.

    Attributes
    ----------
    name : str
        Its behaviour.
    lines : list of callable or bytes
        Its answers to the first line of the client, the second one, and all others.
    """

    name: str
    lines: list[bytes | Answer]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client until it disconnects or the server is closed."""
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
    """Send a reply byte by byte, for ever."""
    found = re.search(rb'"id":(\d+)', line)
    yield b'{"id":%s,"status":"ok","ret":"' % (found[1] if found else b"0")
    while True:
        await asyncio.sleep(0.2)
        yield b"x"


async def _endless(line: bytes) -> AsyncIterator[bytes]:
    """Send a line that never ends."""
    while True:
        yield b"x" * 65536


async def _replies_without_end(line: bytes) -> AsyncIterator[bytes]:
    """Send replies without requests, for ever."""
    found = re.search(rb'"id":(\d+)', line)
    number = int(found[1]) if found else 0
    while True:
        number += 1
        yield b'{"id":%d,"status":"ok","ret":"wrong"}\n' % number


async def _mods_without_end(line: bytes) -> AsyncIterator[bytes]:
    """Send the mods of one step, for ever."""
    yield data.HELLO + data.INIT
    while True:
        yield b'{"action":"setitem","path":["b"],"key":"c","value":1}\n' * 1000


SLOW: dict[str, Answer] = {
    "drips": _drip,
    "never ends a line": _endless,
    "replies to nobody for ever": _replies_without_end,
}


def servers() -> list[Case]:
    """Return the hostile servers."""
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
    """Return the hostile publishers."""
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
"""Messages of documented built-in exceptions."""


def is_documented(error: BaseException) -> bool:
    """Return whether an error is documented for callers of our clients."""
    if hasattr(error, "parent_traceback"):
        return isinstance(error, Exception)
    built_in = isinstance(error, (AttributeError, ValueError)) and DOCUMENTED.search(str(error))
    return isinstance(error, (RpcError, SyncStructError, OSError)) or bool(built_in)


def use_client(port: int) -> None:
    """Use the features of `Client`."""
    with Client(HOST, port, timeout=TIMEOUT, **LIMITS) as client:
        _refuse(client.echo(1))
        client.get_rpc_method_list()
        str(inspect.signature(client.echo))
        str(inspect.getdoc(client.echo))
        client.ping_rpc()


def use_asyncio_client(port: int) -> None:
    """Use the features of `AsyncioClient`."""

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
    """Use the features of `Subscriber`."""

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
    """Use the features of `mirror`."""
    with mirror(HOST, port, "d", timeout=TIMEOUT, heartbeat=TIMEOUT) as seen:
        seen.wait(lambda d: d["never"], timeout=TIMEOUT)


def _refuse(result: Any) -> None:
    if result == "wrong":
        raise AssertionError("a call got the reply to another one")


def _try(
    case: Case, use: Callable[[int], None], loop: asyncio.AbstractEventLoop, report: Report
) -> None:
    """Connect a client to a hostile server."""

    async def start() -> asyncio.Server:
        return await asyncio.start_server(case.serve, HOST, 0, limit=2**30)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    began = time.monotonic()
    who = use.__name__.removeprefix("use_")
    try:
        use(server.sockets[0].getsockname()[1])
    except BaseException as error:  # a client must not raise SystemExit either
        if not is_documented(error):
            report.find("wrong", f"{case.name}; {who}: {type(error).__name__}: {error!s:.300}")
    seconds = time.monotonic() - began
    if seconds > 4 * TIMEOUT + GRACE:
        report.find("hung", f"{case.name}; {who}: {seconds:.1f} s")
    report.count(f"hostile servers met by {who}")
    asyncio.run_coroutine_threadsafe(close_server(server), loop).result()


RECORDS = 20
"""Largest average number of log records per case."""


def _meet_all(budget: float, rng: Random, report: Report) -> None:
    """Connect each client to each server, in an order that follows from the seed."""
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
        report.note(
            f"{met.count(False)} of {len(met)} cases were not tried: the budget is too short"
        )


async def _cancel_all() -> None:
    for _ in range(5):  # so that the connections accepted last begin, and end in order
        await asyncio.sleep(0)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def run(budget: float, seed: int, report: Report) -> None:
    """Try each case once, or as many as the budget allows."""
    sys.setswitchinterval(0.001)
    for name, why in HELD_BACK.items():
        report.note(f"a known defect, not tried: a publisher of {name}: {why}")
    before, memory_before = held(), memory()
    end, rng = time.monotonic() + budget, Random(f"hostile/{seed}")
    _meet_all(budget * 0.6, rng, report)
    find_leaks(before, report)
    met = sum(number for what, number in report.counts("hostile servers met by "))
    written = sum(number for what, number in report.counts("log records of "))
    if written > RECORDS * met:
        report.find("wrong", f"hostile servers caused {written} log records")
    if (growth := memory() - memory_before) > MEMORY:
        report.find("memory", f"clients of hostile servers: {growth / 2**20:.0f} MiB more")
    resisting.try_all(end, rng, report)
