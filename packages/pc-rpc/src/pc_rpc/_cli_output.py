"""What the ``pc-rpc`` command shows of a value: pretty on a terminal, PYON in a pipe.

The one idea to keep in mind: a pipe gets everything, exactly; a terminal gets what a person can
read, and is told how much was left out.
"""

from __future__ import annotations

import pprint
import sys
from contextlib import nullcontext
from typing import Any

import pyon
from pyon.terminal import emit, legible

SUMMARY_SIZE = 100
"""Elements beyond which a terminal is shown only the ends of an array: a screen has room for few
more. A pipe gets them all."""

LONGEST_SHOWN = 8000
"""Characters of a value that a terminal is shown: some four screens of 25 lines."""


def shown(value: Any) -> str:
    """Return a value as a person, or as the program behind a pipe, wants it."""
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
    """Write lines to stdout. What came from elsewhere cannot control the terminal."""
    emit(legible(text, lines=True) + "\n")
