"""Names of hosts to addresses, within a deadline.

The one idea to keep in mind: the system's look-up cannot be interrupted, and takes many seconds if
the name server does not answer. So with a deadline a name is looked up in a daemon thread, and the
caller leaves at the deadline. There is one such thread for each name, for all callers that ask for
it meanwhile. A numeric address needs no look-up and no thread.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from pc_rpc._deadlines import remaining

AddressInfo = tuple[Any, ...]
"""Family, kind, protocol, canonical name and address, as `socket.getaddrinfo` returns them."""


class LookUp:
    """The look-up of one name, under way or done."""

    def __init__(self, host: str, port: int) -> None:
        self._key = (host, port)
        self._done = threading.Event()
        self._found: list[AddressInfo] = []
        self._error: Exception | None = None
        self._callbacks: list[Callable[[], object]] = []

    def run(self) -> None:
        """Look up. Runs in the thread."""
        try:
            self._found = look_up_now(*self._key)
        except Exception as error:
            self._error = error
        _under_way.pop(self._key, None)
        self._done.set()
        for callback in self._callbacks:
            callback()

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call a function when the look-up is done: in the thread, perhaps twice."""
        self._callbacks.append(callback)
        if self._done.is_set():
            callback()

    def wait(self, timeout: float | None) -> list[AddressInfo]:
        """Return the addresses.

        Raises
        ------
        TimeoutError
            The look-up was not done within `timeout` seconds.
        OSError
            There is no such name.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"no address of {self._key[0]} within the time-out")
        if self._error is not None:
            raise self._error
        return self._found


_under_way: dict[tuple[str, int], LookUp] = {}

if hasattr(os, "register_at_fork"):  # the threads do not exist in the child
    os.register_at_fork(after_in_child=_under_way.clear)


def look_up(host: str, port: int, deadline: float | None) -> list[AddressInfo]:
    """Return the addresses of a host, at least one.

    Raises
    ------
    TimeoutError
        There was no answer before the deadline.
    OSError
        There is no such name.
    """
    if (address := numeric_address(host, port)) is not None:
        return [address]
    if deadline is None or is_numeric(host):
        return look_up_now(host, port)
    return begin(host, port).wait(remaining(deadline))


def look_up_now(host: str, port: int) -> list[AddressInfo]:
    """Return the addresses of a host, however long it takes."""
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except UnicodeError as error:  # a label is too long, or empty
        raise socket.gaierror(socket.EAI_NONAME, "no name of a host") from error


def numeric_address(host: str, port: int) -> AddressInfo | None:
    """Return a plain numeric address without a look-up; None for other hosts and ports."""
    if type(port) is not int or not 0 < port < 2**16:
        return None
    for family, rest in ((socket.AF_INET, ()), (socket.AF_INET6, (0, 0))):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError, TypeError):
            continue
        return family, socket.SOCK_STREAM, 0, "", (host, port, *rest)
    return None


def begin(host: str, port: int) -> LookUp:
    """Begin the look-up of a name, or return the one that is under way."""
    ours = LookUp(host, port)
    found = _under_way.setdefault((host, port), ours)
    if found is ours:
        try:
            threading.Thread(target=ours.run, name=f"look-up of {host}", daemon=True).start()
        except BaseException:  # no more threads: no caller should wait for it
            _under_way.pop((host, port), None)
            raise
    return found


def is_numeric(host: str) -> bool:
    """Return whether a host is an IPv4 or IPv6 address."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError, TypeError):
            continue
        return True
    return False
