"""The `pyon` command: show, check and convert PYON files."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
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


class _Summary:
    """Stands for an array: its shape, dtype and range."""

    def __init__(self, x: Any) -> None:
        self.shape, self.dtype = x.shape, str(x.dtype)
        self.range: tuple[Any, ...] = ()
        if x.size and x.dtype.kind in "iuf":
            self.range = (x.min().item(), x.max().item())


def _summarised() -> pyon.Codec:
    """Give a codec that writes summaries."""
    codec = pyon.Codec()
    codec.register(
        _Summary,
        name="array",
        encode=lambda x: (x.shape, x.dtype, *x.range),
        decode=lambda *_: None,
    )
    return codec


def _with_summaries(x: Any) -> Any:
    """Put a summary in the place of each array that would not fit on a line."""
    if type(x).__name__ == "ndarray":
        return _Summary(x) if x.size > 8 else x
    if type(x) is dict:
        return {key: _with_summaries(value) for key, value in x.items()}
    if type(x) in (list, tuple):
        return type(x)(map(_with_summaries, x))
    return x


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
    text = _summarised().encode(_with_summaries(_load(name)), pretty=True)
    print(_colour(text) if _wants_colour() else text)


def _check(name: str, _: argparse.Namespace) -> None:
    _load(name)


def _convert(name: str, options: argparse.Namespace) -> None:
    """Write a file in another version, and keep what it was."""
    x = _load(name)
    version = 1 if options.to == "v1" else 2
    text = pyon.encode(x, pretty=True, version=version)
    if options.dry_run:
        print(f"{name}: would be converted to {options.to}")
    elif name == "-":
        print(text)
    else:
        backup = name + ".bak"
        with open(backup, "xb") as file, open(name, "rb") as old:
            shutil.copyfileobj(old, file)
        shutil.copystat(name, backup)
        pyon.store_file(name, x, version=version)


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
            yield str(error).splitlines()[0]
        except (pyon.PyonError, ImportError) as error:
            yield f"{name}: {error}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; give the exit status, 1 if a file failed."""
    options = _parser().parse_args(arguments)
    status = 0
    for line in _failures(options):
        print(f"pyon: {line}", file=sys.stderr)
        status = 1
    return status
