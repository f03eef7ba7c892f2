"""Sessions guided by coverage: ``python -m faults.guided SECONDS SEED``; status 3 without atheris.

An input of atheris is a session, as the lengths and the bytes of its messages. `sessions.mutate`
mutates it, and atheris keeps the inputs that increase coverage.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
import tempfile
from pathlib import Path
from random import Random

try:
    import atheris
except ImportError:
    sys.exit(3)

with atheris.instrument_imports(include=["pyon", "pc_rpc", "sync_struct"]):
    from pc_rpc import AsyncioClient, Server  # noqa: F401  (their names are loaded when used)
    from sync_struct import Publisher, Subscriber  # noqa: F401

from faults import complaints
from faults.report import Report
from faults.sessions import Messages, mutate
from faults.wire import ATTACKS, Bench

KINDS = list(ATTACKS)


def pack(against: str, messages: Messages) -> bytes:
    """Return a session as one input."""
    sizes = struct.pack(f"<{len(messages)}I", *map(len, messages))
    return bytes([KINDS.index(against), len(messages) % 256]) + sizes + b"".join(messages)


def unpack(data: bytes) -> tuple[str, Messages]:
    """Return the session of any input."""
    if len(data) < 2:
        return KINDS[0], []
    against, rest = KINDS[data[0] % len(KINDS)], data[2:]
    sizes = [
        size for (size,) in struct.iter_unpack("<I", rest[: 4 * data[1]][: len(rest) // 4 * 4])
    ]
    rest, messages = rest[4 * len(sizes) :], []
    for size in sizes:
        messages.append(rest[: size % 2**20])
        rest = rest[size % 2**20 :]
    return against, messages


def main() -> None:
    """Run libFuzzer."""
    seconds, seed = sys.argv[1:]
    report = Report("wire", int(seed))
    complaints.listen(report)
    loop, bench, stack = asyncio.new_event_loop(), Bench(report), contextlib.AsyncExitStack()
    loop.run_until_complete(stack.enter_async_context(bench.serving()))

    def one(data: bytes) -> None:
        loop.run_until_complete(bench.attack(*unpack(data)))
        if report.failed:
            raise AssertionError(report.as_dict()["findings"])

    def change(data: bytes, size: int, seed: int) -> bytes:
        against, messages = unpack(data)
        return pack(against, mutate(messages, bench.said[against], Random(seed))[:255])[:size]

    with tempfile.TemporaryDirectory() as folder:
        for number, (against, said) in enumerate(bench.said.items()):
            for part, messages in enumerate(said):
                name = f"{number}-{part}"
                (Path(folder) / name).write_bytes(pack(against, messages[:40]))
        options = [f"-max_total_time={float(seconds):.0f}", f"-seed={seed}", "-max_len=200000"]
        options += ["-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, folder], one, custom_mutator=change)
        atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main()
