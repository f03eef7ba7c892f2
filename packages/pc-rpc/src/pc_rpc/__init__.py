"""Remote procedure calls to a driver's methods, over TCP.

`Client`, `AsyncioClient` and `BestEffortClient` call the methods of the targets of a `Server`. The
names are loaded when they are first used: a blocking client needs neither asyncio nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "1.0.0"

if TYPE_CHECKING:
    from pc_rpc._asyncio_client import AsyncioClient
    from pc_rpc._best_effort import BestEffortClient
    from pc_rpc._caller import current_extra_info, current_peer
    from pc_rpc._client import Client
    from pc_rpc._errors import (
        ConnectionLost,
        GenericRemoteException,
        IncompatibleServer,
        LeaseLost,
        ProtocolError,
        RpcError,
        TargetLeased,
        UnknownServer,
        register_exception,
    )
    from pc_rpc._exposure import immediate
    from pc_rpc._protocol import AutoTarget
    from pc_rpc._server import Server
    from pc_rpc._server_loop import serve, simple_server_loop
    from pc_rpc.discovery import find_servers

__all__ = [
    "AsyncioClient",
    "AutoTarget",
    "BestEffortClient",
    "Client",
    "ConnectionLost",
    "GenericRemoteException",
    "IncompatibleServer",
    "LeaseLost",
    "ProtocolError",
    "RpcError",
    "Server",
    "TargetLeased",
    "UnknownServer",
    "current_extra_info",
    "current_peer",
    "find_servers",
    "immediate",
    "register_exception",
    "serve",
    "simple_server_loop",
]

_HOMES = {
    "AsyncioClient": "_asyncio_client",
    "AutoTarget": "_protocol",
    "BestEffortClient": "_best_effort",
    "Client": "_client",
    "Server": "_server",
    "current_extra_info": "_caller",
    "current_peer": "_caller",
    "find_servers": "discovery",
    "immediate": "_exposure",
    "serve": "_server_loop",
    "simple_server_loop": "_server_loop",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    home = importlib.import_module(f"pc_rpc.{_HOMES.get(name, '_errors')}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
