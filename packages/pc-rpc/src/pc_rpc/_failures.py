"""Exceptions for the caller of a method, as plain data.

The one idea to keep in mind: an exception may be of a user's class, with any code. Except for its
``__str__``, its attributes are read by Python's own descriptors, past those of the class;
`is_quiet` says in advance whether the ``__str__`` is Python's own, too.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

from pc_rpc._errors import WIRE_NAMES, GenericRemoteException, exact_text, qualified_name

MAX_CHAIN = 16
"""Maximum depth of causes that are sent with an exception; a group counts as 4. Longer chains are
loops or noise, and their tracebacks are sent as text anyway."""

MAX_PLAIN = 10_000
"""Maximum length of the text of an exception that cannot be sent in full, in characters. It is for
people."""

MAX_QUIET = 64
"""Maximum number of exceptions in a chain or group that are examined on the event loop. Larger ones
take time, and are described in another thread."""

_QUIET = (BaseException, KeyError, OSError, BaseExceptionGroup)
_SIMPLE = frozenset({ValueError, RuntimeError, TypeError, KeyError, IndexError, AttributeError})
"""The most common classes: only their arguments, cause and context have to be examined."""
_bases_of = type.__dict__["__mro__"].__get__
_contents_of = type.__dict__["__dict__"].__get__


def text_of(exc: BaseException) -> str:
    """Return the text of an exception, or a replacement if its ``__str__`` fails."""
    try:
        return exact_text(str(exc))
    except BaseException:  # SystemExit, too: it must not end the process
        return "<exception str() failed>"


class Failure(NamedTuple):
    """The description of an exception.

    Attributes
    ----------
    pack : dict
        Plain data that the codec of any peer can encode.
    exits : bool
        Whether it is a `SystemExit`, which ends the server.
    cancelled : bool
        Whether the call was cancelled.
    """

    pack: dict[str, Any]
    exits: bool = False
    cancelled: bool = False


def describe(exc: BaseException, *, details: bool = False) -> Failure:
    """Describe an exception. Must not be called on the event loop, unless it `is_quiet`."""
    try:
        pack = pack_exception(without_own_frames(exc), details=details)
    except Exception as failed:  # raised by the exception itself; the caller still gets a reply
        return bare(exc, f"<cannot be described: {qualified_name(type(failed))}>")
    return _failure(exc, pack)


def bare(exc: BaseException, text: str) -> Failure:
    """Return a description of an exception with a given text, without running its code."""
    return _failure(exc, _generic(f"{qualified_name(type(exc))}: {text}"))


def plainer(failure: Failure) -> Failure:
    """Reduce a failure that cannot be encoded to a text of limited length."""
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
    """Say whether `describe` runs no users' code, and returns at once."""
    cls = type(exc)
    if type(cls) is type and cls in _SIMPLE and exc.__cause__ is exc.__context__ is None:
        return all(map(_plain, exc.args))
    for count, link in enumerate(_links(exc), 1):
        if count > MAX_QUIET or not _is_quiet(link) or not (details or _members(link) == ()):
            return False
    return True


def _links(exc: BaseException) -> Iterator[BaseException]:
    """Yield the exception, its causes and contexts and the members of groups, each once."""
    seen: set[int] = set()
    links: list[BaseException | None] = [exc]
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            links += [_read(link, "__cause__"), _read(link, "__context__"), *_members(link)]


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
    """Read a built-in attribute of an exception, past any property of its class."""
    return _contents_of(cls)[name].__get__(exc)


def without_own_frames(exc: BaseException) -> BaseException:
    """Remove the leading frames of this package from the traceback; return the exception.

    Frames of modules that set ``__tracebackhide__``, which run methods for others, are removed as
    well. Causes, contexts and members of groups are treated alike.
    """
    for link in _links(exc):
        # Not by assignment, which a class may forbid (a frozen dataclass, for example).
        BaseException.with_traceback(link, _visible(_read(link, "__traceback__")))
    return exc


def _visible(trace: TracebackType | None) -> TracebackType | None:
    frames = trace
    while frames is not None and _is_hidden(frames.tb_frame.f_globals):
        frames = frames.tb_next
    return frames


def _is_hidden(module: dict[str, Any]) -> bool:
    return module.get("__package__") == __package__ or module.get("__tracebackhide__") is True


def pack_exception(exc: BaseException, *, details: bool = False) -> dict[str, Any]:
    """Return an exception as plain data that the codec of any peer can encode.

    Parameters
    ----------
    exc : BaseException
        The exception.
    details : bool, optional
        Add keys for our own clients: class, arguments, notes, causes, members of a group.
    """
    pack = _established_pack(exc)
    if details:
        pack |= _details(exc, 0, set())
    elif issubclass(type(exc), BaseExceptionGroup):
        pack["traceback"] = traceback.format_exception(exc)  # the only place for the members
    return pack


def _established_pack(exc: BaseException) -> dict[str, Any]:
    cls = type(exc)
    name = WIRE_NAMES.get(cls) if type(cls) is type else None  # type: ignore[arg-type]
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
    if depth >= MAX_CHAIN or id(exc) in seen:  # each once, as in Python's own tracebacks
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
    """Return the arguments of the constructor for an equal exception."""
    if issubclass(type(exc), BaseExceptionGroup):
        return [_read(exc, "message", BaseExceptionGroup)]
    args = list(_read(exc, "args"))
    if issubclass(type(exc), OSError) and len(args) == 2:
        _, _, filename, filename2 = _os_values(exc)
        if filename is not None:
            # None is the argument winerror, on every platform.
            return [*args, filename, *([] if filename2 is None else [None, filename2])]
    return args


def _plain(value: Any, depth: int = 3) -> bool:
    """Say whether every codec preserves a value exactly."""
    if type(value) in {list, tuple}:
        return depth > 0 and all(_plain(item, depth - 1) for item in value)
    return value is None or type(value) in {bool, int, float, str, bytes}
