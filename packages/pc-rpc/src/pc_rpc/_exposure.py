"""Which methods of a target may be called, determined without running code of the target.

The one idea to keep in mind: attributes are looked up in the dictionaries of the object and of its
classes, and classified by their types. Nothing is read through the object, so no property,
descriptor, ``__getattr__``, ``__class__`` or lazily imported module runs. The result is a set of
names; no request can call anything else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeVar

from pc_rpc._attributes import (
    attributes,
    computes_attributes,
    has,
    is_function,
    is_method,
    kind_of,
    layers,
    of_class,
    own_attributes,
)
from pc_rpc._methods import RemoteMethods, known_names, known_streams
from pc_rpc._parts import PartMethod, members_of_parts
from pc_rpc._properties import Accessor, accessors
from pc_rpc._proxy import Proxy
from pc_rpc._returns import gives_items, is_awaited

Method = TypeVar("Method", bound=Callable[..., Any])

UNLESS_EXPOSED = frozenset({"close"})
"""Methods that are not offered by default: the server decides when a target is closed."""

_MARK = "__rpc_immediate__"

_ADDED = frozenset({Accessor, PartMethod})
"""Types of members that are added to a target."""


def immediate(method: Method) -> Method:
    """Have a method of a target called at once, while other calls run or wait. A decorator.

    For methods that cannot wait for their turn: to abort a running call, or to ask for its
    progress. The method runs on the event loop, also if `Server` has worker threads, so it must
    return quickly, or be a coroutine method. It must not disturb the calls that run meanwhile.

    A client without request ids, of an older stack, gets the reply after those to its own earlier
    calls; the method does not wait for calls of other clients.

    Examples
    --------
    >>> class Stage:
    ...     @immediate
    ...     def abort(self):
    ...         "Stop `move`, if it is running."
    """
    method.__dict__[_MARK] = True
    return method


class Methods(NamedTuple):
    """The methods of one target that may be called.

    Attributes
    ----------
    names : frozenset of str
        All of them.
    immediate : frozenset of str
        Those that do not wait for their turn.
    coroutine : frozenset of str
        Those that are coroutine functions or asynchronous generators.
    members : dict of str to object
        The entries of these names in the dictionaries of the target and its classes, or the
        `Accessor` or `PartMethod` that is called instead.
    streams : frozenset of str
        Those that give their result item by item.
    """

    names: frozenset[str]
    immediate: frozenset[str]
    coroutine: frozenset[str]
    members: Mapping[str, Any]
    streams: frozenset[str]

    @property
    def plain(self) -> frozenset[str]:
        """Those that block the thread in which they are called."""
        return self.names - self.immediate - self.coroutine

    def without(self, name: str) -> Methods:
        """Return all but one of them."""
        left = _methods({n: member for n, member in self.members.items() if n != name})
        return left._replace(streams=self.streams - {name})

    def callee(self, target: object) -> object:
        """Return the object whose attributes of these names are called: the target, or a `View`."""
        added = {n: m.bind(target) for n, m in self.members.items() if type(m) in _ADDED}
        return View(target, added) if added else target


class View:
    """A target with added methods."""

    def __init__(self, target: object, added: Mapping[str, Callable[..., Any]]) -> None:
        self._target = target
        self.__dict__.update(added)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def public_methods(target: object) -> frozenset[str]:
    """Return the names of the methods of a target that are offered by default: `find_methods`."""
    return find_methods(target).names


def find_methods(
    target: object,
    *,
    expose: Collection[str] | None = None,
    hide: Collection[str] = (),
    properties: bool = False,
    strict: bool = True,
) -> Methods:
    """Return the methods of a target that may be called.

    By default these are its functions and methods of any kind (of the class or the object, static,
    class and partial methods, those written in C) without a leading underscore, except ``close``.

    Parameters
    ----------
    target : object
        The driver; or a client, whose remote methods are offered.
    expose : collection of str, optional
        Only these. They may be callable attributes of any kind, and methods of attributes.
    hide : collection of str, optional
        All but these. The name of a property stands for the methods that read and set it.
    properties : bool, optional
        Methods that read and set properties are offered as well: see `accessors`.
    strict : bool, optional
        Raise errors about names in `expose` and `hide`; otherwise ignore those that are wrong.

    Raises
    ------
    ValueError
        The target has no attribute of a name in `expose` or `hide`, or it cannot be exposed.
    """
    if type(target) is RemoteMethods:
        return _remote_methods(target, expose, hide, strict=strict)
    members = attributes(target)
    if properties:
        members |= accessors(target, members)
    of_parts, wrong = members_of_parts(target, frozenset(expose or ()), properties=properties)
    members |= of_parts
    if expose is None:
        names = {name for name, member in members.items() if _is_offered(member)} - UNLESS_EXPOSED
    else:
        names = _exposed(target, members, set(expose) - set(wrong), strict=strict)
    if strict:
        _require(target, members, hide)
        for name, reason in wrong.items():
            raise _cannot_expose(target, name, reason)
    names = {name for name in names if _property_of(members.get(name)) not in hide}
    offered = {name for name in names if is_public(name)}.difference(hide)
    return _methods({name: members.get(name) for name in offered})


def _is_offered(member: object) -> bool:
    """Say whether a member is a method: of the target, of a part, or for a property."""
    return type(member) in _ADDED or is_method(member)


def _property_of(member: object) -> str | None:
    return member.attribute if type(member) is Accessor else None


def is_public(name: str) -> bool:
    """Say whether a method can have this name: no part of it has a leading underscore."""
    return not name.startswith("_") and "._" not in name


def _exposed(
    target: object, members: Mapping[str, Any], expose: Collection[str], *, strict: bool
) -> set[str]:
    """Return the names that can be exposed; raise `ValueError` for others, if `strict`."""
    reasons = {name: _why_not(name, members) for name in expose}
    if strict:
        _require(target, members, expose)
        for name, reason in reasons.items():
            if reason is not None:
                raise _cannot_expose(target, name, reason)
    names = {name for name, reason in reasons.items() if reason is None}
    return names if computes_attributes(target) else names & set(members)


def _cannot_expose(target: object, name: str, reason: str) -> ValueError:
    return ValueError(f"cannot expose {name!r} of a {kind_of(target)!r} object: {reason}")


def _require(target: object, members: Mapping[str, Any], names: Collection[str]) -> None:
    """Check that a target has attributes, unless it computes them."""
    missing = sorted(set(names) - set(members))
    if missing and not computes_attributes(target):
        raise ValueError(f"{kind_of(target)!r} object has no attribute {missing[0]!r}")


def _methods(members: Mapping[str, Any]) -> Methods:
    return Methods(
        frozenset(members),
        frozenset(name for name, member in members.items() if _is_immediate(member)),
        frozenset(n for n, member in members.items() if is_awaited(_innermost(member))),
        members,
        frozenset(n for n, member in members.items() if gives_items(_innermost(member))),
    )


def methods_of_class(cls: type) -> Methods:
    """Return the methods that objects of a class have."""
    members = of_class(cls)
    return _methods({n: m for n, m in members.items() if not n.startswith("_") and is_method(m)})


def _remote_methods(
    target: RemoteMethods,
    expose: Collection[str] | None,
    hide: Collection[str],
    *,
    strict: bool,
) -> Methods:
    """Return the methods that a client offers: those announced by the server behind it."""
    known = known_names(target)
    if known is not None and strict:
        for name in {*(expose or ()), *hide} - set(known):
            raise ValueError(f"{target!r} have no method {name!r}")
    names = set(known or expose or ())
    names = names - UNLESS_EXPOSED if expose is None else names.intersection(expose)
    offered = {name for name in names if is_public(name)}.difference(hide)
    return _methods(dict.fromkeys(offered))._replace(streams=known_streams(target) & offered)


def _why_not(name: str, members: Mapping[str, Any]) -> str | None:
    """Return why an attribute cannot be exposed; None if it can."""
    if name.startswith("_"):
        return "names with a leading underscore can never be called"
    if name not in members:
        return None
    kind = type(members[name])
    if _is_offered(members[name]) or has(kind, "__call__"):
        return None
    around = [access for access in _accesses(name) if type(members.get(access)) is Accessor]
    if around:
        return f"it is a property: expose {' or '.join(around)}"
    if has(kind, "__get__"):
        return f"it is computed when it is read ({kind.__name__}): write a method that returns it"
    why = f"it cannot be called ({kind.__name__})"
    methods = [f"{name}.{method}" for method in find_methods(members[name]).names]
    return f"{why}: name its methods, {', '.join(sorted(methods)[:3])} ..." if methods else why


def _accesses(name: str) -> tuple[str, str]:
    return f"get_{name}", f"set_{name}"


def close_of(target: Any) -> Callable[[], Any] | None:
    """Return the method that closes a target; None if it has none.

    An attribute ``close`` that is no method is not read: it may be a register of the instrument.
    """
    if _why_not("close", attributes(target)) is not None:
        return None
    close = getattr(target, "close", None)
    return close if callable(close) else None


def served(thing: Any) -> Any:
    """Return the object that is served: the remote methods of a client, else the thing itself."""
    if issubclass(type(thing), Proxy):
        return thing.__rpc__
    return thing


class Sole(NamedTuple):
    """Marks an object as a target, not a factory, even if it is callable.

    Attributes
    ----------
    driver : object
        The object.
    """

    driver: Any


def is_factory(given: object) -> bool:
    """Say whether a target that was passed to a server is a factory: class, function or partial."""
    kind = type(given)
    return issubclass(kind, (type, functools.partial)) or is_function(kind)


def _is_immediate(member: object) -> bool:
    return any(own_attributes(layer).get(_MARK) is True for layer in layers(_function(member)))


def _function(member: object) -> object:
    if type(member) is PartMethod:
        member = member.member
    return member.function if type(member) is Accessor else member


def _innermost(member: object) -> object:
    """Return the function itself, without decorators."""
    *_, innermost = (None, *layers(_function(member)))
    return innermost
