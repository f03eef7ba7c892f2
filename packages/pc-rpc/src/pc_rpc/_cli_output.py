"""How the ``pc-rpc`` command writes a value: formatted on a terminal, as PYON in a pipe.

The one idea to keep in mind: in a pipe a value is complete and exact; on a terminal it is readable,
and the text says how much was left out.
"""

from __future__ import annotations

import pprint
import sys
from contextlib import nullcontext
from typing import Any

import pyon
from pyon.terminal import emit, legible

SUMMARY_SIZE = 100
"""Elements beyond which a terminal gets only the ends of an array: a screen has room for few
more."""

LONGEST_SHOWN = 8000
"""Characters of a value that are written to a terminal: some four screens of 25 lines."""


def shown(value: Any) -> str:
    """Return a value as text, for a terminal or for a pipe."""
    if not sys.stdout.isatty():
        return pyon.encode(value)
    return "" if value is None else _shortened(_pretty(value))


def _pretty(value: Any) -> str:
    if isinstance(value, str):
        return value
    numpy = sys.modules.get("numpy")  # loaded, if there are arrays in the value
    with numpy.printoptions(threshold=SUMMARY_SIZE) if numpy is not None else nullcontext():
        return pprint.pformat(value, sort_dicts=False)


def _shortened(text: str) -> str:
    if len(text) <= LONGEST_SHOWN:
        return text
    left_out = len(text) - LONGEST_SHOWN
    return f"{text[:LONGEST_SHOWN]}\n... {left_out} more characters (a pipe gets all of them)"


def say(text: str) -> None:
    """Write lines to stdout, with control characters escaped."""
    emit(legible(text, lines=True) + "\n")
