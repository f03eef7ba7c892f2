"""The command `pc-rpc web`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from typing import TYPE_CHECKING

from pyon.terminal import emit
from pyon.web import Door

from pc_rpc._cli_errors import files_of
from pc_rpc.web._panel import controlling

if TYPE_CHECKING:
    import ssl

__all__ = ["web"]


async def web(options: argparse.Namespace, door: Door, tls: ssl.SSLContext | None) -> None:
    """Serve a control panel until this is cancelled."""
    panel = controlling(options.host, options.port, options.only_target, door, ssl=tls)
    async with contextlib.AsyncExitStack() as stack:
        with files_of("web"):
            served = await stack.enter_async_context(panel)
        emit(f"control panel at {served.url}\n")
        await asyncio.get_running_loop().create_future()
