"""Processes that the pages start and kill, and what a process holds."""

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

from faults.complaints import UNFORESEEN

FOLDER = Path(__file__).resolve().parent
HOST = "127.0.0.1"
LONG = 60.0
"""Seconds within which a process must have started or ended, on however slow a machine."""


def environment() -> dict[str, str]:
    """Return the environment in which ``python -m faults`` works."""
    paths = [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


@contextlib.contextmanager
def reserved_port() -> Any:
    """Give a port that servers may bind again and again, and nobody else gets meanwhile.

    Without that, a client that connects while the server is away may get it as its own port.
    """
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, 0))
        yield sock.getsockname()[1]


async def close_server(server: asyncio.Server) -> None:
    """Close a server of asyncio's streams, behind what its loop has accepted.

    Closed between the two steps in which a connection is accepted, it leaves the transport to the
    collector.
    """
    for _ in range(5):
        await asyncio.sleep(0)
    server.close()


class Child:
    """A program that says ``port N`` when it listens; its log is kept.

    Parameters
    ----------
    program : str
        The name of a module, or a path: of a script in Python.
    arguments : str
        What follows on its command line.
    inside : sequence of str, optional
        What the whole command begins with.
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
        """Wait until it listens."""
        line = self.hear()
        found = re.search(r"\bport (\d+)$", line)
        if found is None:
            self.process.kill()
            raise RuntimeError(
                f"the server said {line!r} instead of its port: {self.log()[-2000:]}"
            )
        self.port = int(found[1])
        return self

    def hear(self) -> str:
        """Return the next line that it says; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def say(self, line: str) -> None:
        """Tell it something."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> str:
        """Tell it something and return what it answers."""
        self.say(line)
        return self.hear()

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        self.process.kill()
        self._release()

    def terminate(self) -> int:
        """Ask it to end in order, and return its exit status."""
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
        """Return what it has written to standard error."""
        self._log.flush()
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def complaints(self) -> str | None:
        """Return the part of its log where something was not foreseen; None if there is none."""
        log = self.log()
        found = UNFORESEEN.search(log)
        return None if found is None else log[max(found.start() - 200, 0) : found.end() + 2000]

    def close(self) -> None:
        """End it, and forget its log."""
        if self.process.poll() is None:
            self.kill()
        self._log.close()

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def memory(self) -> int:
        """Bytes of memory that it has."""
        return int(psutil.Process(self.process.pid).memory_info().rss)


def held() -> dict[str, int]:
    """Return what this process holds that might leak, in numbers."""
    gc.collect()
    process = psutil.Process()
    descriptors = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    return {"threads": threading.active_count(), "descriptors": descriptors}


def memory() -> int:
    """Return the bytes of memory that this process has."""
    return int(psutil.Process().memory_info().rss)
