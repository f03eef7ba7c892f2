"""What of a target its callers can reach, and what they are told about it.

The one idea to keep in mind: a target's names are settled when a client selects it, before anything
is called. What is not in that set cannot be called, whatever a client sends.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import pyon

Method = TypeVar("Method", bound=Callable[..., Any])

_COMPUTED = (property, functools.cached_property)

TERMINATE_SPEC = (  # as the established servers describe theirs
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
    method.__dict__["__rpc_immediate__"] = True
    return method


def is_immediate(method: object) -> bool:
    """Say whether a method is to be called at once."""
    try:
        return getattr(method, "__rpc_immediate__", None) is True
    except Exception:  # of an object that can be called and looks attributes up in its own way
        return False


def is_coroutine(method: object) -> bool:
    """Say whether calling a method only makes what is to be awaited on the event loop."""
    try:
        return inspect.iscoroutinefunction(method)
    except Exception:  # as above
        return False


def public_methods(
    target: object, *, expose: Collection[str] | None = None, hide: Collection[str] = ()
) -> frozenset[str]:
    """Return the names of a target's methods that may be called.

    These are its callable attributes without a leading underscore. Properties are not looked into:
    reading one may do anything.

    Parameters
    ----------
    target : object
        The driver, for example.
    expose : collection of str, optional
        Only these.
    hide : collection of str, optional
        All but these.
    """
    return frozenset(
        name
        for name in (dir(target) if expose is None else expose)
        if not name.startswith("_") and name not in hide and _is_method(target, name)
    )


def _is_method(target: object, name: str) -> bool:
    try:
        computed = isinstance(getattr(type(target), name, None), _COMPUTED)
        return not computed and callable(getattr(target, name, None))
    except Exception:  # computed in another way, and not now
        return False


def method_list(
    target: object, names: Collection[str], *, builtin_terminate: bool, version: int
) -> dict[str, Any]:
    """Return the answer to ``get_rpc_method_list``: what people and programs are told.

    Never raises, whatever the methods are; `version` is the generation it must be encodable in.
    """
    methods = {name: _entry(getattr(target, name), version) for name in sorted(names)}
    if builtin_terminate:
        methods.pop("terminate", None)
        methods["terminate"] = TERMINATE_SPEC
    return {"docstring": _doc(target), "methods": methods}


def _entry(method: Any, version: int) -> tuple[dict[str, Any], str | None]:
    try:
        spec = inspect.getfullargspec(method)._asdict()
    except (TypeError, ValueError):  # no signature, or one that cannot be read
        spec = inspect.getfullargspec(_unknown)._asdict()
    spec["annotations"] = {
        name: _annotation(value) for name, value in dict(spec["annotations"]).items()
    }
    if spec["defaults"] is not None:
        spec["defaults"] = tuple(_default(value, version) for value in spec["defaults"])
    if spec["kwonlydefaults"] is not None:
        spec["kwonlydefaults"] = {
            name: _default(value, version) for name, value in spec["kwonlydefaults"].items()
        }
    return spec, _doc(method)


def _unknown(self: object, *args: Any, **kwargs: Any) -> Any:
    """Stand in for a method that does not tell its signature."""


def _doc(thing: object) -> str | None:
    doc = inspect.getdoc(thing)
    return doc if isinstance(doc, str) else None


def _annotation(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__name__
    try:
        return inspect.formatannotation(annotation)
    except Exception:
        return _nameless(annotation)


def _nameless(thing: object) -> str:
    """Tell what it is, if its own `repr` fails."""
    return f"<{type(thing).__name__}>"


def _default(value: Any, version: int) -> Any:
    """Return the default itself, or its text if it cannot be encoded."""
    try:
        pyon.encode(value, version=version)
    except Exception:  # registered forms may raise anything, and so may repr
        with contextlib.suppress(Exception):
            return repr(value)
        return _nameless(value)
    return value
