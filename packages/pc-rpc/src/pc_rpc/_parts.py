"""Methods of a part of a driver, offered by dotted names: ``axis.move``.

The one idea to keep in mind: only whole names that `expose` lists can be called. A call goes to
what the driver has under the names at that time, so a part may be replaced while it is served. When
methods are looked for, a part is found as methods are: in dictionaries, without reading anything.
What is computed is met by the first call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from pc_rpc._attributes import (
    attributes,
    computes_attributes,
    has,
    is_computed,
    is_method,
    kind_of,
)
from pc_rpc._properties import Accessor, accessors

UNKNOWN = object()
"""A part that is not known before a method of it is called."""

_ABSENT = object()


class PartMethod(NamedTuple):
    """A method of a part.

    Attributes
    ----------
    path : tuple of str
        The names of the part, from the target on.
    name : str
        The name of the method.
    member : object
        What stood in a dictionary of the part under that name: None if it is computed.
    """

    path: tuple[str, ...]
    name: str
    member: Any

    def bind(self, target: object) -> Callable[..., Any]:
        """Return what clients call."""
        path, name, member = self.path, self.name, self.member

        def call(*args: Any, **kwargs: Any) -> Any:
            part = functools.reduce(getattr, path, target)
            method = member.bind(part) if type(member) is Accessor else getattr(part, name)
            return method(*args, **kwargs)

        return call

    def part(self, target: object) -> object:
        """Return the part of today, found without reading anything; `UNKNOWN` if it is computed."""
        part = target
        for name in self.path:
            part = _step(part, name)
        return part


def members_of_parts(
    target: object, names: frozenset[str], *, properties: bool
) -> tuple[dict[str, PartMethod], dict[str, str]]:
    """Return the methods that dotted names stand for, and why others stand for none.

    Parameters
    ----------
    target : object
        The driver.
    names : frozenset of str
        All names that are to be exposed.
    properties : bool
        Methods for properties of parts count.
    """
    found, reasons = {}, {}
    for dotted in sorted(name for name in names if "." in name):
        method = _find(target, dotted, properties)
        if isinstance(method, str):
            reasons[dotted] = method
        else:
            found[dotted] = method
    return found, reasons


def _find(target: object, dotted: str, properties: bool) -> PartMethod | str:
    *path, name = dotted.split(".")
    if any(step.startswith("_") for step in (*path, name)):
        return "names with a leading underscore can never be called"
    if not all(map(str.isidentifier, (*path, name))):
        return "it is no name"
    part = target
    for step in path:
        before, part = part, _step(part, step)
        if part is _ABSENT:
            return f"{kind_of(before)!r} object has no attribute {step!r}"
    member = None if part is UNKNOWN else _member(part, name, properties)
    return member if isinstance(member, str) else PartMethod(tuple(path), name, member)


def _step(part: object, name: str) -> object:
    """Return what a part has under a name; `UNKNOWN` if it is computed, or None so far."""
    if part is UNKNOWN:
        return UNKNOWN
    members = attributes(part)
    if name not in members:
        return UNKNOWN if computes_attributes(part) else _ABSENT
    step = members[name]
    return UNKNOWN if step is None or is_computed(step) else step


def _member(part: object, name: str, properties: bool) -> Any:
    """Return what stands under the name of a method; None if it is computed; a text if it is none.

    The text says why.
    """
    members = attributes(part)
    if properties:
        members |= accessors(part, members)
    if name not in members:
        return None if computes_attributes(part) else f"{kind_of(part)!r} object has no such method"
    member = members[name]
    if type(member) is Accessor or is_method(member) or has(type(member), "__call__"):
        return member
    return f"it cannot be called ({kind_of(member)})"
