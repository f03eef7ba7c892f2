"""Multicast DNS on this computer: the `zeroconf` library, and the addresses that are announced.

Only this module imports the library, when a server is announced or searched for.
"""

from __future__ import annotations

import importlib
import ipaddress
from collections.abc import Iterable
from types import ModuleType
from typing import Any

INTERFACES: Any = None
"""Addresses of the interfaces that are used. None: all. For tests, which stay on this computer."""

LOOPBACK = False
"""Whether addresses that only this computer reaches are announced. For tests."""


def library() -> ModuleType:
    """Return the library.

    Raises
    ------
    ImportError
        It is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module("zeroconf.asyncio")
    except ImportError as error:
        raise ImportError(
            "to announce and find servers, install the package zeroconf: the extra [discovery] of "
            "pc-rpc"
        ) from error


def open_network() -> Any:
    """Return an `AsyncZeroconf` on all networks of this computer.

    IPv4 is used where it exists, and IPv6 addresses are announced over it as well. Searches do the
    same.

    Raises
    ------
    OSError
        There is no network.
    """
    asynchronous, versions = library(), importlib.import_module("zeroconf").IPVersion
    own = _own_addresses() if INTERFACES is None else INTERFACES
    usable = [host for host in own if LOOPBACK or not ipaddress.ip_address(host).is_loopback]
    if not usable:
        raise OSError("no network for multicast DNS: this computer has no addresses but its own")
    fours = [host for host in usable if ":" not in host]
    version = versions.V4Only if fours else versions.V6Only
    try:
        return asynchronous.AsyncZeroconf(interfaces=fours or usable, ip_version=version)
    except RuntimeError as error:  # an address has disappeared meanwhile
        raise OSError(f"no network for multicast DNS: {error}") from error


def multicast_question() -> Any:
    """Return the type of question with multicast answers, which reach all programs of a computer.

    A unicast answer reaches only one of the programs that share the port, which may be another one
    than asked: another controller, for example, or the Avahi daemon of the system.
    """
    return importlib.import_module("zeroconf").DNSQuestionType.QM


def reachable_addresses(bound: Iterable[str]) -> list[str]:
    """Return the addresses at which other computers reach a server that listens on `bound`."""
    found: list[str] = []
    for host in bound:
        address = ipaddress.ip_address(host.partition("%")[0])
        if not address.is_unspecified:
            found.append(str(address))
        else:
            found += [own for own in _own_addresses() if (":" in own) == (address.version == 6)]
    return [host for host in dict.fromkeys(found) if LOOPBACK or _is_for_others(host)]


def reaches_others(bound: Iterable[str]) -> bool:
    """Say whether other computers may reach a server that listens on `bound`."""
    return any(LOOPBACK or _is_for_others(host.partition("%")[0]) for host in bound)


def _own_addresses() -> list[str]:
    """Return the addresses of this computer. `ifaddr` comes with the library."""
    adapters = importlib.import_module("ifaddr").get_adapters()
    every = [ip.ip for adapter in adapters for ip in adapter.ips]
    return [ip if isinstance(ip, str) else ip[0] for ip in every]


def _is_for_others(host: str) -> bool:
    address = ipaddress.ip_address(host)
    return not (address.is_loopback or (address.version == 6 and address.is_link_local))
