"""The command line of ``pc-rpc``: its commands and their options.

The one idea to keep in mind: argparse takes ``-1e-3`` and ``-inf`` for unknown options, and allows
no options among arguments. So the arguments of a call are not declared to it: they are the words
that it does not recognise.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

from pyon.tcp_options import add_page_options, add_tls_options, tcp_port

from pc_rpc import __version__
from pc_rpc._cli_errors import STATUSES, USAGE

ARGUMENTS = "PYON values; keyword arguments as name=value; strings in quotes: '\"text\"'"

ANNOUNCE = "--announce"
"""Its value may be missing: ``--announce`` or ``--announce=NAME``."""

TAKE_ARGUMENTS = {"call", "serve"}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options: ``command`` has its name, ``arguments`` the words of the call."""
    parser = _parser()
    words = _with_values(argv)
    if not words:
        parser.exit(USAGE, parser.format_help())
    options, rest = parser.parse_known_args(words)
    if "--" in rest:
        rest.remove("--")
    takes_arguments = options.command in TAKE_ARGUMENTS
    unknown = [word for word in rest if not takes_arguments or word.startswith("--")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.arguments = rest
    return options


def _with_values(argv: Sequence[str] | None) -> list[str]:
    """Return a command line in which `ANNOUNCE` has a value, maybe an empty one.

    argparse would take the word behind an option with an optional value for that value.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    return [f"{w}=" if w == ANNOUNCE and i < end else w for i, w in enumerate(words)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pc-rpc",
        description="Talk to RPC servers, or be one.",
        epilog=_exit_statuses(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pc-rpc {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    def add_client(name: str, text: str) -> argparse.ArgumentParser:
        command = add(name, text)
        command.add_argument("host", help="name or address of the server")
        command.add_argument("port", type=tcp_port, help="TCP port of the server")
        command.add_argument(
            "--timeout", type=_seconds, metavar="S", help="give up after S seconds"
        )
        add_tls_options(command, "server's")
        command.set_defaults(wait=False)
        return command

    listing = add_client("list-targets", "List the targets of a server.")
    methods = add_client("list-methods", "List the methods of a target.")
    calling = add_client("call", "Call a method and show what it returns.")
    prompt = add_client("interactive", "Call methods at a prompt, with completion.")
    leases = add_client("leases", "Show which targets are leased, by whom, why and since when.")
    breaking = add_client("break-lease", "End the current lease on a target.")
    add_client("ping", "Send a request to the server and show how long the answer took.")
    stubs = add_client("stubs", "Write a Python module with the types of all targets.")
    page = add_client("web", "Call methods in a browser: the extra [web].")
    page.add_argument(
        "only_target", nargs="?", metavar="target", help="show this target only (default: all)"
    )
    add_page_options(page, always_token=True)
    for command in (methods, calling, prompt):
        command.add_argument("-t", "--target", help="the target; optional if there is only one")
    for command in (calling, prompt):
        command.add_argument(
            "--wait", action="store_true", help="wait while another client has a lease"
        )
    for command in (listing, methods, calling, leases):
        command.add_argument("--json", action="store_true", help="write JSON (PYON v2)")
    breaking.add_argument("target", help="the target")
    breaking.add_argument(
        "--reason", default="", metavar="TEXT", help="shown to the holder of the lease"
    )
    calling.add_argument("method")
    calling.usage = "%(prog)s [option ...] host port method [argument ...]"
    calling.epilog = f"Arguments: {ARGUMENTS}"
    stubs.add_argument("-o", "--output", metavar="FILE", help="write here instead of to stdout")
    finding = add("find", "List the servers that are announced on the local network.")
    finding.add_argument(
        "--timeout", type=_seconds, metavar="S", help="search for S seconds; default: 3"
    )
    finding.add_argument("--json", action="store_true", help="write JSON (PYON v2)")
    _add_serve(add("serve", "Serve an object of any Python class until terminated."))
    return parser


def _exit_statuses() -> str:
    lines = [f"  {status:<4}{text}" for status, text in STATUSES.items()]
    return "\n".join(["exit status:", *lines])


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}")
    return seconds


def _add_serve(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "factory", metavar="MODULE:CLASS", help="the class or function that makes the driver"
    )
    command.usage = "%(prog)s [option ...] MODULE:CLASS [argument ...]"
    command.epilog = f"Arguments of the class: {ARGUMENTS}"
    command.add_argument(
        "--bind",
        action="append",
        metavar="ADDRESS",
        help="address to listen on; may be repeated; default: this computer only (::1, 127.0.0.1)",
    )
    command.add_argument("--port", type=tcp_port, default=0, help="default: any free port")
    command.add_argument("--target", help="name of the target; default: name of the class")
    command.add_argument("--description", help="description of the server, shown to clients")
    command.add_argument(
        "--allow-parallel", action="store_true", help="let coroutine methods run in parallel"
    )
    command.add_argument(
        "--worker-threads",
        action="store_true",
        help="make, call and close the driver on a thread of its own",
    )
    command.add_argument(
        "--properties", action="store_true", help="add get_NAME and set_NAME for each property"
    )
    command.add_argument(
        "--expose",
        action="append",
        metavar="METHOD",
        help="let clients call only this method; may be repeated; default: all but close",
    )
    command.add_argument(
        "--hide",
        action="append",
        default=[],
        metavar="METHOD",
        help="do not let clients call this method; may be repeated",
    )
    command.add_argument(
        ANNOUNCE,
        metavar="[NAME]",
        help="announce the server to `pc-rpc find`; default name: its description",
    )
    add_tls_options(command, "clients'")
