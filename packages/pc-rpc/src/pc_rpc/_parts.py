"""Methods of a part of a driver, offered by dotted names: ``axis.move``.

The one idea to keep in mind: only whole names that `expose` lists can be called. Each call looks
the names up in the driver, so a part may be replaced while it is served. When methods are searched,
parts are found in dictionaries, as methods are, without running code of the driver. Computed parts
are first read by a call.
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
"""A part that is not known before one of its methods is called."""

_ABSENT = object()


class PartMethod(NamedTuple):
    """A method of a part.

    Attributes
    ----------
    path : tuple of str
        The names of the attributes that lead from the target to the part.
    name : str
        The name of the method.
    member : object
        The entry of that name in a dictionary of the part; None if it is computed.
    """

    path: tuple[str, ...]
    name: str
    member: Any

    def bind(self, target: object) -> Callable[..., Any]:
        """Return the function that clients call."""
        path, name, member = self.path, self.name, self.member

        def call(*args: Any, **kwargs: Any) -> Any:
            part = functools.reduce(getattr, path, target)
            method = member.bind(part) if type(member) is Accessor else getattr(part, name)
            return method(*args, **kwargs)

        return call

    def part(self, target: object) -> object:
        """Return the current part, without running code of the driver; or `UNKNOWN`."""
        part = target
        for name in self.path:
            part = _step(part, name)
        return part


def members_of_parts(
    target: object, names: frozenset[str], *, properties: bool
) -> tuple[dict[str, PartMethod], dict[str, str]]:
    """Return the methods of dotted names, and the reasons why other dotted names have none.

    Parameters
    ----------
    target : object
        The driver.
    names : frozenset of str
        All names to expose.
    properties : bool
        Whether properties of parts have methods.
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
        return "it is not a valid name"
    part = target
    for step in path:
        before, part = part, _step(part, step)
        if part is _ABSENT:
            return f"{kind_of(before)!r} object has no attribute {step!r}"
    member = None if part is UNKNOWN else _member(part, name, properties)
    return member if isinstance(member, str) else PartMethod(tuple(path), name, member)


def _step(part: object, name: str) -> object:
    """Return an attribute of a part; `UNKNOWN` if it is computed, or None at present."""
    if part is UNKNOWN:
        return UNKNOWN
    members = attributes(part)
    if name not in members:
        return UNKNOWN if computes_attributes(part) else _ABSENT
    step = members[name]
    return UNKNOWN if step is None or is_computed(step) else step


def _member(part: object, name: str, properties: bool) -> Any:
    """Return the entry of a method; None if it is computed; a text, the reason, if it is none."""
    members = attributes(part)
    if properties:
        members |= accessors(part, members)
    if name not in members:
        return None if computes_attributes(part) else f"{kind_of(part)!r} object has no such method"
    member = members[name]
    if type(member) is Accessor or is_method(member) or has(type(member), "__call__"):
        return member
    return f"it cannot be called ({kind_of(member)})"
