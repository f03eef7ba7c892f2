"""Processes that the pages start and kill, and the resources of a process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from faults.complaints import UNEXPECTED

FOLDER = Path(__file__).resolve().parent
HOST = "127.0.0.1"
LONG = 60.0
"""Seconds within which a process must have started or ended, on a slow machine."""


def environment() -> dict[str, str]:
    """Return the environment variables for ``python -m faults``."""
    paths = [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@contextlib.contextmanager
def reserved_port() -> Any:
    """Yield a port that servers may bind repeatedly, and that the system assigns to nothing else.

    Otherwise a client that connects while the server is down may get it as its own local port.
    """
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, 0))
        yield sock.getsockname()[1]


async def close_server(server: asyncio.Server) -> None:
    """Close a server of asyncio's streams, after the loop has set up accepted connections.

    asyncio accepts a connection in two steps. If the server is closed between them, the transport
    is left to the garbage collector.
    """
    for _ in range(5):
        await asyncio.sleep(0)
    server.close()


class Child:
    """A program that prints ``port N`` when it listens; its log is kept.

    Parameters
    ----------
    program : str
        The name of a module, or the path of a Python script.
    arguments : str
        Its command-line arguments.
    inside : sequence of str, optional
        Prefix of the command.
    """

    def __init__(self, program: str | Path, *arguments: object, inside: Sequence[str] = ()) -> None:
        command = [program] if isinstance(program, Path) else ["-m", program]
        self._log = tempfile.NamedTemporaryFile("w+", suffix=".log")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*inside, sys.executable, *map(str, [*command, *arguments])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(),
            text=True,
        )
        self.port = 0

    def wait_until_serving(self) -> Self:
        """Wait until it listens; set `port`."""
        line = self.read_line()
        found = re.search(r"\bport (\d+)$", line)
        if found is None:
            self.process.kill()
            raise RuntimeError(
                f"the server printed {line!r} instead of its port: {self.log()[-2000:]}"
            )
        self.port = int(found[1])
        return self

    def read_line(self) -> str:
        """Return the next line of its output; empty at the end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def send(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> str:
        """Send a line and return the answer."""
        self.send(line)
        return self.read_line()

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self._release()

    def terminate(self) -> int:
        """Send SIGTERM, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._release()
        return self.process.returncode

    def _release(self) -> None:
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()

    def log(self) -> str:
        """Return its standard error."""
        self._log.flush()
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def complaints(self) -> str | None:
        """Return the part of its log with an unexpected error; None if there is none."""
        log = self.log()
        found = UNEXPECTED.search(log)
        return None if found is None else log[max(found.start() - 200, 0) : found.end() + 2000]

    def close(self) -> None:
        """Kill it if it runs, and delete its log."""
        if self.process.poll() is None:
            self.kill()
        self._log.close()

    @property
    def cpu_seconds(self) -> float:
        """CPU time that it has used, in seconds."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def memory(self) -> int:
        """Its resident memory in bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


def held() -> dict[str, int]:
    """Return the numbers of threads and descriptors of this process, which might leak."""
    gc.collect()
    process = psutil.Process()
    descriptors = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    return {"threads": threading.active_count(), "descriptors": descriptors}


def memory() -> int:
    """Return the resident memory of this process in bytes."""
    return int(psutil.Process().memory_info().rss)
