"""Valid sessions, from files and recorded here, and their mutation."""

from __future__ import annotations

import asyncio
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from pc_rpc import AsyncioClient
from sync_struct import Notifier, Subscriber

from faults.processes import HOST
from faults.proxy import FAIR, Proxy

ROOT = Path(__file__).resolve().parents[2]
RECORDED = sorted(ROOT.glob("packages/*/tests/data/rpc-*.json"))
RECORDED += sorted(ROOT.glob("packages/*/tests/data/sync-*.json"))

Messages = list[bytes]
Session = tuple[Messages, Messages]
"""Messages of the client, and of the server: lines, or pieces of raw buffers."""


def recorded() -> tuple[list[Session], list[Session]]:
    """Return the recorded sessions of real peers: of RPC, and of structures."""
    found: tuple[list[Session], list[Session]] = [], []
    for path in RECORDED:
        said: dict[str, bytes] = {"c2s": b"", "s2c": b""}
        for step in json.loads(path.read_text(encoding="utf-8"))["steps"]:
            for piece in step["bytes"]:
                ((way, text),) = piece.items()
                if isinstance(text, str):  # not a wildcard
                    said[way] += text.replace("<EOF>", "").encode("latin-1")
        session = _lines(said["c2s"]), _lines(said["s2c"])
        found[path.name.startswith("sync")].append(session)
    return found


def _lines(said: bytes) -> Messages:
    return said.splitlines(keepends=True) if b"\n" in said else [said]


async def record_calls(port: int, target: str) -> Session:
    """Record a session of our client and server: raw buffers, ids, cancellation, errors."""
    pieces: dict[str, list[bytes]] = defaultdict(list)
    async with Proxy(port, 1, FAIR, tap=lambda _, way, data: pieces[way].append(data)) as proxy:
        proxy.calm = True
        async with AsyncioClient() as client:
            await client.connect_rpc(HOST, proxy.port, target)
            await asyncio.gather(*(client.echo(n) for n in range(5)))
            await client.echo(np.arange(3000.0))
            await client.echo([b"x" * 5000, np.zeros((20, 30), "<i4"), {"a": (1, None)}])
            await asyncio.gather(client.fail(), return_exceptions=True)
            task = asyncio.ensure_future(client.rest())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.ping_rpc()
            await client.get_rpc_method_list()
    return pieces["up"], pieces["down"]


async def record_structure(port: int, notifier: Notifier) -> Session:
    """Record a session of our subscriber and publisher: growing arrays, raw buffers, steps."""
    pieces: dict[str, list[bytes]] = defaultdict(list)
    async with Proxy(port, 1, FAIR, tap=lambda _, way, data: pieces[way].append(data)) as proxy:
        proxy.calm = True
        subscriber = Subscriber("d", lambda x: x, max_rate=math.inf)
        await subscriber.connect(HOST, proxy.port)
        for number in range(6):
            with notifier.batch():
                notifier["grows"].append(float(number))
                notifier["list"].insert(0, number)
                notifier["array"][number : number + 3] = number
            notifier["array"] = np.full(2000, number)
            await asyncio.sleep(0.02)
        await subscriber.close()
    return pieces["up"], pieces["down"]


# Mutation.

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**18, 10**400, 0.5, -0.0, 1e308, "",
    "x", "\x00", "\x1b[2J", "\ud83d", "é" * 3000, "__class__", "close_rpc", "terminate", [], {},
    [[]], [None] * 50, {"a": 1}, {"__jsonclass__": 5}, {"__jsonclass__": ["tuple", [[1]]]},
    {"__jsonclass__": ["nparray", [[2, 2], "<f8", "AAAA"]]}, {"__jsonclass__": ["bytes", [0]]},
    {"__jsonclass__": ["slice", [None, -1, 0]]}, {"__jsonclass__": ["dict", [[[1, 2]]]]},
    {"__jsonclass__": ["complex", ["a", 1]]}, {"__jsonclass__": ["set", [[[1]]]]},
]  # fmt: skip
"""What takes the place of a value."""


def mutate(messages: Messages, others: Sequence[Messages], rng: Random) -> Messages:
    """Return a mutated session: faults at the levels of messages, values and bytes."""
    messages = list(messages)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not messages:
            break
        i = rng.randrange(len(messages))
        rng.choice((_order, _splice, _value, _value, _value, _buffers, _bytes))(
            messages, i, others, rng
        )
    return messages


def _order(messages: Messages, i: int, others: Sequence[Messages], rng: Random) -> None:
    """Remove, repeat, move or truncate a message."""
    match rng.randrange(5):
        case 0:
            del messages[i]
        case 1:
            messages[i:i] = [messages[i]] * rng.choice((1, 2, 200))
        case 2:
            j = rng.randrange(len(messages))
            messages[i], messages[j] = messages[j], messages[i]
        case 3:
            del messages[i:]
        case 4:
            messages[i] = messages[i][: rng.randrange(len(messages[i]) + 1)]


def _splice(messages: Messages, i: int, others: Sequence[Messages], rng: Random) -> None:
    """Continue with the messages of another session."""
    other = rng.choice(others)
    messages[i:] = other[rng.randrange(len(other) + 1) :]


def _buffers(messages: Messages, i: int, others: Sequence[Messages], rng: Random) -> None:
    """Announce buffers."""
    size = rng.choice((0, 1, 8, 5000, -1, 2**31, 2**62, "x", 1.5))
    header = json.dumps({"buffers": [size] * rng.choice((0, 1, 1, 3, 70_000))})
    if messages[i].startswith(b"{"):
        messages[i] = header[:-1].replace(" ", "").encode() + b"," + messages[i][1:]


def _bytes(messages: Messages, i: int, others: Sequence[Messages], rng: Random) -> None:
    """Change, insert or remove bytes."""
    data = bytearray(messages[i])
    for _ in range(rng.choice((1, 1, 4, 20))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[at:at] = rng.randbytes(rng.choice((1, 1, 50)))
            case 1:
                del data[at : at + rng.choice((1, 1, 20))]
            case 2:
                data[at:at] = rng.choice(
                    (b"\n", b"\r\n", b"\x00", b"\xff", b"{", b"]", b'"', b"\\")
                )
            case 3 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
    messages[i] = bytes(data)


def _value(messages: Messages, i: int, others: Sequence[Messages], rng: Random) -> None:
    """Replace a value by an odd one, or change a key."""
    line, end, rest = messages[i].partition(b"\n")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        _bytes(messages, i, others, rng)
        return
    box = [message]
    parent, key = rng.choice(_places(box))
    match rng.randrange(6):
        case 0 if isinstance(parent, dict):
            parent[rng.choice(("id", "action", "x", "number", "path"))] = parent.pop(key)
        case 1:
            del parent[key]
        case 2:
            for _ in range(rng.choice((1, 200))):
                parent[key] = rng.choice(([parent[key]], {"a": parent[key]}))
        case 3 if isinstance(parent[key], int):
            parent[key] += rng.choice((-1, 1, 10**6))
        case _:
            parent[key] = rng.choice(ODD)
    written = json.dumps(box[0] if box else None, separators=(",", ":"))
    messages[i] = written.encode("utf-8", "replace") + end + rest


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return all items of the containers in a value, as container and key."""
    places: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        container = level.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        places += [(container, key) for key in keys]
        level += [container[key] for key in keys if isinstance(container[key], (dict, list))]
    return places
