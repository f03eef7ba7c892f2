"""The subcommands of `sync-struct` that publish: publish, relay, replay."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pyon
from pyon.tcp_options import loopback_addresses, tls_context
from pyon.terminal import complain, emit

from sync_struct._addresses import gateway_of, is_address, name_in
from sync_struct._cli_reading import error_printer
from sync_struct._mods import process_mod
from sync_struct._notifier import Notifier
from sync_struct._publisher import Publisher
from sync_struct._recording import Record, read_recording
from sync_struct._relay import Reflection, relaying
from sync_struct._replay import play, state_at

__all__ = ["loop_forever", "publish", "relay", "replay", "serving"]


async def publish(options: argparse.Namespace) -> None:
    """Serve the structure in a file."""
    notifier = Notifier(pyon.load_file(options.file))
    name = options.name or options.file.stem
    async with serving(options, [name], {name: notifier}, tls=True):
        if options.editable:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            # A daemon thread, since reading from stdin cannot be interrupted.
            threading.Thread(target=_edit, args=(notifier, loop, ended), daemon=True).start()
            await ended.wait()
        else:
            await loop_forever()


async def relay(options: argparse.Namespace) -> None:
    """Publish the notifiers of another publisher."""
    say = {name: error_printer() for name in options.names}
    async with (
        serving(options, options.names, {}, tls=options.serve_tls) as publisher,
        relaying(
            publisher,
            options.host,
            options.port,
            options.names,
            ssl=tls_context(options),
            on_error=lambda name, error: say[name](error),
        ),
    ):
        await loop_forever()


async def replay(options: argparse.Namespace) -> None:
    """Print a recorded structure, or publish its steps again."""
    records = await _records(options)
    if not options.publish:
        emit(pyon.encode(state_at(records, options.until), pretty=True) + "\n")
        return
    first = options.files[0]
    named = name_in(first) if is_address(first) else Path(first).name.partition(".")[0]
    name = options.name or named
    async with serving(options, [name], {}, tls=True) as publisher:
        wanted = (r for r in records if options.until is None or r.time <= options.until)
        await play(wanted, Reflection(publisher, name), speed=options.speed)
        complain("sync-struct", "end of the recording; its last state is served until Ctrl-C")
        await loop_forever()


async def _records(options: argparse.Namespace) -> Iterable[Record]:
    if not any(map(is_address, options.files)):
        return read_recording(list(map(Path, options.files)))
    if len(options.files) > 1:
        raise ValueError("expected either one address or files")
    address: str = options.files[0]
    records: list[Record] = await gateway_of(address).read_history(address, None)
    return records


async def loop_forever() -> None:
    """Wait until this is cancelled."""
    await asyncio.get_running_loop().create_future()


@contextlib.asynccontextmanager
async def serving(
    options: argparse.Namespace, names: list[str], notifiers: dict[str, Notifier], *, tls: bool
) -> AsyncIterator[Publisher]:
    """Return a context with a publisher on the address in the options; print that address."""
    async with Publisher(notifiers) as publisher:
        bind = [options.bind] if options.bind else loopback_addresses()
        context = tls_context(options, server=True) if tls else None
        await publisher.start(bind, options.serve_port, ssl=context)
        for host, port in sorted(publisher.addresses):
            emit(f"{', '.join(names)} at {host} port {port}\n")
        yield publisher


def _edit(notifier: Notifier, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    """Apply mods from stdin, until it ends."""
    for line in sys.stdin:
        try:
            process_mod(notifier, pyon.decode(line))
        except (ValueError, TypeError, LookupError) as error:
            complain("sync-struct", error)
    with contextlib.suppress(RuntimeError):  # the loop has been closed already
        loop.call_soon_threadsafe(ended.set)
