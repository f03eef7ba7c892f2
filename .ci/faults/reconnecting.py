"""Clients that reconnect: one of each kind for a whole round, with the same faults as calls.

The server is killed, stopped and restarted, with one method more or less, and as a server of
another generation. Callers make the next call after any outcome, and every outcome must agree with
the count of the driver. No call may take longer than its time-out.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from typing import Any

from pc_rpc import AsyncioClient, Client

from faults.calls import WIRES, Round, run_rounds
from faults.ledger import NOT_EXECUTED
from faults.processes import HOST, Child
from faults.proxy import Proxy
from faults.questions import Question
from faults.report import Report

TASKS, THREADS = 12, 6
SOMETIMES = "rest"
"""A method that some servers lack."""

LATE = 10.0
"""Seconds beyond its time-out that a call may end, on a busy machine."""


class History:
    """The sequence of states of a client."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._states: list[str] = []

    def __call__(self, state: str) -> None:
        self._states.append(state)
        self._report.count(f"states reported: {state}")

    def check(self) -> None:
        """Report states that cannot follow each other."""
        allowed = {("connected", "lost"), ("lost", "connected")}
        *before, last = self._states
        if self._states[0] != "connected" or last != "closed":
            self._report.find("wrong", f"states from {self._states[0]} to {last}")
        if wrong := [pair for pair in itertools.pairwise(before) if pair not in allowed]:
            self._report.find("wrong", f"states {wrong[:3]} followed each other")


class ReconnectingRound(Round):
    """Servers, one after the other, and clients that outlive them."""

    uses_per_server = 300, 4_000

    def crews(self, proxy: Callable[[], Proxy]) -> Iterator[Awaitable[None]]:
        """Yield the crews, each with a proxy of its own."""
        for n in range(3):
            yield self.task_crew(proxy(), f"tasks {n}")
            yield asyncio.to_thread(self.thread_crew, proxy(), f"threads {n}")

    def first_line(self, line: bytes) -> bytes:
        """Return the greeting of a random generation, in place of the server's."""
        replace = self.rng.choice([*WIRES.values()])
        return line if replace is None else replace(line)

    def start_server(self, port: int) -> Child:
        """Start a server on a port, perhaps without a method, and wait until it serves."""
        mode, lacking = self.mode, self.rng.random() < 0.5
        self.mode = f"{mode}/{SOMETIMES}" if lacking else mode
        try:
            return super().start_server(port)
        finally:
            self.mode = mode

    # The crews: they go on after any outcome.

    async def task_crew(self, proxy: Proxy, name: str) -> None:
        """Run tasks that share one client."""
        rng, history = Random(f"{self.report.seed}/{name}"), History(self.report)
        client: AsyncioClient[Any] = AsyncioClient()
        options = {"timeout": 10, "ssl": self.context, "reconnect": True, "state_cb": history}
        while True:
            try:
                await client.connect_rpc(HOST, proxy.port, "driver", **options)
                break
            except OSError:
                await asyncio.sleep(0.02)
        try:
            rngs = [Random(rng.random()) for _ in range(TASKS)]
            await asyncio.gather(*(self._call_repeatedly(client, one) for one in rngs))
        finally:
            await client.close_rpc()
        await asyncio.sleep(0)  # so that the last state is reported
        history.check()

    async def _call_repeatedly(self, client: AsyncioClient[Any], rng: Random) -> None:
        while self.going:
            with self.call(rng) as question:
                result, error, began = None, None, time.monotonic()
                try:
                    result = await self._begin(client, question, rng)
                except (Exception, asyncio.CancelledError) as e:
                    error = e
                self.note_in_time(question, result, error, time.monotonic() - began)

    def thread_crew(self, proxy: Proxy, name: str) -> None:
        """Run threads that share one client."""
        rng, history = Random(f"{self.report.seed}/{name}"), History(self.report)
        connect = partial(
            Client, HOST, proxy.port, "driver", timeout=10, ssl=self.context, reconnect=True,
            state_cb=history,
        )  # fmt: skip
        client = None
        while client is None:
            try:
                client = connect()
            except OSError:
                time.sleep(0.02)
        with client, ThreadPoolExecutor(THREADS, thread_name_prefix=name) as pool:
            rngs = [Random(rng.random()) for _ in range(THREADS)]
            list(pool.map(partial(self._call_repeatedly_in_thread, client), rngs))
        history.check()

    def _call_repeatedly_in_thread(self, client: Client[Any], rng: Random) -> None:
        while self.going:
            with self.call(rng) as question:
                result, error, began = None, None, time.monotonic()
                try:
                    method = getattr(client.with_rpc_timeout(question.timeout), question.method)
                    result = method(question.number, *question.arguments)
                except Exception as e:
                    error = e
                self.note_in_time(question, result, error, time.monotonic() - began)

    def note_in_time(
        self, question: Question, result: Any, error: BaseException | None, seconds: float
    ) -> None:
        """Record the outcome of a call, and check its duration."""
        if question.timeout is not None and (late := seconds - question.timeout) > 0:
            self.report.peak("seconds between the time-out and the end of a call", late)
            if late > LATE:
                self.report.find("hung", f"{late:.1f} s too late: {question!r:.300}")
        if question.method == SOMETIMES and isinstance(error, AttributeError):
            self.report.count("calls of a removed method")
            self.ledger.record(question.number, NOT_EXECUTED)
            return
        if error is not None and not hasattr(error, "parent_traceback"):
            self.report.count(f"calls that ended in {type(error).__name__}")
        self.note(question, result, error)


def run(budget: float, seed: int, report: Report) -> None:
    """Run rounds for as long as the budget lasts."""
    run_rounds(ReconnectingRound, budget, seed, report)
