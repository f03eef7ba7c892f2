"""Values that cannot be decoded here, for example because this program does not know their type.

The one idea to keep in mind: such a value is one leaf, and the rest of the message is valid. It is
replaced by a placeholder, which is encoded as the received text. So a value can pass through a
program that does not know its type (a relay, a recording) and be decoded behind it.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyon

from sync_struct._actions import place

__all__ = ["Repaired", "Undecodable", "decode_around"]

_TAG = "__jsonclass__"

_FORM = "sync_struct_undecodable"
"""The name of placeholders in PYON."""

_CONTAINERS = frozenset({"tuple", "set", "dict", "OrderedDict"})
"""Tags that can be decoded if their contents can."""

_MOST_PARTS = 100
"""Placeholders of one message that are reported, by an error each: a list may have a million."""


class Undecodable:
    """A placeholder for a value that could not be decoded here.

    Attributes
    ----------
    name : str
        Name of the type in PYON.
    text : str
        The received PYON v2.
    reason : str
        Why it could not be decoded.
    """

    __slots__ = ("name", "reason", "text")

    def __init__(self, name: str, text: str, reason: str = "") -> None:
        self.name, self.text, self.reason = name, text, reason

    def __repr__(self) -> str:
        return f"<undecodable {self.name}: {self.reason}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Undecodable) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __deepcopy__(self, memo: dict[int, Any]) -> Undecodable:
        return self  # it is immutable


def _decoded(name: str, text: str) -> Any:
    """Return the value of another program's placeholder; a placeholder if that is unknown here."""
    try:
        return pyon.decode(text)
    except (pyon.DecodeError, ImportError) as error:
        return Undecodable(name, text, getattr(error, "reason", str(error)))


pyon.register(Undecodable, name=_FORM, encode=lambda x: (x.name, x.text), decode=_decoded)


class Repaired(NamedTuple):
    """A message with placeholders in it."""

    message: Any
    """The message, decoded."""

    parts: list[tuple[list[Any], Undecodable]]
    """The path of each placeholder in the message, and the placeholder."""

    def errors(self) -> list[pyon.DecodeError]:
        """Return errors with type and path of the placeholders, at most `_MOST_PARTS`."""
        return [
            pyon.DecodeError(
                f"{_in_structure(self.message, path)}: a value of the type {part.name!r} cannot be "
                f"decoded: {part.reason}"
            )
            for path, part in self.parts[:_MOST_PARTS]
        ]


def _in_structure(message: Any, path: list[Any]) -> str:
    """Return the place in the structure of a value at a path in a message."""
    if path[0] == "mods":
        return _in_structure(message["mods"][path[1]], path[2:])
    if path[0] == "struct":
        return place(path[1:])
    key = [message["key"]] if path[0] == "value" else []
    return place([*message.get("path", ()), *key, *path[1:]])


def decode_around(
    text: str | bytes, buffers: Sequence[memoryview], failure: pyon.DecodeError | ImportError
) -> Repaired:
    """Decode a message that `pyon.decode` rejected, with placeholders for the failing values.

    Raises
    ------
    pyon.DecodeError, ImportError
        The failure, if it is not due to single values.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise failure from None
    repair = _Repair(buffers)
    tree = repair.visit(tree)
    if not repair.found:
        raise failure
    message = pyon.decode(json.dumps(tree), buffers=repair.used)
    parts: list[tuple[list[Any], Undecodable]] = []
    message = _put_in(message, repair, [], parts)
    return Repaired(message, parts)


class _Repair:
    """A walk over the JSON of a message that collects the tags that cannot be decoded."""

    def __init__(self, buffers: Sequence[memoryview]) -> None:
        self.token = secrets.token_hex(8)  # no text can contain it on purpose
        self.found: list[Undecodable] = []
        self.used: list[memoryview] = []
        self._buffers = buffers

    def visit(self, node: Any) -> Any:
        """Return a JSON value in which a marker replaces each tag that cannot be decoded."""
        if isinstance(node, list):
            return [self.visit(item) for item in node]
        if not isinstance(node, dict):
            return node
        if list(node) == [_TAG] and _is_tag(node[_TAG]):
            return self._visit_tag(node)
        return {key: self.visit(item) for key, item in node.items()}

    def _visit_tag(self, node: Any) -> Any:
        name, arguments = node[_TAG]
        if name in _CONTAINERS:
            return {_TAG: [name, self.visit(arguments)]}
        text = json.dumps(_inline(node, self._buffers))
        try:
            pyon.decode(text)
        except (pyon.DecodeError, ImportError) as error:
            reason = getattr(error, "reason", str(error))
            self.found.append(Undecodable(name, text, reason))
            return {_TAG: ["tuple", [[self.token, len(self.found) - 1]]]}
        return _renumber(node, self._buffers, self.used)


def _is_tag(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], list)
    )


def _inline(node: Any, buffers: Sequence[memoryview]) -> Any:
    """Return a tag with its buffers as base64 text."""
    return _with_data(node, lambda number: base64.b64encode(buffers[number]).decode())


def _renumber(node: Any, buffers: Sequence[memoryview], used: list[memoryview]) -> Any:
    """Append the buffers of a tag to `used`, and return the tag with their new numbers."""

    def number_anew(number: int) -> int:
        used.append(buffers[number])
        return len(used) - 1

    return _with_data(node, number_anew)


def _with_data(node: Any, change: Callable[[int], Any]) -> Any:
    """Return a JSON value in which `change` has replaced the references to buffers."""
    if isinstance(node, list):
        return [_with_data(item, change) for item in node]
    if not isinstance(node, dict):
        return node
    if list(node) == [_TAG] and _is_tag(node[_TAG]):
        name, arguments = node[_TAG]
        if name in ("nparray", "npscalar", "bytes") and arguments and type(arguments[-1]) is int:
            return {_TAG: [name, [*arguments[:-1], change(arguments[-1])]]}
    return {key: _with_data(item, change) for key, item in node.items()}


def _put_in(
    value: Any, repair: _Repair, path: list[Any], parts: list[tuple[list[Any], Undecodable]]
) -> Any:
    """Return a decoded value with placeholders for its markers; append these to `parts`."""
    if type(value) is tuple and len(value) == 2 and value[0] == repair.token:
        parts.append((path, repair.found[value[1]]))
        return repair.found[value[1]]
    if isinstance(value, list):
        value[:] = [_put_in(item, repair, [*path, i], parts) for i, item in enumerate(value)]
    elif isinstance(value, dict):
        items = list(value.items())
        value.clear()
        for key, item in items:
            known = _put_in(key, repair, path, parts)
            value[known] = _put_in(item, repair, [*path, known], parts)
    elif type(value) is tuple:
        return tuple([_put_in(item, repair, [*path, i], parts) for i, item in enumerate(value)])
    elif type(value) is set:
        return {_put_in(item, repair, path, parts) for item in value}
    return value
