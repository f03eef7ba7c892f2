"""The `pyon` command: show, check and convert PYON files."""

from __future__ import annotations

import argparse
import errno
import io
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pyon

from ._legible import coloured, legible
from ._legible import for_people as _for_people
from ._repeated_keys import repeated_keys
from ._unregistered import OpenCodec
from ._v1_tokens import comments
from .terminal import complain, run

BOM = b"\xef\xbb\xbf"
NAMES_SHOWN = 10
"""Maximum number of unregistered names in a message."""


class _Refused(pyon.PyonError):
    """A file that can be read, but that ``check --strict`` refuses."""


class _File:
    """A file that was read: its value, and notes about its text."""

    def __init__(self, name: str) -> None:
        self.name = name if name != "-" else "<standard input>"
        self.codec = OpenCodec()
        if name == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(name, "rb") as file:
                data = file.read()
        data = data.removeprefix(BOM)
        self.value: Any = self.codec.decode(data)
        self.text = data.decode()

    def notes(self) -> Iterator[str]:
        """Yield notes: unregistered types and repeated keys."""
        names = self.codec.forms.names
        if names:
            shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
            yield f"unregistered types: {shown}"
        yield from self.repeated_keys()

    def repeated_keys(self) -> Iterator[str]:
        """Yield a note for each repeated key: only its last value is kept."""
        for key, first, again in repeated_keys(self.text, self.codec):
            yield f"line {again}: repeated key {key}, also in line {first}; the last value counts"


def _show(name: str, _: argparse.Namespace) -> None:
    file = _File(name)
    text = legible(_for_people(file.value), file.codec)
    print(coloured(text) if _wants_colour() else text)


def _check(name: str, options: argparse.Namespace) -> None:
    file = _File(name)
    notes = list(file.notes())
    if notes and options.strict:
        raise _Refused("; ".join(notes))
    for note in notes:
        complain("pyon", f"{file.name}: {note}")


def _convert(name: str, options: argparse.Namespace) -> None:
    """Rewrite a file in another version, and keep the old one as a backup."""
    file = _File(name)
    version = 1 if options.to == "v1" else 2
    form = {"version": version, "sort_keys": options.sort_keys}
    text = file.codec.encode(file.value, pretty=True, **form)
    _report_lost_comments(file, text, options.dry_run)
    for note in file.repeated_keys():
        complain("pyon", f"{file.name}: {note}")
    if name == "-":
        print(text if not options.dry_run else f"{name}: would be converted to {options.to}")
        return
    backup = name + ".bak"
    if options.dry_run:
        if os.path.lexists(backup):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), backup)
        print(f"{name}: would be converted to {options.to}")
        return
    _back_up(name, backup)
    try:
        file.codec.store_file(name, file.value, **form)
    except BaseException:  # the file is unchanged
        os.unlink(backup)
        raise


def _report_lost_comments(file: _File, new: str, dry_run: bool) -> None:
    """Report the comments that will be lost; comments that pyon itself wrote are written again."""
    kept = {comment for _, comment in comments(new)}
    lost = [at for at, comment in comments(file.text) if comment not in kept]
    if lost:
        line = file.text.count("\n", 0, lost[0]) + 1
        count = "a comment" if len(lost) == 1 else f"{len(lost)} comments"
        are = "would be" if dry_run else "will be"
        complain("pyon", f"{file.name}: {count} {are} lost (the first in line {line})")


def _back_up(name: str, backup: str) -> None:
    """Copy a file to a new name; leave nothing behind on failure."""
    file = open(backup, "xb")  # noqa: SIM115  (closed below)
    try:
        with file, open(name, "rb") as old:
            shutil.copyfileobj(old, file)
        shutil.copystat(name, backup)
    except BaseException:
        os.unlink(backup)
        raise


def _wants_colour() -> bool:
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyon", description="Show, check and convert PYON files.")
    parser.add_argument("--version", action="version", version=f"pyon {pyon.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    made: dict[str, argparse.ArgumentParser] = {}
    for name, function, text in (
        ("show", _show, "print files readably; arrays as shape, dtype and range"),
        ("check", _check, "report files that are not PYON, and repeated keys"),
        ("convert", _convert, "rewrite files in place; the old files are kept as FILE.bak"),
    ):
        command = made[name] = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "files", nargs="+", metavar="FILE", help="a file, or '-' for standard input"
        )
        command.set_defaults(run=function)
    made["check"].add_argument(
        "--strict", action="store_true", help="fail on repeated keys and unregistered types"
    )
    made["convert"].add_argument(
        "--to", choices=("v1", "v2"), required=True, help="version to write; v2 is JSON"
    )
    made["convert"].add_argument("--sort-keys", action="store_true", help="sort the items of dicts")
    made["convert"].add_argument("--dry-run", action="store_true", help="change nothing")
    return parser


def _failures(options: argparse.Namespace) -> Iterator[str]:
    """Run the command on each file; yield a message for each file that fails."""
    for name in options.files:
        shown = name if name != "-" else "<standard input>"
        try:
            options.run(name, options)
        except FileExistsError as error:
            yield f"{error.filename}: exists already; not overwritten"
        except OSError as error:
            yield f"{shown}: {error.strerror}"
        except RecursionError:
            yield f"{shown}: nested too deeply"
        except (pyon.PyonError, ImportError) as error:
            yield f"{shown}: {error}"


def _run(arguments: list[str] | None) -> int:
    parser = _parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.exit(2, parser.format_help())
    options = parser.parse_args(arguments)
    status = 0
    for line in _failures(options):
        complain("pyon", line)
        status = 1
    return status


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return the exit status: 1 if a file failed."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # characters that the terminal lacks
    return run("pyon", lambda: _run(arguments))
