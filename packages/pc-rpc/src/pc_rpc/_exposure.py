"""Which methods of a target may be called, found without touching the target.

The one idea to keep in mind: attributes are looked up in the dictionaries of the object and of its
classes, and judged by their types. Nothing is read through the object, so no property, descriptor,
``__getattr__`` or lazily imported module runs, and nobody's ``__class__`` is asked. What is not in
the set of names that results cannot be called by any request.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pc_rpc._methods import Proxy, RemoteMethods, known_names

Method = TypeVar("Method", bound=Callable[..., Any])

UNLESS_EXPOSED = frozenset({"close"})
"""Methods that are not offered by default: the server says when a target is closed."""

_MARK = "__rpc_immediate__"

_C_FUNCTIONS = (types.BuiltinFunctionType, types.MethodWrapperType, types.MethodType)
_IMMUTABLE_DICTS = (types.GetSetDescriptorType, types.MemberDescriptorType)

# Of classes, read past any metaclass.
_bases_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_contents_of: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__


def immediate(method: Method) -> Method:
    """Have a method of a target called at once, while others run or wait. A decorator.

    For what cannot wait for its turn: to abort what another call does, to ask how far it is. It
    runs on the event loop, also if `Server` has worker threads, so it must return quickly, or be a
    coroutine method; and it must be harmless to the call that it runs beside.

    To a client without request ids, that is one of an older stack, it is answered when the earlier
    calls of its own connection have been, but does not wait for those of others.

    Examples
    --------
    >>> class Stage:
    ...     @immediate
    ...     def abort(self):
    ...         "Have `move`, which may be running, stop."
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
        Those that are coroutine functions.
    members : dict of str to object
        What stands under their names in the dictionaries of the target and its classes.
    """

    names: frozenset[str]
    immediate: frozenset[str]
    coroutine: frozenset[str]
    members: Mapping[str, Any]

    @property
    def plain(self) -> frozenset[str]:
        """Those that occupy the thread in which they are called."""
        return self.names - self.immediate - self.coroutine

    def without(self, name: str) -> Methods:
        """Return all but one of them."""
        return _methods({n: member for n, member in self.members.items() if n != name})


def public_methods(target: object) -> frozenset[str]:
    """Return the names of the methods of a target that are offered unless something else is said.

    See `find_methods`.
    """
    return find_methods(target).names


def find_methods(
    target: object,
    *,
    expose: Collection[str] | None = None,
    hide: Collection[str] = (),
    strict: bool = True,
) -> Methods:
    """Return the methods of a target that may be called.

    By default these are its functions and methods of any kind (of the class or the object, static,
    class and partial methods, those written in C) without a leading underscore, except ``close``.

    Parameters
    ----------
    target : object
        The driver, for example; or a client, which offers the remote methods.
    expose : collection of str, optional
        Only these. They may be callable attributes of any kind.
    hide : collection of str, optional
        All but these.
    strict : bool, optional
        Check `expose` and `hide`, otherwise take what there is.

    Raises
    ------
    ValueError
        A name in `expose` or `hide` is that of no attribute, or cannot be exposed.
    """
    if type(target) is RemoteMethods:
        return _remote_methods(target, expose, hide, strict=strict)
    members = attributes(target)
    if expose is None:
        names = {name for name, member in members.items() if is_method(member)} - UNLESS_EXPOSED
    else:
        names = _exposed(target, members, expose, strict=strict)
    if strict:
        _require(target, members, hide)
    offered = {name for name in names if not name.startswith("_")}.difference(hide)
    return _methods({name: members.get(name) for name in offered})


def _exposed(
    target: object, members: Mapping[str, Any], expose: Collection[str], *, strict: bool
) -> set[str]:
    """Return the names that can be exposed; raise why others cannot."""
    reasons = {name: _why_not(name, members) for name in expose}
    if strict:
        _require(target, members, expose)
        for name, reason in reasons.items():
            if reason is not None:
                kind = kind_of(target)
                raise ValueError(f"cannot expose {name!r} of a {kind!r} object: {reason}")
    names = {name for name, reason in reasons.items() if reason is None}
    return names if _computes_attributes(target) else names & set(members)


def _require(target: object, members: Mapping[str, Any], names: Collection[str]) -> None:
    """Check that a target has attributes, unless it computes them."""
    missing = sorted(set(names) - set(members))
    if missing and not _computes_attributes(target):
        raise ValueError(f"{kind_of(target)!r} object has no attribute {missing[0]!r}")


def _methods(members: Mapping[str, Any]) -> Methods:
    return Methods(
        frozenset(members),
        frozenset(name for name, member in members.items() if _is_immediate(member)),
        frozenset(name for name, member in members.items() if _is_coroutine(member)),
        members,
    )


def methods_of_class(cls: type) -> Methods:
    """Return the methods that a class gives its objects."""
    members: dict[str, Any] = {}
    for base in reversed(_bases_of(cls)):
        members.update(_contents_of(base))
    return _methods({n: m for n, m in members.items() if not n.startswith("_") and is_method(m)})


def _remote_methods(
    target: RemoteMethods,
    expose: Collection[str] | None,
    hide: Collection[str],
    *,
    strict: bool,
) -> Methods:
    """Return the methods that a client offers: those that its own server has announced."""
    known = known_names(target)
    if known is not None and strict:
        for name in {*(expose or ()), *hide} - set(known):
            raise ValueError(f"{target!r} have no method {name!r}")
    names = set(known or expose or ())
    names = names - UNLESS_EXPOSED if expose is None else names.intersection(expose)
    offered = {name for name in names if not name.startswith("_")}.difference(hide)
    return _methods(dict.fromkeys(offered))


def _why_not(name: str, members: Mapping[str, Any]) -> str | None:
    """Return why an attribute cannot be exposed; None if it can."""
    if name.startswith("_"):
        return "names with a leading underscore can never be called"
    if name not in members:
        return None
    kind = type(members[name])
    if is_method(members[name]) or _has(kind, "__call__"):
        return None
    if _has(kind, "__get__"):
        return f"it is computed when it is read ({kind.__name__}): write a method that returns it"
    return f"it cannot be called ({kind.__name__})"


def close_of(target: Any) -> Callable[[], Any] | None:
    """Return the method that closes a target; None if it has none.

    What is called ``close`` and is no method is not read: it may be a register of the instrument.
    """
    if _why_not("close", attributes(target)) is not None:
        return None
    close = getattr(target, "close", None)
    return close if callable(close) else None


def served(thing: Any) -> Any:
    """Return what is served of a target: of a client its remote methods, else the thing itself."""
    if issubclass(type(thing), Proxy):
        return thing.__rpc__
    return thing


def is_factory(given: object) -> bool:
    """Say whether what a server was given makes its targets: a class, a function, a partial."""
    kind = type(given)
    return issubclass(kind, (type, functools.partial)) or _is_function(kind)


# Attributes, without reading them.


def attributes(target: object) -> dict[str, Any]:
    """Return what stands in the dictionaries of an object, its slots and its classes, by name."""
    kind = type(target)
    found: dict[str, Any] = {}
    for base in reversed(_bases_of(kind)):
        found.update(_contents_of(base))
    for name, member in list(found.items()):
        if type(member) is types.MemberDescriptorType and name not in {"__dict__", "__weakref__"}:
            found.update(_slot(name, member, target))
    for name, member in _own_attributes(target).items():
        # What a class computes goes first: a cached value does not make it a method.
        if type(name) is str and not (name in found and _is_computed(found[name])):
            found[name] = member
    return found


def values_of(target: object) -> dict[str, str]:
    """Return what of a target is no method: its public names, each "property" or "attribute"."""
    return {
        name: "property" if _is_computed(member) else "attribute"
        for name, member in sorted(attributes(target).items())
        if not name.startswith("_") and not is_method(member)
    }


def _own_attributes(target: object) -> dict[str, Any]:
    """Return the contents of the dictionary of an object itself."""
    for base in _bases_of(type(target)):
        descriptor = _contents_of(base).get("__dict__")
        if descriptor is not None:
            if type(descriptor) not in _IMMUTABLE_DICTS:
                break  # made up by the class
            own = descriptor.__get__(target)
            return dict.copy(own) if issubclass(type(own), dict) else dict(own or ())
    return {}


def _slot(name: str, member: Any, target: object) -> dict[str, Any]:
    try:
        return {name: member.__get__(target)}  # a place in the object's memory: no code runs
    except AttributeError:
        return {}  # empty


def _has(kind: type, name: str) -> bool:
    return any(name in _contents_of(base) for base in _bases_of(kind))


def _in_c(kind: type, name: str) -> bool:
    """Say whether a special method of a type is written in C."""
    for base in _bases_of(kind):
        if name in _contents_of(base):
            return type(_contents_of(base)[name]) is types.WrapperDescriptorType
    return False


def _is_computed(member: object) -> bool:
    return _has(type(member), "__get__") and not is_method(member)


def _computes_attributes(target: object) -> bool:
    """Say whether a target may have attributes that stand in no dictionary."""
    kind = type(target)
    if _has(kind, "__getattr__") or not _in_c(kind, "__getattribute__"):
        return True
    return issubclass(kind, types.ModuleType) and "__getattr__" in _own_attributes(target)


def kind_of(target: object) -> str:
    """Return the name of an object's class."""
    return type.__dict__["__name__"].__get__(type(target))  # type: ignore[no-any-return]


# What a member is.


def is_method(member: object) -> bool:
    """Say whether what stands in a dictionary is a function or method of any kind."""
    kind = type(member)
    if issubclass(kind, (staticmethod, classmethod)):
        return _in_c(kind, "__get__") and is_method(_wrapped(member))
    if kind in {functools.partialmethod, functools.singledispatchmethod}:
        return is_method(_wrapped(member))
    return issubclass(kind, functools.partial) or _is_function(kind)


def _is_function(kind: type) -> bool:
    """Say whether a type is one of functions, in any language.

    They are what is called, and bound to an object, by code in C: those of Python, of Cython, of
    `functools.lru_cache` and of wrapt among them. No class that computes an attribute is like that.
    """
    return issubclass(kind, _C_FUNCTIONS) or (_in_c(kind, "__call__") and _in_c(kind, "__get__"))


def _wrapped(member: Any) -> Any:
    """Return what a method object of one of Python's own types is made of; None of others."""
    kind = type(member)
    for cls in (staticmethod, classmethod, types.MethodType):
        if issubclass(kind, cls):
            return cls.__dict__["__func__"].__get__(member)
    if issubclass(kind, functools.partial):
        return functools.partial.__dict__["func"].__get__(member)
    if kind in {functools.partialmethod, functools.singledispatchmethod}:
        return member.func
    return None


def _layers(member: object) -> Iterator[object]:
    while member is not None:
        yield member
        member = _wrapped(member)


def _is_immediate(member: object) -> bool:
    return any(_own_attributes(layer).get(_MARK) is True for layer in _layers(member))


def _is_coroutine(member: object) -> bool:
    *_, innermost = _layers(member) if member is not None else (None,)
    return type(innermost) is types.FunctionType and inspect.iscoroutinefunction(innermost)
