"""Servers that announce themselves on the local network: DNS-SD over multicast DNS.

The extra ``pc-rpc[discovery]``. Servers are announced by `simple_server_loop(..., announce=True)`,
or by `announced`; `find_servers` lists them. What is found is what anybody on the network says:
finding a server is no reason to trust it, TLS is.
"""

from __future__ import annotations

from pc_rpc.discovery._announcing import announced
from pc_rpc.discovery._finding import (
    SEARCH,
    FoundServer,
    asyncio_find_server,
    asyncio_find_servers,
    find_server,
    find_servers,
)

__all__ = [
    "SEARCH",
    "FoundServer",
    "announced",
    "asyncio_find_server",
    "asyncio_find_servers",
    "find_server",
    "find_servers",
]
