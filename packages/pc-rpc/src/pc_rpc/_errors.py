"""The errors of the package, and how an exception travels from a method to its caller.

::

    RpcError
      ConnectionLost(RpcError, ConnectionError)   gone, now or earlier; chained to the cause
      ProtocolError(RpcError)                     the peer broke the protocol
      IncompatibleServer(RpcError)                no such target; the available ones are named
      GenericRemoteException(RpcError)            the remote exception cannot be rebuilt here
      TargetLeased(RpcError)                      another connection has a lease on the target
      LeaseLost(RpcError)                         the lease of this connection expired or was broken
      UnknownServer(RpcError, LookupError)        no server or several servers have the name

The one idea to keep in mind: the name of a received exception is looked up in one table, made of
the subclasses of `Exception` among the builtins and of the classes that the program registered. No
other class can be instantiated.
"""

from __future__ import annotations

import builtins
import contextlib
import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import pyon

__all__ = [
    "ConnectionLost",
    "GenericRemoteException",
    "IncompatibleServer",
    "LeaseLost",
    "ProtocolError",
    "RpcError",
    "TargetLeased",
    "UnknownServer",
    "register_exception",
]

ExceptionClass = TypeVar("ExceptionClass", bound=type[Exception])


class RpcError(Exception):
    """Base class of the errors of this package about remote procedure calls."""


class ConnectionLost(RpcError, ConnectionError):  # noqa: N818
    """The connection to the peer is gone, now or since earlier.

    Attributes
    ----------
    sent : bool
        False: the request was not sent, or the server says that it was not executed. Repeating it
        on a new connection is safe. True: the request was sent, at least in part, and may have been
        executed.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class ProtocolError(RpcError):
    """The peer sent a message that the protocol does not allow."""


class IncompatibleServer(RpcError):  # noqa: N818
    """The server does not have the requested target, or does not support a requested feature."""


class GenericRemoteException(RpcError):  # noqa: N818
    """The remote method raised an exception of a class that cannot be rebuilt here.

    The message begins with the name of that class.
    """


class TargetLeased(RpcError):  # noqa: N818
    """Another connection has a lease on the target. The call was not made.

    Attributes
    ----------
    purpose : str
        What the lease is for.
    client : str
        Program, user and computer of the holder, as the holder says; empty if not known.
    peer : str
        Address of the holder, as the server sees it.
    seconds : float
        How long the holder had the lease when this was raised.
    """

    def __init__(
        self,
        message: str = "the target is leased",
        purpose: str = "",
        client: str = "",
        peer: str = "",
        seconds: float = 0.0,
    ) -> None:
        super().__init__(message, purpose, client, peer, seconds)
        self.purpose = purpose
        self.client = client
        self.peer = peer
        self.seconds = seconds

    def __str__(self) -> str:
        return str(self.args[0])


class LeaseLost(RpcError):  # noqa: N818
    """The lease of this connection ended before its block was left. The call was not made.

    It was not renewed in time, or another client broke it; the message says which. Until the block
    is left, all calls of this connection raise this error, so that no program drives an instrument
    without knowing that its lease is lost.
    """


class UnknownServer(RpcError, LookupError):  # noqa: N818
    """No server of the name, or several, are on the network, or the server does not answer."""


for _error in (
    RpcError, ConnectionLost, ProtocolError, IncompatibleServer, GenericRemoteException,
    TargetLeased, LeaseLost, UnknownServer,
):  # fmt: skip
    _error.__module__ = "pc_rpc"  # where they are imported from


def _from_message(cls: type[Exception]) -> bool:
    """Say whether an exception of this class can be made from a message alone."""
    try:
        cls("message")
    except TypeError:
        return False
    return True


# By the names that travel. Aliases are included: plain OSError travels as "IOError".
_BUILTINS: dict[str, type[Exception]] = {
    name: cls
    for name, cls in vars(builtins).items()
    if isinstance(cls, type) and issubclass(cls, Exception)
}
_FROM_MESSAGE = {name: cls for name, cls in _BUILTINS.items() if _from_message(cls)}
WIRE_NAMES = {cls: name for name, cls in _FROM_MESSAGE.items() if name == cls.__name__}
WIRE_NAMES[OSError] = "IOError"  # as in all generations of the established servers
_registered: dict[str, type[Exception]] = {
    "pc_rpc.TargetLeased": TargetLeased,
    "pc_rpc.LeaseLost": LeaseLost,
}


def register_exception(cls: ExceptionClass, /, *, name: str | None = None) -> ExceptionClass:
    """Register a class of exceptions of a project, so that they are raised as that class.

    Must be called in the *client's* process. Remote exceptions of classes that are neither built-in
    nor registered arrive as `GenericRemoteException`. The exception is rebuilt by calling the class
    with the ``args`` of the original, which must be plain numbers, strings, bytes or None.

    Parameters
    ----------
    cls : type
        The class, derived from `Exception`. It is returned, so that this is a decorator as well.
    name : str, optional
        The name of the class at the server; by default its module and qualified name.

    Examples
    --------
    >>> @register_exception
    ... class Unlocked(Exception):
    ...     "The laser has lost its lock."
    >>> _ = register_exception(Unlocked, name="laser_driver.Unlocked")
    """
    if not (isinstance(cls, type) and issubclass(cls, Exception)):
        raise TypeError(f"expected a subclass of Exception, got {cls!r}")
    _registered[name or qualified_name(cls)] = cls
    return cls


def qualified_name(cls: type) -> str:
    """Return the name that a traceback shows for a class, without running its metaclass."""
    module = type.__dict__["__module__"].__get__(cls)
    name = exact_text(type.__dict__["__qualname__"].__get__(cls))
    if type(module) is not str or module == "builtins":
        return name
    if module == "__main__" and name not in _BUILTINS:
        return name
    return f"{module}.{name}"


def exact_text(text: str) -> str:
    """Return a text as an exact `str`; code of a subclass is not run."""
    return str.__str__(text)


# Received exceptions.


MAX_REBUILT = 64
"""Maximum depth of causes and group members that is rebuilt. Our servers send 16. Python recurses
into all of them when it prints an exception, so a much deeper chain would exhaust its stack."""


def rebuild_exception(pack: Any) -> Exception:
    """Return the exception that `pack_exception`, of any generation, has packed.

    A chain deeper than `MAX_REBUILT` becomes a single `GenericRemoteException`.

    The frames at the server are in the attribute ``parent_traceback``, a list of str, and in a
    note, so that Python prints them with the local ones.
    """
    if not isinstance(pack, Mapping):
        return GenericRemoteException(f"the server described its error as {_shown(pack)}")
    if _is_too_deep(pack):
        name = pack.get("type", pack.get("class"))
        pack = {
            "class": GenericRemoteException.__name__,
            "message": f"{_shown(name)}: {_shown(pack.get('message'))} "
            f"(more than {MAX_REBUILT} exceptions behind each other)",
            "traceback": pack.get("traceback"),
        }
    exc = _build(pack)
    frames = pack.get("traceback")
    frames = [_shown(frame) for frame in frames] if isinstance(frames, (list, tuple)) else []
    keep = partial(BaseException.__setattr__, exc)  # also if the class forbids assignment
    keep("parent_traceback", frames)
    notes = pack.get("notes")
    shown = [_shown(note) for note in notes] if isinstance(notes, list) else []
    if frames:
        shown.append(
            "Traceback at the server (most recent call last):\n" + "".join(frames).rstrip()
        )
    if shown:
        keep("__notes__", shown)
    if "cause" in pack:
        keep("__cause__", rebuild_exception(pack["cause"]))
    elif "context" in pack:
        keep("__context__", rebuild_exception(pack["context"]))
    return exc


def _shown(value: Any) -> str:
    """Return a received value as text for an error message: a text itself, else its repr."""
    if isinstance(value, str):
        return value
    try:
        return f"{value!r:.200}"
    except Exception:  # a number with more digits than Python writes, for one
        return f"a {type(value).__name__}"


def _is_too_deep(pack: Mapping[Any, Any]) -> bool:
    """Say whether a chain of exceptions is deeper than `MAX_REBUILT`."""
    level: list[Any] = [pack]
    for _ in range(MAX_REBUILT + 1):
        linked = [p.get(key) for p in level for key in ("cause", "context")]
        members = [p["exceptions"] for p in level if isinstance(p.get("exceptions"), list)]
        found = itertools.chain(linked, *members)
        level = [p for p in found if isinstance(p, Mapping)]
        if not level:
            return False
    return True


def _build(pack: Mapping[Any, Any]) -> Exception:
    name, message = _shown(pack.get("class")), _shown(pack.get("message"))
    remote_type = _shown(pack.get("type", name))
    args = pack.get("args")
    if isinstance(pack.get("exceptions"), list) and isinstance(args, list) and len(args) == 1:
        return _build_group(remote_type, _shown(args[0]), pack["exceptions"])
    cls = _registered.get(remote_type) or _BUILTINS.get(remote_type) or _FROM_MESSAGE.get(name)
    if cls is not None:
        if not isinstance(args, list):
            args = _args_from_message(cls, message)
        with contextlib.suppress(Exception):  # a class of the program's own may raise anything
            exc = cls(*args)
            if isinstance(exc, Exception):
                return exc
        return GenericRemoteException(f"{remote_type}: {message}")
    if name == GenericRemoteException.__name__:
        return GenericRemoteException(message)
    return GenericRemoteException(f"{name}: {message}")


def _build_group(remote_type: str, message: str, members: list[Any]) -> Exception:
    rebuilt = [rebuild_exception(member) for member in members]
    if not rebuilt:
        return GenericRemoteException(f"{remote_type}: {message}")
    cls = _registered.get(remote_type)
    if cls is not None and issubclass(cls, ExceptionGroup):
        with contextlib.suppress(Exception):  # a class of the program's own may raise anything
            return cls(message, rebuilt)
    if remote_type not in {"ExceptionGroup", "BaseExceptionGroup"}:
        message = f"{remote_type}: {message}"
    return ExceptionGroup(message, rebuilt)


def _args_from_message(cls: type[Exception], message: str) -> list[Any]:
    if cls is KeyError:
        # Its text is the repr of the key: as a message it would be quoted a second time.
        try:
            return [pyon.decode(message)]
        except pyon.DecodeError:
            pass
    return [message] if message else []
