"""The subcommands of `sync-struct bridge`: out, into NATS, and in, from there."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Callable
from typing import Any

from pyon.tcp_options import tls_context
from pyon.terminal import emit

from sync_struct._cli_reading import error_printer
from sync_struct._cli_serving import loop_forever, serving
from sync_struct.nats._bridge import bridging_in, bridging_out
from sync_struct.nats._connecting import Address

__all__ = ["bridge_in", "bridge_out"]


async def bridge_out(options: argparse.Namespace) -> None:
    """Write notifiers of a publisher into NATS."""
    async with bridging_out(
        options.host,
        options.port,
        options.names,
        _address(options),
        ssl=tls_context(options),
        nats_ssl=_nats_tls(options),
        storage=options.storage,
        replicas=options.replicas,
        on_error=_error_printers(),
        on_state=lambda name, state: emit(f"{name}: {state}\n"),
    ):
        await loop_forever()


async def bridge_in(options: argparse.Namespace) -> None:
    """Publish notifiers from NATS."""
    async with (
        serving(options, options.names, {}, tls=True) as publisher,
        bridging_in(
            publisher,
            _address(options),
            options.names,
            nats_ssl=_nats_tls(options),
            on_error=_error_printers(),
        ),
    ):
        await loop_forever()


def _address(options: argparse.Namespace) -> Address:
    given = {"user_credentials": options.creds, "nkeys_seed": options.nkey}
    return Address(options.nats, **{key: value for key, value in given.items() if value})


def _nats_tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return a TLS context for the engine, or None: with the named authority, if any."""
    if not (options.nats_ca or options.nats_cert):
        return None
    context = ssl.create_default_context(cafile=options.nats_ca)
    if options.nats_cert:
        context.load_cert_chain(options.nats_cert, options.nats_key)
    return context


def _error_printers() -> Callable[[str, Exception], Any]:
    """Return a function that prints errors, without immediate repetitions for a notifier."""
    say: dict[str, Callable[[Exception], None]] = {}
    return lambda name, error: say.setdefault(name, error_printer())(error)
