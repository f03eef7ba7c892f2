"""Detects blocking calls that would wait for the event loop that they block."""

from __future__ import annotations

import asyncio
import socket
import weakref
from typing import Protocol

__all__ = ["refuse_own_loop", "serving"]


class _Server(Protocol):
    def serves(self, loop: asyncio.AbstractEventLoop, port: int) -> bool:
        """Return whether it serves a port on an event loop. May be called by any thread."""


serving: weakref.WeakSet[_Server] = weakref.WeakSet()
"""Publishers of this process that have been started."""


def refuse_own_loop(host: str, port: int) -> None:
    """Raise `RuntimeError` if the running event loop is that of the publisher at an address.

    In a notebook a loop always runs; that alone is allowed.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    ours = [publisher for publisher in serving if publisher.serves(loop, port)]
    if ours and _is_this_machine(host):
        raise RuntimeError(
            f"{host} port {port} is served by the running event loop, which would wait for itself. "
            "Use `await Subscriber(...).connect(...)`, or call mirror() in another thread (`await "
            "asyncio.to_thread(mirror, ...)`), or publish with sync_struct.publish(), which has a "
            "thread of its own"
        )


def _is_this_machine(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return any(_can_bind(family, address) for family, _, _, _, address in found)


def _can_bind(family: int, address: tuple[object, ...]) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(address)
        except OSError:
            return False
    return True
