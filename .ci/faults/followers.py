"""Replicas of a structure, each of which checks the mods that it receives."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

import numpy as np
import pyon
from sync_struct import Mirror, ModsLost, Subscriber, UnknownNotifier, mirror, process_mod

from faults.processes import HOST
from faults.report import Report

PATHS: list[list[Any]] = [["part"], ["grows"], ["tuple", 1], ["comes", "goes"]]
OPTIONS: dict[str, dict[str, Any]] = {
    "everything": {},
    "as text": {"raw_buffers": False},
    "twenty a second": {"max_rate": 20.0},
    "as many as it can": {"max_rate": math.inf},
    "mods only": {"mods_only": True},
    **{"/".join(map(str, path)): {"path": path} for path in PATHS},
    "grows, ten a second": {"path": ["grows"], "max_rate": 10.0},
}
"""Subscribers by what they ask for."""


class Follower:
    """One of our subscribers.

    `process_mod` applies every reported mod to a second structure, which must equal the target. The
    numbers of the steps must have no gap, unless a gap was requested or reported. (A relay whose
    origin restarts publishes the differences only, so there are gaps.)
    """

    def __init__(self, name: str, report: Report, *, relayed: bool = False) -> None:
        self.name, self.report = name + " of a relay" * relayed, report
        self._relayed = relayed
        options = OPTIONS[name]
        self.path: list[Any] = options.get("path", [])
        self.mods_only = "mods_only" in options
        self.counts = not (self.path or "max_rate" in options or relayed)
        self._last: int | None = None
        self._folded: list[Any] = [None]
        self.subscriber = Subscriber("d", _same, self._read, on_error=self._on_error, **options)

    async def run(self, port: int) -> None:
        """Follow the publisher at a port."""
        self._last = None
        await self.subscriber.run(HOST, port, longest_wait=0.2)

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, ModsLost) and self.mods_only:
            self._last = None
            self.report.count("gaps reported to a subscriber of mods only")
        elif isinstance(error, UnknownNotifier) and self._relayed:
            self.report.count("relays without a structure yet")
        elif not isinstance(error, OSError):
            self.report.find("wrong", f"{self.name}: {error!r:.500}")

    def _read(self, mod: dict[str, Any]) -> None:
        self.report.count("mods received")
        action = mod["action"]
        if action == "init":
            self.report.count("structures received")
            self._folded[0] = mod["struct"]
            self._last = mod["struct"]["count"] if self.counts else None
        elif action == "absent":
            self._folded[0] = None
        else:
            if not self.mods_only:
                process_mod(self._folded, {**mod, "path": [0, *mod["path"]]})
            if self.counts and mod["path"] == [] and mod.get("key") == "count":
                self._number(mod["value"])
        if not self.path and not self.mods_only and not self.subscriber.legacy:
            target = self.subscriber.target
            if target["count"] != target["twin"]:
                self.report.find("wrong", f"{self.name}: half a batch, {target['count']}")

    def _number(self, number: int) -> None:
        if self._last is not None and number != self._last + 1:
            self.report.find("lost", f"{self.name}: step {number} behind step {self._last}")
        self._last = number

    def difference(self, structure: Any) -> str | None:
        """Return the difference from the publisher's structure; None if they are equal."""
        if self.mods_only:
            return None if self._last in (None, structure["count"]) else f"at step {self._last}"
        expected = at(structure, self.path)
        if expected is None:
            return None if self.subscriber.state == "absent" else f"is {self.subscriber.state}"
        if self.subscriber.state != "live":
            return f"is {self.subscriber.state}"
        if plain(self.subscriber.target) != plain(expected):
            return f"has {self.subscriber.target!r:.300} for {expected!r:.300}"
        if plain(self._folded[0]) != plain(expected):
            return f"has mods for {self._folded[0]!r:.300} instead of {expected!r:.300}"
        return None


class Established:
    """A subscriber of the established protocol that reconnects."""

    name = "established"

    def __init__(self, report: Report) -> None:
        self.report = report
        self.target: Any = None

    async def run(self, port: int) -> None:
        """Follow the publisher at a port."""
        while True:
            with contextlib.suppress(OSError):
                await self._follow(*await asyncio.open_connection(HOST, port))
            await asyncio.sleep(0.02)

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ARTIQ sync_struct\nd\n")
        try:
            buffered = b""
            while data := await reader.read(2**16):
                *lines, buffered = (buffered + data).split(b"\n")
                for mod in map(pyon.decode, lines):
                    self.report.count("mods received")
                    if mod["action"] == "init":
                        self.target = mod["struct"]
                    else:
                        process_mod(self.target, mod)
        finally:
            writer.close()

    def difference(self, structure: Any) -> str | None:
        """Return the difference from the publisher's structure; None if they are equal."""
        if plain(self.target) == plain(structure):
            return None
        return f"has {self.target!r:.300} for {structure!r:.300}"


class Mirrored:
    """A mirror."""

    name = "mirror"

    def __init__(self, report: Report) -> None:
        self.report = report
        self.mirror: Mirror | None = None

    async def run(self, port: int) -> None:
        """Follow the publisher at a port."""
        while self.mirror is None:
            making = asyncio.ensure_future(asyncio.to_thread(mirror, HOST, port, "d", self._read))
            try:
                self.mirror = await asyncio.shield(making)
            except OSError:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                with contextlib.suppress(OSError):
                    (await making).close()
                raise
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            one, self.mirror = self.mirror, None
            one.close()

    def _read(self, mod: dict[str, Any]) -> None:
        self.report.count("mods received")

    def difference(self, structure: Any) -> str | None:
        """Return the difference from the publisher's structure; None if they are equal."""
        if self.mirror is None or self.mirror.state != "live":
            return "is not live"
        if plain(self.mirror.read) != plain(structure):
            return f"has {self.mirror.read!r:.300} for {structure!r:.300}"
        return None


def _same(structure: Any) -> Any:
    return structure


def at(structure: Any, path: list[Any]) -> Any:
    """Return the part at a path; None if there is none."""
    for key in path:
        try:
            structure = structure[key]
        except LookupError:
            return None
    return structure


def plain(structure: Any) -> Any:
    """Return a form for comparisons: the order of keys is ignored."""
    if isinstance(structure, dict):
        return {key: plain(value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(map(plain, structure))
    if isinstance(structure, np.ndarray):
        return "array", structure.dtype.str, structure.tolist()
    return structure
