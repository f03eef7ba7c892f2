"""The subcommand `sync-struct web`."""

from __future__ import annotations

import argparse

from pyon.tcp_options import tls_context
from pyon.terminal import emit
from pyon.web import door_of

from sync_struct._cli_serving import loop_forever
from sync_struct.web._showing import showing

__all__ = ["web"]


async def web(options: argparse.Namespace) -> None:
    """Serve a page that shows structures, until this is cancelled."""
    door = door_of(options)
    tls = tls_context(options)
    async with showing(options.host, options.port, options.names, door, ssl=tls) as served:
        emit(f"{', '.join(options.names)} at {served.url}\n")
        await loop_forever()
