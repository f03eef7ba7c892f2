"""The memory for reading is bounded by the length of the text. (For time, see the benchmarks.)"""

import contextlib
import json
import tracemalloc
from pathlib import Path

import pyon
import pytest

GROWING = json.loads((Path(__file__).parent / "data" / "growing.json").read_text())

PER_BYTE = 50
"""Bytes of memory at the peak for each byte of text."""

CONSTANT = 100_000
"""Bytes that do not depend on the text: tables, what is kept of one error."""


@pytest.fixture(scope="module", autouse=True)
def everything_is_loaded():
    """Load the modules that are loaded on demand, so that they do not count for any text."""
    pyon.decode('[nparray((1, ), "|i1", b"AA=="), (1, 1j), "' + "x" * 1000 + '"]')
    pyon.decode('["' + "x" * 1000 + '"]')


def measure(source):
    """Decode; return the peak memory, and the memory of the value alone."""
    tracemalloc.start()
    try:
        value = None
        with contextlib.suppress(pyon.DecodeError):
            value = pyon.decode(source)
        held, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return highest, held if value is not None else 0


@pytest.mark.parametrize("size", [4000, 16_000])
@pytest.mark.parametrize("piece", GROWING.values(), ids=GROWING)
def test_no_text_takes_more_memory_than_its_length_allows(piece, size):
    text = "[" + ",".join([piece] * (size // len(piece))) + "]"
    # A set of one takes 216 bytes for four of text: there, the value itself is the bound.
    _, spelled = measure(text)
    for source in (text, text[:-1], text.replace(",", ", "), text.encode()):
        highest, _ = measure(source)
        assert highest <= max(PER_BYTE * len(source), 1.2 * spelled) + CONSTANT


def test_depth_takes_no_more_memory_than_length():
    for text in ("(" * 100_000, "[" * 100_000, "{1:" * 100_000, '{"a":(' * 50_000):
        highest, _ = measure(text)
        assert highest <= PER_BYTE * len(text) + CONSTANT
