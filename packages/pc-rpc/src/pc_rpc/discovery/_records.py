"""The DNS record of a server, written and read; pure. PROTOCOL.md is the normative description.

The one idea to keep in mind: any computer on the network may have written the record that is read.
It may contain any bytes, and is used as text only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pyon.terminal import legible

SERVICE = "_pc-rpc._tcp.local."
"""The type of the service."""

VERSION = "1"

LONGEST_TEXT = 255
"""Maximum size of a string in a TXT record with its key, in bytes: its length field is one byte."""

LONGEST_LABEL = 63
"""Maximum size of a label in a DNS name, in bytes."""

MORE = "…"
"""Marks the place where a text was cut."""


class Record(NamedTuple):
    """The contents of a record."""

    name: str
    targets: tuple[str, ...]
    description: str
    tls: bool


def label(name: str, host: str, port: int) -> str:
    """Return the name of an instance: unique, and shown by other programs that browse.

    Examples
    --------
    >>> label("laser of table 3", "lab-pc.example", 3249)
    'laser of table 3 (lab-pc 3249)'
    """
    where = f" ({host.partition('.')[0]} {port})"
    plain = legible(name).replace(".", "-").strip() or "server"
    return cut(plain, LONGEST_LABEL - len(where.encode())) + where


def cut(text: str, size: int) -> str:
    """Return a text cut to at most `size` bytes in UTF-8, with a mark if it was cut.

    Examples
    --------
    >>> cut("laser", 5), cut("lasers", 5), cut("ééé", 5)
    ('laser', 'la…', 'é…')
    """
    data = text.encode("utf-8", "replace")
    if len(data) <= size:
        return data.decode()
    return data[: max(0, size - len(MORE.encode()))].decode("utf-8", "ignore") + MORE


def properties(record: Record) -> dict[str, str]:
    """Return the strings of a TXT record, by key."""
    return {
        "txtvers": VERSION,
        "name": _value("name", record.name),
        "targets": _whole_words("targets", record.targets),
        "description": _value("description", record.description),
        "tls": "1" if record.tls else "0",
    }


def _value(key: str, text: str) -> str:
    return cut(text, LONGEST_TEXT - len(key) - 1)


def _whole_words(key: str, words: Iterable[str]) -> str:
    """Return words separated by spaces, as many as fit, and a mark if some do not."""
    text = ""
    for word in words:
        longer = f"{text} {word}".strip()
        if _value(key, f"{longer} {MORE}") != f"{longer} {MORE}":
            return f"{text} {MORE}".strip()
        text = longer
    return text


def read(found: Mapping[bytes, bytes | None], instance: str) -> Record:
    """Return the contents of a record.

    Parameters
    ----------
    found : dict of bytes to bytes
        The strings of the TXT record, by key.
    instance : str
        The full name of the record, used if it has no string ``name``.
    """

    def text(key: str) -> str:
        return (found.get(key.encode()) or b"").decode("utf-8", "replace")

    name = text("name") or instance.removesuffix(f".{SERVICE}")
    return Record(name, tuple(text("targets").split()), text("description"), text("tls") == "1")
