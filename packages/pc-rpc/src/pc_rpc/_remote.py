"""What a client shows of the methods of its target: attributes, signatures, documentation.

The one idea to keep in mind: a name is looked up among the methods that the server announced, and
nowhere else; what the server tells about them is fetched once, when somebody asks.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import inspect
    from collections.abc import Collection, Mapping


class MethodOwner(Protocol):
    """What a client has for the objects of this module to use."""

    def _method_names(self) -> Collection[str] | None:
        """Return the names of the methods; None if they are not known yet and any may be one."""

    def _target_label(self) -> str:
        """Return target and server as people write them."""

    def _invoke(self, name: str, args: Any, kwargs: Any, timeout: float | None) -> Any:
        """Call a method."""

    def _described(self) -> Mapping[str, Any]:
        """Return the method list, an empty one if it cannot be had now."""


class RemoteMethod:
    """A method of the selected target: call it like a local one."""

    __slots__ = ("__name__", "_invoke", "_owner", "_timeout")

    def __init__(self, owner: MethodOwner, name: str, timeout: float | None) -> None:
        self._owner = owner
        self._invoke = owner._invoke
        self._timeout = timeout
        self.__name__ = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._invoke(self.__name__, args, kwargs, self._timeout)

    def _entry(self) -> tuple[Mapping[str, Any], str | None] | None:
        entry = self._owner._described().get("methods", {}).get(self.__name__)
        if isinstance(entry, (tuple, list)) and len(entry) == 2 and isinstance(entry[0], dict):
            return entry[0], entry[1]
        return None

    @property
    def __signature__(self) -> inspect.Signature | None:
        """The signature that the method has at the server, None if it is not known."""
        entry = self._entry()
        return None if entry is None else signature(entry[0])

    def _remote_doc(self) -> str | None:
        """Return the docstring of the method at the server."""
        entry = self._entry()
        return None if entry is None else entry[1]

    __doc__ = property(_remote_doc)

    def __repr__(self) -> str:
        shown = self.__signature__
        return f"<remote method {self.__name__}{shown or '(...)'} of {self._owner._target_label()}>"


class RemoteMethods:
    """The methods of the selected target as attributes, and nothing besides them."""

    __slots__ = ("_owner", "_timeout")

    def __init__(self, owner: MethodOwner, timeout: float | None) -> None:
        self._owner = owner
        self._timeout = timeout

    def __getattr__(self, name: str) -> RemoteMethod:
        if name in RemoteMethods.__slots__:  # not yet initialised: a copy in the making
            raise AttributeError(name)
        return find_method(self._owner, name, self._timeout)

    def __dir__(self) -> list[str]:
        return sorted(self._owner._method_names() or ())

    def __repr__(self) -> str:
        return f"<remote methods of {self._owner._target_label()}>"


def known_names(methods: RemoteMethods) -> Collection[str] | None:
    """Return the names of the methods; None while a client that reconnects does not know them."""
    return methods._owner._method_names()


def known_description(methods: RemoteMethods) -> Mapping[str, Any]:
    """Return the method list, an empty one if it cannot be had now. A client may fetch it."""
    return methods._owner._described()


def close_client(methods: RemoteMethods) -> Any:
    """Close the client that the methods belong to."""
    return cast("Any", methods._owner).close_rpc()


def find_method(owner: MethodOwner, name: str, timeout: float | None) -> RemoteMethod:
    """Return a method of the target.

    Raises
    ------
    AttributeError
        The server has announced no such method.
    """
    names = owner._method_names()
    if names is None and not name.startswith("_"):
        return RemoteMethod(owner, name, timeout)
    if names is None or name not in names or (name.startswith("__") and name.endswith("__")):
        raise AttributeError(_no_such_method(owner, name, names or ()), name=name)
    return RemoteMethod(owner, name, timeout)


def _no_such_method(owner: MethodOwner, name: str, names: Collection[str]) -> str:
    similar = [] if name.startswith("_") else difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {similar[0]!r}?" if similar else ""
    return f"no remote method {name!r} in {owner._target_label()}{hint}"


class Annotation(str):
    """The text of an annotation, which shows itself without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def signature(spec: Mapping[str, Any]) -> inspect.Signature | None:
    """Return the signature that an entry of the method list describes, without ``self``.

    None if the entry is not in order.
    """
    import inspect

    parameter, empty = inspect.Parameter, inspect.Parameter.empty
    notes = spec.get("annotations") or {}

    def annotation(name: str) -> Any:
        return Annotation(notes[name]) if name in notes else empty

    def make(name: str, kind: Any, default: Any = empty) -> inspect.Parameter:
        return parameter(name, kind, default=default, annotation=annotation(name))

    try:
        names, defaults = list(spec.get("args") or ()), list(spec.get("defaults") or ())
        filled = [*[empty] * (len(names) - len(defaults)), *defaults]
        positional = list(zip(names, filled, strict=False))
        if names[:1] in (["self"], ["cls"]):
            del positional[0]
        parameters = [make(name, parameter.POSITIONAL_OR_KEYWORD, d) for name, d in positional]
        if spec.get("varargs"):
            parameters.append(make(spec["varargs"], parameter.VAR_POSITIONAL))
        only = spec.get("kwonlydefaults") or {}
        parameters += [
            make(name, parameter.KEYWORD_ONLY, dict(only).get(name, empty))
            for name in spec.get("kwonlyargs") or ()
        ]
        if spec.get("varkw"):
            parameters.append(make(spec["varkw"], parameter.VAR_KEYWORD))
        return inspect.Signature(parameters, return_annotation=annotation("return"))
    except (TypeError, ValueError, LookupError):
        return None
