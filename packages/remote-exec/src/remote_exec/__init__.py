"""Run your code next to the driver.

A controller that accepts code serves a second target besides the driver. This target gives every
connection a namespace, in which its code finds the driver as ``controller_driver``. So large data
stay where they are, and only results travel.
"""

from __future__ import annotations

from remote_exec._asyncio_client import AsyncioRemoteExec
from remote_exec._client import RemoteExec, connect_global_rpc
from remote_exec._loop import simple_rexec_server_loop
from remote_exec._running import Interrupted
from remote_exec._server import RemoteExecServer

__all__ = [
    "AsyncioRemoteExec",
    "Interrupted",
    "RemoteExec",
    "RemoteExecServer",
    "connect_global_rpc",
    "simple_rexec_server_loop",
]

__version__ = "1.0.0"
