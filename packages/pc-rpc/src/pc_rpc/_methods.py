"""Remote methods as objects: attributes of a client, with signatures and documentation.

The one idea to keep in mind: a name is looked up among the methods that the server announced, and
nowhere else. The method list, with signatures and docstrings, is fetched once, when it is needed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pc_rpc._signatures import part_of, signature
from pc_rpc._suggestions import cannot_change, no_such_method

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Collection, Iterable, Mapping


class Target(Protocol):
    """The connection of a client, as far as the objects of this module use it."""

    timeout: float | None
    """Default time-out of a call, in seconds. None: no limit."""

    @property
    def names(self) -> Collection[str] | None:
        """Names of the methods. None: not known yet, so that any name may be one."""

    @property
    def streams(self) -> frozenset[str]:
        """Names of the methods that return streams."""

    @property
    def gone(self) -> Mapping[str, str]:
        """Methods that the server has no longer, each with the text of the error."""

    @property
    def label(self) -> str:
        """Target and server, for messages."""

    def invoke(self, name: str, args: Any, kwargs: Any, timeout: float | None) -> Any:
        """Call a method."""

    def stream(self, name: str, args: Any, kwargs: Any, timeout: float | None) -> Any:
        """Return the iterator over a stream."""

    def described(self) -> Mapping[str, Any]:
        """Return the method list, an empty one if it is not available."""

    def look_again(self) -> bool:
        """Connect again if the connection is lost; return whether the methods have changed."""

    def close(self) -> Any:
        """Close the connection. The result is awaitable in an asyncio client."""


class RemoteMethod:
    """A method of the selected target: call it like a local one."""

    __slots__ = ("__name__", "_invoke", "_target", "_timeout")

    __name__: str
    _invoke: Callable[[str, Any, Any, float | None], Any]
    _target: Target
    _timeout: float | None

    def __init__(self, target: Target, name: str, timeout: float | None) -> None:
        keep = partial(object.__setattr__, self)
        keep("_target", target)
        keep("_invoke", target.invoke)
        keep("_timeout", timeout)
        keep("__name__", name)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._invoke(self.__name__, args, kwargs, self._timeout)

    def _entry(self) -> tuple[Mapping[str, Any], str | None] | None:
        entry = part_of(self._target.described(), "methods").get(self.__name__)
        if isinstance(entry, (tuple, list)) and len(entry) == 2 and isinstance(entry[0], dict):
            return entry[0], entry[1]
        return None

    @property
    def __signature__(self) -> inspect.Signature | None:
        """The signature of the method at the server, None if it is not known."""
        entry = self._entry()
        return None if entry is None else signature(entry[0])

    def _remote_doc(self) -> str | None:
        """Return the docstring of the method at the server."""
        entry = self._entry()
        return None if entry is None else entry[1]

    __doc__ = property(_remote_doc)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not _has_parts(self._target.names, self.__name__):
            raise AttributeError(f"a remote method has no attribute {name!r}", name=name, obj=self)
        return find_method(self._target, f"{self.__name__}.{name}", self._timeout)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(self._refusal("set", name), name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(self._refusal("delete", name), name=name, obj=self)

    def __copy__(self) -> RemoteMethod:
        return self  # as a function is copied

    def __deepcopy__(self, memo: object) -> RemoteMethod:
        return self

    def _refusal(self, what: str, name: str) -> str:
        method = f"{self.__name__} of {self._target.label}"
        return f"cannot {what} {name!r} of the remote method {method}"

    def __repr__(self) -> str:
        shown = self.__signature__
        return f"<remote method {self.__name__}{shown or '(...)'} of {self._target.label}>"


class RemoteStreamMethod(RemoteMethod):
    """A method of the selected target that returns a stream: use it in a ``for`` loop."""

    __slots__ = ()

    __doc__ = property(RemoteMethod._remote_doc)  # the class docstring would hide it

    def __init__(self, target: Target, name: str, timeout: float | None) -> None:
        super().__init__(target, name, timeout)
        object.__setattr__(self, "_invoke", target.stream)


class RemoteMethods:
    """The methods of the selected target as attributes, and no other attributes."""

    __slots__ = ("_target", "_timeout")

    _target: Target
    _timeout: float | None

    def __init__(self, target: Target, timeout: float | None) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_timeout", timeout)

    def __getattr__(self, name: str) -> RemoteMethod | RemotePart:
        if name in RemoteMethods.__slots__:  # not yet initialised: it is being copied
            raise AttributeError(name)
        return find_method(self._target, name, self._timeout)

    def __setattr__(self, name: str, value: object) -> None:
        raise cannot_change(self._target, "set", name, self, value)

    def __delattr__(self, name: str) -> None:
        raise cannot_change(self._target, "delete", name, self)

    def __dir__(self) -> list[str]:
        return first_names(self._target.names or ())

    def __repr__(self) -> str:
        return f"<remote methods of {self._target.label}>"


class RemotePart:
    """A part of the target, whose methods have dotted names: ``axis`` of ``axis.move``."""

    __slots__ = ("_name", "_target", "_timeout")

    _name: str
    _target: Target
    _timeout: float | None

    def __init__(self, target: Target, name: str, timeout: float | None) -> None:
        keep = partial(object.__setattr__, self)
        keep("_target", target)
        keep("_name", name)
        keep("_timeout", timeout)

    def __getattr__(self, name: str) -> RemoteMethod | RemotePart:
        if name.startswith("_"):  # not a method; or not yet initialised: it is being copied
            raise AttributeError(name)
        return find_method(self._target, f"{self._name}.{name}", self._timeout)

    def __setattr__(self, name: str, value: object) -> None:
        raise cannot_change(self._target, "set", f"{self._name}.{name}", self, value)

    def __delattr__(self, name: str) -> None:
        raise cannot_change(self._target, "delete", f"{self._name}.{name}", self)

    def __dir__(self) -> list[str]:
        before = f"{self._name}."
        names = self._target.names or ()
        return first_names(name[len(before) :] for name in names if name.startswith(before))

    def __repr__(self) -> str:
        return f"<remote methods {self._name}.* of {self._target.label}>"


def first_names(names: Iterable[str]) -> list[str]:
    """Return the parts of method names in front of the first dot, sorted, each once."""
    return sorted({name.partition(".")[0] for name in names})


def _has_parts(names: Collection[str] | None, part: str) -> bool:
    """Return whether methods of this part may exist: names that begin with `part` and a dot."""
    return names is None or any(name.startswith(f"{part}.") for name in names)


def known_names(methods: RemoteMethods) -> Collection[str] | None:
    """Return the names of the methods; None while a client that reconnects does not know them."""
    return methods._target.names


def known_streams(methods: RemoteMethods) -> frozenset[str]:
    """Return the names of the methods that return streams."""
    return methods._target.streams


def known_description(methods: RemoteMethods) -> Mapping[str, Any]:
    """Return the method list, an empty one if it is not available. A client may fetch it."""
    return methods._target.described()


def known_values(methods: RemoteMethods) -> dict[str, str]:
    """Return the kinds of attributes that are not methods, by name: see PROTOCOL.md, 8."""
    values = part_of(methods._target.described(), "values")
    return {str(name): str(kind) for name, kind in values.items()}


def close_client(methods: RemoteMethods) -> Any:
    """Close the client that the methods belong to."""
    return methods._target.close()


def find_method(target: Target, name: str, timeout: float | None) -> RemoteMethod | RemotePart:
    """Return a method of the target, or a part of it if methods have names like ``name.move``.

    Raises
    ------
    AttributeError
        The server has announced no such method.
    """
    names = target.names
    if names is None and not name.startswith("_"):
        return RemoteMethod(target, name, timeout)
    missing = names is None or name not in names
    if missing and not name.startswith("_"):
        if not _has_parts(names, name) and target.look_again():
            names = target.names or ()
            missing = name not in names
        if missing and _has_parts(names, name):
            return RemotePart(target, name, timeout)
    if missing or (name.startswith("__") and name.endswith("__")):
        raise AttributeError(no_such_method(target, name, names or ()), name=name)
    kind = RemoteStreamMethod if name in target.streams else RemoteMethod
    return kind(target, name, timeout)
