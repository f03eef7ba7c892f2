"""Remote methods as objects: attributes of a client, with signatures and documentation.

The one idea to keep in mind: a name is looked up among the methods that the server announced, and
nowhere else. The method list, with signatures and docstrings, is fetched once, when it is needed.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast

from pc_rpc._signatures import signature

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Collection, Iterable, Mapping

    from typing_extensions import TypeVar

    Driver = TypeVar("Driver", default=Any)
    Method = TypeVar("Method")
else:
    from typing import TypeVar

    Driver = TypeVar("Driver")


NEVER_SUGGESTED = frozenset(
    {"terminate", "close", "exit", "kill", "quit", "shutdown", "stop", "abort", "reset"}
)
"""Names that are never suggested for a misspelt one: a call of them would end something."""


_KINDS = {"property": "a property", "attribute": "an attribute"}


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
        entry = _part(self._target.described(), "methods").get(self.__name__)
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
    return _values(methods._target)


def _values(target: Target) -> dict[str, str]:
    values = _part(target.described(), "values")
    return {str(name): str(kind) for name, kind in values.items()}


def _part(described: Any, key: str) -> Mapping[Any, Any]:
    """Return a dict of a method list; an empty one if the server sent something else."""
    part = described.get(key) if isinstance(described, dict) else None
    return part if isinstance(part, dict) else {}


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
        raise AttributeError(_no_such_method(target, name, names or ()), name=name)
    kind = RemoteStreamMethod if name in target.streams else RemoteMethod
    return kind(target, name, timeout)


def _no_such_method(target: Target, name: str, names: Collection[str]) -> str:
    if name in target.gone:
        return target.gone[name]
    text = f"no remote method {name!r} in {target.label}"
    if name.startswith("_"):
        return text
    read, change = _accesses(name)
    calls = {read: f"{read}()", change: f"{change}(value)"}
    if around := [call for method, call in calls.items() if method in names]:
        return f"{text}: attributes of a driver cannot be read; use {' or '.join(around)}"
    kind = _KINDS.get(_values(target).get(name, ""))
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


def warn_unclosed(target: Target) -> None:
    """Warn that a client was garbage-collected while open; not when the interpreter exits."""
    if not sys.is_finalizing():
        warnings.warn(
            f"the client of {target.label} was not closed: see close_rpc()",
            ResourceWarning,
            stacklevel=3,
            source=target,
        )


class _ClassOnly:
    """A class method that instances do not have: there, the name is a remote method."""

    def __init__(self, method: Any) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is not None:
            raise AttributeError(self._method.__name__)  # so that `__getattr__` is called
        return self._method.__get__(None, owner)


def class_only(method: Method) -> Method:
    """Hide a class method from instances of the class. A decorator."""
    return cast("Method", _ClassOnly(method))


class Proxy(Generic[Driver]):
    """The base of the clients: looks attributes up as methods of the target.

    The established names and those that end in ``_rpc`` are the client's own; every other attribute
    is a method of the target.

    A client and its remote methods refer to the `Target`, which does not refer to them. So the
    connection is closed when neither is referred to any more.
    """

    _target: Target

    def with_rpc_timeout(self, timeout: float | None) -> Driver:
        """Return the methods of the target, with another time-out.

        Parameters
        ----------
        timeout : float or None
            Seconds that a call may take. None: no limit.

        Examples
        --------
        ::

            client.with_rpc_timeout(60).calibrate()
        """
        return cast("Driver", RemoteMethods(self._target, timeout))

    @property
    def __rpc__(self) -> Driver:
        """The methods of the target only, including those with a name of the client's own."""
        return cast("Driver", RemoteMethods(self._target, self._target.timeout))

    def __getattr__(self, name: str) -> Any:
        if "_target" not in self.__dict__:  # not initialised: it is being copied
            raise AttributeError(name)
        target = self._target
        method = find_method(target, name, target.timeout)
        if target.names is not None:  # it is final: the next look-up finds it in `__dict__`
            self.__dict__[name] = method
        return method

    def __setattr__(self, name: str, value: object) -> None:
        if not self._is_own(name):
            raise cannot_change(self._target, "set", name, self, value)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if not self._is_own(name):
            raise cannot_change(self._target, "delete", name, self)
        object.__delattr__(self, name)

    def _is_own(self, name: str) -> bool:
        """Return whether an attribute is private, or a descriptor of a derived class.

        Names of remote methods do not begin with an underscore.
        """
        return name.startswith("_") or hasattr(getattr(type(self), name, None), "__set__")

    def _forget_methods(self) -> None:
        """Drop the remembered methods: another server may have other ones."""
        for name, value in list(self.__dict__.items()):
            if isinstance(value, (RemoteMethod, RemotePart)):
                self.__dict__.pop(name, None)

    def __dir__(self) -> list[str]:
        bases = type(self).__mro__
        not_own = {n for base in bases for n, m in vars(base).items() if type(m) is _ClassOnly}
        own = set(object.__dir__(self)) - not_own
        return sorted(own.union(first_names(self._target.names or ())))

    def __reduce__(self) -> Any:
        raise TypeError("a connection cannot be copied or pickled; make a new client instead")
