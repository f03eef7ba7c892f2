"""The `pyon` command: show, check and convert PYON files."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import re
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pyon

HIGHLIGHT = re.compile(
    r"""(?P<string>b?"[^"\\]*(?:\\.[^"\\]*)*"|b?'[^'\\]*(?:\\.[^'\\]*)*')
      | (?P<word>\b[A-Za-z_]\w*\b)
      | (?P<number>[-+]?\b[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?j?)""",
    re.VERBOSE,
)
COLOURS = {"string": "32", "word": "35", "number": "36"}


SMALL = 8
"""Items up to which an array is shown whole: so many fit on a line."""

ESCAPES = re.compile(r"\\\\|((?:\\u[0-9a-f]{4})+)")


class _Array:
    """What is shown of an array: shape, dtype and range, or all of it if it is small."""

    def __init__(self, x: Any) -> None:
        self.shown: tuple[Any, ...] = (_items(x), str(x.dtype))
        if not 0 < x.size <= SMALL or x.dtype.fields:
            self.shown = (x.shape, str(x.dtype), *_range(x))


class _Scalar:
    """What is shown of a numpy scalar."""

    def __init__(self, x: Any) -> None:
        self.shown = (_text(x) if x.dtype.fields else _items(x), str(x.dtype))


def _items(x: Any) -> Any:
    """Give the items of an array, or a scalar, as Python has them; dates as text."""
    try:
        return (x.astype(str) if x.dtype.kind in "mM" else x).tolist()
    except (ValueError, OverflowError, SystemError):  # numpy has no words for it
        return "?"


def _text(x: Any) -> str:
    try:
        return str(x)
    except (ValueError, SystemError):  # characters that are none
        return "?"


def _range(x: Any) -> tuple[Any, ...]:
    """Give minimum and maximum, leaving aside what is not a number."""
    if not x.size or x.dtype.kind not in "iufmM":
        return ()
    import numpy as np

    return tuple(_items(ufunc.reduce(x, axis=None)) for ufunc in (np.fmin, np.fmax))


def _legible() -> pyon.Codec:
    """Give a codec that writes what is shown of arrays and numpy scalars."""
    codec = pyon.Codec()
    for kind, name in ((_Array, "array"), (_Scalar, "scalar")):
        codec.register(kind, name=name, encode=lambda x: x.shown, decode=lambda *_: None)
    return codec


def _for_people(x: Any) -> Any:
    """Put in the place of arrays and numpy scalars what is to be shown of them."""
    if type(x).__module__ == "numpy":
        return (_Array if type(x).__name__ == "ndarray" else _Scalar)(x)
    if type(x) in (dict, OrderedDict):
        return type(x)((key, _for_people(value)) for key, value in x.items())
    if type(x) in (list, tuple):
        return type(x)(map(_for_people, x))
    return x


def _unescape(text: str) -> str:
    """Write characters that can be printed as they are."""

    def character(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        plain = str(json.loads(f'"{match[0]}"'))
        return plain if plain.isprintable() else match[0]

    return ESCAPES.sub(character, text)


def _colour(text: str) -> str:
    return HIGHLIGHT.sub(lambda m: f"\x1b[{COLOURS[m.lastgroup or 'word']}m{m[0]}\x1b[0m", text)


def _wants_colour() -> bool:
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def _load(name: str) -> Any:
    if name != "-":
        return pyon.load_file(name)
    try:
        return pyon.decode(sys.stdin.buffer.read().removeprefix(b"\xef\xbb\xbf"))
    except pyon.DecodeError as error:
        error.filename = "<standard input>"
        raise


def _show(name: str, _: argparse.Namespace) -> None:
    text = _unescape(_legible().encode(_for_people(_load(name)), pretty=True))
    print(_colour(text) if _wants_colour() else text)


def _check(name: str, _: argparse.Namespace) -> None:
    _load(name)


def _convert(name: str, options: argparse.Namespace) -> None:
    """Write a file in another version, and keep what it was."""
    x = _load(name)
    version = 1 if options.to == "v1" else 2
    text = pyon.encode(x, pretty=True, version=version)
    backup = name + ".bak"
    if options.dry_run:
        if name != "-" and os.path.lexists(backup):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), backup)
        print(f"{name}: would be converted to {options.to}")
    elif name == "-":
        print(text)
    else:
        _back_up(name, backup)
        pyon.store_file(name, x, version=version)


def _back_up(name: str, backup: str) -> None:
    """Copy a file to where there is none; leave nothing behind if that fails."""
    file = open(backup, "xb")  # noqa: SIM115  (closed below)
    try:
        with file, open(name, "rb") as old:
            shutil.copyfileobj(old, file)
        shutil.copystat(name, backup)
    except BaseException:
        os.unlink(backup)
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyon", description="Show, check and convert PYON files.")
    parser.add_argument("--version", action="version", version=f"pyon {pyon.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("show", _show, "print files readably; arrays as shape, dtype and range"),
        ("check", _check, "say which files are not PYON"),
        ("convert", _convert, "rewrite files in place; the old ones are kept as FILE.bak"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("files", nargs="+", metavar="FILE", help="'-': standard input")
        command.set_defaults(run=run)
    command.add_argument("--to", choices=("v1", "v2"), required=True, help="v2 is JSON")
    command.add_argument("--dry-run", action="store_true", help="change nothing")
    return parser


def _failures(options: argparse.Namespace) -> Iterator[str]:
    """Run the command on each file; give a line for each that fails."""
    for name in options.files:
        try:
            options.run(name, options)
        except FileExistsError as error:
            yield f"{error.filename}: exists already, and is not overwritten"
        except OSError as error:
            yield f"{name}: {error.strerror}"
        except pyon.DecodeError as error:
            error.filename = None
            yield f"{name if name != '-' else '<standard input>'}: {error}"
        except RecursionError:
            yield f"{name}: nested too deeply"
        except (pyon.PyonError, ImportError) as error:
            yield f"{name}: {error}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; give the exit status, 1 if a file failed."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where the terminal has no such letter
    status = 0
    for line in _failures(options):
        print(f"pyon: {line}", file=sys.stderr)
        status = 1
    return status
