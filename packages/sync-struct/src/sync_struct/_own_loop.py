"""What blocks must not wait for the event loop that it blocks: said at once, instead of never."""

from __future__ import annotations

import asyncio
import socket
import weakref
from typing import Protocol

__all__ = ["refuse_own_loop", "serving"]


class _Server(Protocol):
    def serves(self, loop: asyncio.AbstractEventLoop, port: int) -> bool:
        """Tell whether it serves a port on an event loop. May be called by any thread."""


serving: weakref.WeakSet[_Server] = weakref.WeakSet()
"""Publishers of this process that have been started."""


def refuse_own_loop(host: str, port: int) -> None:
    """Raise `RuntimeError` if the running event loop is the one that publishes at an address.

    In a notebook a loop always runs, which is no reason to refuse: only its own publishers are.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    ours = [publisher for publisher in serving if publisher.serves(loop, port)]
    if ours and _is_this_machine(host):
        raise RuntimeError(
            f"{host} port {port} is served by the event loop that calls this, which would wait "
            "here for itself. Use `await Subscriber(...).connect(...)`, or call mirror() in "
            "another thread (`await asyncio.to_thread(mirror, ...)`), or publish from a thread of "
            "its own: sync_struct.publish()"
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
