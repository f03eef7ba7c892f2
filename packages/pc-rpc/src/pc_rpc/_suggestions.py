"""Errors of attributes of clients that are not remote methods, with what to write instead.

The one idea to keep in mind: a hint never suggests a method that would end or reset something.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pc_rpc._signatures import part_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from pc_rpc._methods import Target

NEVER_SUGGESTED = frozenset(
    {"terminate", "close", "exit", "kill", "quit", "shutdown", "stop", "abort", "reset"}
)
"""Names that are never suggested for a misspelt one: a call of them would end something."""

_KINDS = {"property": "a property", "attribute": "an attribute"}


def no_such_method(target: Target, name: str, names: Collection[str]) -> str:
    """Return the message of the error of a name that is not a method; `names` are the methods."""
    if name in target.gone:
        return target.gone[name]
    text = f"no remote method {name!r} in {target.label}"
    if name.startswith("_"):
        return text
    read, change = _accesses(name)
    calls = {read: f"{read}()", change: f"{change}(value)"}
    if around := [call for method, call in calls.items() if method in names]:
        return f"{text}: attributes of a driver cannot be read; use {' or '.join(around)}"
    kind = _KINDS.get(str(part_of(target.described(), "values").get(name)))
    if kind is not None:
        return f"{text}: it is {kind} of the driver, and only methods can be called"
    similar = difflib.get_close_matches(name, set(names) - NEVER_SUGGESTED, 1)
    return f"{text}; did you mean {similar[0]!r}?" if similar else text


def cannot_change(
    target: Target, what: str, name: str, proxy: object, value: object = None
) -> AttributeError:
    """Return the error of an attempt to set or delete an attribute of a client.

    Parameters
    ----------
    target : Target
        The target of the client.
    what : str
        "set" or "delete".
    name : str
        The attribute.
    proxy : object
        The object whose attribute it is: the client, or a part of the target.
    value : object, optional
        The value to set.
    """
    names = target.names or ()
    text = f"cannot {what} {name!r} of {target.label} from here: only its methods can be called"
    read, change = _accesses(name)
    if change in names:
        text += f"; use {change}({_spelt(value)})"
    elif read in names:
        text += f"; it can be read: {read}()"
    elif name in names:
        text += f", and {name} is one"
    return AttributeError(text, name=name, obj=proxy)


def _accesses(name: str) -> tuple[str, str]:
    """Return the names of the methods that would read and set an attribute.

    Examples
    --------
    >>> _accesses("power"), _accesses("axis.speed")
    (('get_power', 'set_power'), ('axis.get_speed', 'axis.set_speed'))
    """
    part, dot, last = name.rpartition(".")
    return f"{part}{dot}get_{last}", f"{part}{dot}set_{last}"


def _spelt(value: object) -> str:
    """Return a number as a literal; "value" for others, whose repr may be long, or run code."""
    short = type(value) in {bool, float} or (type(value) is int and abs(value) < 10**18)
    return repr(value) if short else "value"
