"""Servers that announce themselves on the local network: DNS-SD over multicast DNS.

Needs the extra ``pc-rpc[discovery]``. Servers are announced by
`simple_server_loop(..., announce=True)` or `announced`; `find_servers` lists them. Any computer on
the network can announce anything: a server that was found is not authenticated, unless TLS is used.
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
