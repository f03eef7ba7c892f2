"""The errors of the package, and how an exception travels from a method to its caller.

::

    RpcError
      ConnectionLost(RpcError, ConnectionError)   gone, now or earlier; chained to the cause
      ProtocolError(RpcError, ValueError)         the peer broke the protocol
      IncompatibleServer(RpcError)                no such target; the available ones are named
      GenericRemoteException(RpcError)            the method raised what cannot be rebuilt here

The one idea to keep in mind: what comes off the wire is looked up in one table, made of the
subclasses of `Exception` among the builtins and of the classes that the program registered.
Nothing else can be built, whatever name arrives.
"""

from __future__ import annotations

import builtins
import contextlib
import traceback
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import pyon

__all__ = [
    "ConnectionLost",
    "GenericRemoteException",
    "IncompatibleServer",
    "ProtocolError",
    "RpcError",
    "register_exception",
]

MAX_CHAIN = 16
"""Exceptions that travel behind one, as its causes or members: longer chains are loops or noise,
and their tracebacks travel as text anyway."""

MAX_PLAIN = 10_000
"""Characters of the text of an exception that cannot be sent in full: to read, not to process."""

MAX_QUIET = 64
"""Exceptions in a chain or group that are looked at on the event loop: more of them take time, and
are described elsewhere."""

ExceptionClass = TypeVar("ExceptionClass", bound=type[Exception])


class RpcError(Exception):
    """Root of what this package raises about remote procedure calls."""


class ConnectionLost(RpcError, ConnectionError):  # noqa: N818
    """The connection to the peer is gone, now or since earlier.

    Attributes
    ----------
    sent : bool
        False: the request was not sent, or the server says that it was not executed, so that it is
        safe to repeat it on a new connection. True: it was sent, in part at least, and may have
        been executed.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class ProtocolError(RpcError, ValueError):
    """The peer sent something that the protocol does not allow."""


class IncompatibleServer(RpcError):  # noqa: N818
    """The server does not have the expected target."""


class GenericRemoteException(RpcError):  # noqa: N818
    """The remote method raised an exception of a class that cannot be rebuilt here.

    The message begins with the name of that class.
    """


for _error in (RpcError, ConnectionLost, ProtocolError, IncompatibleServer, GenericRemoteException):
    _error.__module__ = "pc_rpc"  # where people find them


def _from_message(cls: type[Exception]) -> bool:
    """Say whether an exception of this class can be made of a message alone."""
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
_WIRE_NAMES = {cls: name for name, cls in _FROM_MESSAGE.items() if name == cls.__name__}
_WIRE_NAMES[OSError] = "IOError"  # as every generation of the established servers has it
_registered: dict[str, type[Exception]] = {}


def register_exception(cls: ExceptionClass, /, *, name: str | None = None) -> ExceptionClass:
    """Have exceptions of a project's own class come back as that class.

    To be called where the *client* runs. Other remote exceptions that are not built-in arrive as
    `GenericRemoteException`. The exception is rebuilt by calling the class with the ``args`` of the
    original, which must be plain numbers, strings, bytes or None.

    Parameters
    ----------
    cls : type
        The class, derived from `Exception`. It is returned, so that this is a decorator as well.
    name : str, optional
        The name that the server knows it by; by default its module and qualified name.

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
    """Return the name that a traceback shows for a class, whatever its metaclass makes of it."""
    module = _module_of(cls)
    name = exact_text(_name_of(cls))
    if type(module) is not str or module == "builtins":
        return name
    if module == "__main__" and name not in _BUILTINS:
        return name
    return f"{module}.{name}"


def exact_text(text: str) -> str:
    """Return a text as an exact `str`; of a subclass none of its own code runs."""
    return str.__str__(text)


def text_of(exc: BaseException) -> str:
    """Return what the exception says, if it can."""
    try:
        return exact_text(str(exc))
    except BaseException:  # SystemExit, too: the process is not the exception's to end
        return "<exception str() failed>"


# The server's side. An exception may be of a class of the user's, whose code may do anything:
# except for its ``__str__``, what is read of it is read by Python's own means.

_QUIET = (BaseException, KeyError, OSError, BaseExceptionGroup)
_bases_of = type.__dict__["__mro__"].__get__
_name_of = type.__dict__["__qualname__"].__get__
_module_of = type.__dict__["__module__"].__get__
_contents_of = type.__dict__["__dict__"].__get__


class Failure(NamedTuple):
    """An exception on its way to the caller.

    Attributes
    ----------
    pack : dict
        Plain data that any peer's codec can encode.
    exits : bool
        It is a `SystemExit`: the server is to end.
    cancelled : bool
        The call was cancelled, by whatever.
    """

    pack: dict[str, Any]
    exits: bool = False
    cancelled: bool = False


def describe(exc: BaseException, *, details: bool = False) -> Failure:
    """Take an exception apart. To be called where it was raised: it may have code of its own."""
    try:
        pack = pack_exception(without_own_frames(exc), details=details)
    except Exception as failed:  # whatever an exception holds, its caller gets a reply
        return bare(exc, f"<cannot be described: {qualified_name(type(failed))}>")
    return _failure(exc, pack)


def bare(exc: BaseException, text: str) -> Failure:
    """Return what can be told of an exception without asking it."""
    return _failure(exc, _generic(f"{qualified_name(type(exc))}: {text}"))


def plainer(failure: Failure) -> Failure:
    """Return a failure that cannot be sent with all of its parts as a text, of limited length."""
    pack = failure.pack
    message = pack["message"][:MAX_PLAIN]
    if pack["class"] != GenericRemoteException.__name__:
        message = f"{pack.get('type', pack['class'])}: {message}"
    message = message.encode("ascii", "backslashreplace").decode()
    return failure._replace(pack=_generic(message))


def _generic(message: str) -> dict[str, Any]:
    return {"class": GenericRemoteException.__name__, "message": message, "traceback": []}


def _failure(exc: BaseException, pack: dict[str, Any]) -> Failure:
    return Failure(pack, issubclass(type(exc), SystemExit))


def is_quiet(exc: BaseException, *, details: bool) -> bool:
    """Say whether `describe` runs none but Python's own code, and returns at once."""
    seen: set[int] = set()
    links: list[BaseException | None] = [exc]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        if len(seen) > MAX_QUIET or not _is_quiet(link) or not (details or _members(link) == ()):
            return False
        links += [_read(link, "__cause__"), _read(link, "__context__"), *_members(link)]
    return True


def _is_quiet(exc: BaseException) -> bool:
    values = (*_read(exc, "args"), *_os_values(exc))
    return _text_in_c(type(exc)) and all(_plain(value) for value in values)


def _text_in_c(cls: type) -> bool:
    for base in _bases_of(cls):
        if "__str__" in _contents_of(base):
            return any(base is known for known in _QUIET)
    return False


def _os_values(exc: BaseException) -> list[Any]:
    if not issubclass(type(exc), OSError):
        return []
    return [_read(exc, name, OSError) for name in ("errno", "strerror", "filename", "filename2")]


def _members(exc: BaseException) -> tuple[BaseException, ...]:
    if not issubclass(type(exc), BaseExceptionGroup):
        return ()
    members: tuple[BaseException, ...] = _read(exc, "exceptions", BaseExceptionGroup)[:MAX_CHAIN]
    return members


def _read(exc: BaseException, name: str, cls: type = BaseException) -> Any:
    """Read an attribute that Python keeps of every exception, past any property of its class."""
    return _contents_of(cls)[name].__get__(exc)


def without_own_frames(exc: BaseException) -> BaseException:
    """Take off tracebacks the frames that they begin with and that are no business of a caller.

    These are the frames of this package, and of modules that set ``__tracebackhide__``: what runs
    methods for somebody else. Causes, contexts and members of groups are treated alike.
    """
    seen: set[int] = set()
    links: list[BaseException | None] = [exc]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        # Not by assignment: a class may have forbidden that (a frozen dataclass, for one).
        BaseException.with_traceback(link, _visible(_read(link, "__traceback__")))
        links += [_read(link, "__cause__"), _read(link, "__context__"), *_members(link)]
    return exc


def _visible(trace: TracebackType | None) -> TracebackType | None:
    frames = trace
    while frames is not None and _is_hidden(frames.tb_frame.f_globals):
        frames = frames.tb_next
    return frames or trace


def _is_hidden(module: dict[str, Any]) -> bool:
    return module.get("__package__") == __package__ or module.get("__tracebackhide__") is True


def pack_exception(exc: BaseException, *, details: bool = False) -> dict[str, Any]:
    """Return the exception as plain data that any peer's codec can encode.

    Parameters
    ----------
    exc : BaseException
        What the method raised.
    details : bool, optional
        Add what only our own clients can use: class, arguments, notes, causes, members of a group.
    """
    pack = _established_pack(exc)
    if details:
        pack |= _details(exc, 0, set())
    elif issubclass(type(exc), BaseExceptionGroup):
        pack["traceback"] = traceback.format_exception(exc)  # the members are nowhere else
    return pack


def _established_pack(exc: BaseException) -> dict[str, Any]:
    cls = type(exc)
    name = _WIRE_NAMES.get(cls) if type(cls) is type else None  # type: ignore[arg-type]
    message = text_of(exc)
    if name is None:
        name = GenericRemoteException.__name__
        message = f"{qualified_name(type(exc))}: {message}".rstrip().removesuffix(":")
    return {
        "class": name,
        "message": message,
        "traceback": traceback.format_tb(_read(exc, "__traceback__")),
    }


def _details(exc: BaseException, depth: int, seen: set[int]) -> dict[str, Any]:
    details: dict[str, Any] = {"type": qualified_name(type(exc))}
    args = _constructor_args(exc)
    if _plain(args):
        details["args"] = args
    if notes := _notes(exc):
        details["notes"] = notes
    if depth >= MAX_CHAIN or id(exc) in seen:  # told already, as in Python's own tracebacks
        return details
    seen.add(id(exc))
    if issubclass(type(exc), BaseExceptionGroup):
        details["exceptions"] = [_pack_linked(m, depth + 4, seen) for m in _members(exc)]
    cause, context = _read(exc, "__cause__"), _read(exc, "__context__")
    if cause is not None:
        details["cause"] = _pack_linked(cause, depth + 1, seen)
    elif context is not None and not _read(exc, "__suppress_context__"):
        details["context"] = _pack_linked(context, depth + 1, seen)
    return details


def _pack_linked(exc: BaseException, depth: int, seen: set[int]) -> dict[str, Any]:
    return _established_pack(exc) | _details(exc, depth, seen)


def _notes(exc: BaseException) -> list[str]:
    notes = dict.get(_read(exc, "__dict__"), "__notes__")
    return [note for note in notes if type(note) is str] if type(notes) is list else []


def _constructor_args(exc: BaseException) -> list[Any]:
    """Return the arguments that make an equal exception."""
    if issubclass(type(exc), BaseExceptionGroup):
        return [_read(exc, "message", BaseExceptionGroup)]
    args = list(_read(exc, "args"))
    if issubclass(type(exc), OSError) and len(args) == 2:
        _, _, filename, filename2 = _os_values(exc)
        if filename is not None:
            # The winerror position is skipped over by None on every platform.
            return [*args, filename, *([] if filename2 is None else [None, filename2])]
    return args


def _plain(value: Any, depth: int = 3) -> bool:
    """Say whether every codec keeps this value as it is."""
    if type(value) in {list, tuple}:
        return depth > 0 and all(_plain(item, depth - 1) for item in value)
    return value is None or type(value) in {bool, int, float, str, bytes}


# The client's side.


def rebuild_exception(pack: Any) -> Exception:
    """Return the exception that `pack_exception`, of any generation, took apart.

    The frames at the server are in its attribute ``parent_traceback``, a list of str, and in a
    note, so that Python prints them with the local ones.
    """
    if not isinstance(pack, Mapping):
        return GenericRemoteException(f"the server described its error as {pack!r:.200}")
    exc = _build(pack)
    frames = pack.get("traceback")
    frames = [str(frame) for frame in frames] if isinstance(frames, (list, tuple)) else []
    keep = partial(BaseException.__setattr__, exc)  # also where a class forbids assignment
    keep("parent_traceback", frames)
    notes = pack.get("notes")
    shown = [str(note) for note in notes] if isinstance(notes, list) else []
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


def _build(pack: Mapping[Any, Any]) -> Exception:
    name, message = str(pack.get("class")), str(pack.get("message"))
    remote_type = str(pack.get("type", name))
    args = pack.get("args")
    if isinstance(pack.get("exceptions"), list) and isinstance(args, list) and len(args) == 1:
        return _build_group(remote_type, str(args[0]), pack["exceptions"])
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
        # Its text is the repr of the key: taken as a message it would be quoted once more.
        try:
            return [pyon.decode(message)]
        except pyon.DecodeError:
            pass
    return [message] if message else []
