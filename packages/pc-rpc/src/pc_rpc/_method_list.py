"""The method list: the description of the methods of a target, for people and programs.

The one idea to keep in mind: making it may run users' code (the ``repr`` of a default, a
``__signature__``), so it is made in another thread than the event loop's, and every text in it is
an exact `str`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import pyon

from pc_rpc._attributes import attributes, values_of
from pc_rpc._errors import exact_text, qualified_name
from pc_rpc._exposure import Methods
from pc_rpc._methods import RemoteMethods, known_description, known_values
from pc_rpc._parts import UNKNOWN, PartMethod
from pc_rpc._properties import Accessor

Entry = tuple[dict[str, Any], str | None]

TERMINATE_SPEC = (  # as in the established servers
    {
        "args": ["self"],
        "defaults": None,
        "varargs": None,
        "varkw": None,
        "kwonlyargs": [],
        "kwonlydefaults": [],
    },
    "Terminate the server.",
)


def method_list(
    target: object,
    methods: Methods,
    *,
    builtin_terminate: bool,
    version: int,
    values: bool = False,
    streams: bool = False,
) -> dict[str, Any]:
    """Return the answer to ``get_rpc_method_list``.

    Never raises, for any kind of method. The result can be encoded in the generation `version`.
    With `values`, it includes public names that are no methods; with `streams`, the methods that
    give their results item by item. Established clients know neither.
    """
    if type(target) is RemoteMethods:
        entries, doc = _remote_entries(target, methods)
    else:
        doc = _text(attributes(target).get("__doc__"))
        entries = {
            name: _entry_of(name, member, target, version)
            for name, member in sorted(methods.members.items())
        }
    if builtin_terminate:
        entries.pop("terminate", None)
        entries["terminate"] = TERMINATE_SPEC
    listed: dict[str, Any] = {"docstring": doc, "methods": entries}
    if values:
        found = known_values(target) if type(target) is RemoteMethods else values_of(target)
        listed["values"] = {name: kind for name, kind in found.items() if name not in entries}
    if streams:
        listed["streams"] = sorted(methods.streams)
    return listed


def _remote_entries(target: RemoteMethods, methods: Methods) -> tuple[dict[str, Entry], str | None]:
    """Return the entries of remote methods, as far as their client knows them."""
    described = known_description(target)
    known = described.get("methods")
    entries: dict[str, Entry] = {name: (_spec(_unknown, 2), None) for name in sorted(methods.names)}
    if isinstance(known, Mapping):
        entries |= {name: known[name] for name in entries if name in known}
    return entries, _text(described.get("docstring"))


def _entry_of(name: str, member: Any, target: object, version: int) -> Entry:
    if type(member) is PartMethod:
        name, member, target = member.name, member.member, member.part(target)
        if member is None or target is UNKNOWN:
            return _spec(_unknown, version), None
    return _entry(_bound(member, target), _doc(name, member, target), version)


def _entry(method: Any, doc: str | None, version: int) -> Entry:
    try:
        return _spec(method, version), doc
    except BaseException:  # no signature, or users' code, which may raise SystemExit
        return _spec(_unknown, version), doc


def _spec(method: Any, version: int) -> dict[str, Any]:
    spec = inspect.getfullargspec(method)._asdict()
    for name in ("args", "kwonlyargs"):
        spec[name] = [exact_text(argument) for argument in spec[name]]
    for name in ("varargs", "varkw"):
        spec[name] = None if spec[name] is None else exact_text(spec[name])
    spec["annotations"] = {
        exact_text(name): _annotation(value) for name, value in dict(spec["annotations"]).items()
    }
    if spec["defaults"] is not None:
        spec["defaults"] = tuple(_default(value, version) for value in spec["defaults"])
    if spec["kwonlydefaults"] is not None:
        spec["kwonlydefaults"] = {
            exact_text(name): _default(value, version)
            for name, value in spec["kwonlydefaults"].items()
        }
    return spec


def _unknown(self: object, *args: Any, **kwargs: Any) -> Any:
    """Stand in for a method without a known signature."""


def _bound(member: Any, target: object) -> Any:
    """Return an object with the signature of a method, with ``self`` as the first parameter."""
    if type(member) is Accessor:
        return member.described()
    if type(member) in {staticmethod, classmethod}:
        return member.__func__
    if type(member) in {functools.partialmethod, functools.singledispatchmethod}:
        return member.__get__(target, type(target))
    return member


def _doc(name: str, member: Any, target: object) -> str | None:
    """Return the documentation of a method or property, or of the one that it overrides."""
    if type(member) is Accessor:
        name, member = member.attribute, member.member
    candidates = [member, *(base.__dict__.get(name) for base in type(target).__mro__)]
    for candidate in candidates:
        with contextlib.suppress(BaseException):  # a callable object may compute it
            doc = _text(getattr(candidate, "__doc__", None)) if candidate is not None else None
            if doc is not None:
                return doc
    return None


def _text(doc: object) -> str | None:
    return inspect.cleandoc(exact_text(doc)) if isinstance(doc, str) else None


def _annotation(annotation: Any) -> str:
    if isinstance(annotation, str):
        return exact_text(annotation)
    try:
        if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
            return exact_text(annotation.__name__)
        return exact_text(inspect.formatannotation(annotation))
    except BaseException:
        return _nameless(annotation)


def _nameless(thing: object) -> str:
    """Return the class of an object whose `repr` fails, as text."""
    return f"<{qualified_name(type(thing)).rpartition('.')[2]}>"


def _default(value: Any, version: int) -> Any:
    """Return a default value, or its text if it cannot be encoded."""
    try:
        pyon.encode(value, version=version)
    except BaseException:  # registered forms may raise anything, and so may repr
        with contextlib.suppress(BaseException):
            return exact_text(repr(value))
        return _nameless(value)
    return value
