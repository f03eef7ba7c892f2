"""Exceptions on their way to the caller: taken apart as plain data.

The one idea to keep in mind: an exception may be of a class of the user's, whose code may do
anything. Except for its ``__str__``, all that is read of it is read by Python's own means, and
`is_quiet` says beforehand whether even that is Python's own.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

from pc_rpc._errors import WIRE_NAMES, GenericRemoteException, exact_text, qualified_name

MAX_CHAIN = 16
"""Exceptions that travel behind one, as its causes or members: longer chains are loops or noise,
and their tracebacks travel as text anyway."""

MAX_PLAIN = 10_000
"""Characters of the text of an exception that cannot be sent in full: to read, not to process."""

MAX_QUIET = 64
"""Exceptions in a chain or group that are looked at on the event loop: more of them take time, and
are described elsewhere."""

_QUIET = (BaseException, KeyError, OSError, BaseExceptionGroup)
_SIMPLE = frozenset({ValueError, RuntimeError, TypeError, KeyError, IndexError, AttributeError})
"""The commonest classes: nothing but arguments, causes and contexts is to be looked at."""
_bases_of = type.__dict__["__mro__"].__get__
_contents_of = type.__dict__["__dict__"].__get__


def text_of(exc: BaseException) -> str:
    """Return what the exception says, if it can."""
    try:
        return exact_text(str(exc))
    except BaseException:  # SystemExit, too: the process is not the exception's to end
        return "<exception str() failed>"


class Failure(NamedTuple):
    """An exception on its way to the caller.

    Attributes
    ----------
    pack : dict
        Plain data that any peer's codec can encode.
    exits : bool
        It is a `SystemExit`: the server is to end.
    cancelled : bool
        The call was cancelled.
    """

    pack: dict[str, Any]
    exits: bool = False
    cancelled: bool = False


def describe(exc: BaseException, *, details: bool = False) -> Failure:
    """Take an exception apart. To be called where it was raised: it may have code of its own."""
    try:
        pack = pack_exception(without_own_frames(exc), details=details)
    except Exception as failed:  # of a part of the exception: its caller gets a reply all the same
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
    cls = type(exc)
    if type(cls) is type and cls in _SIMPLE and exc.__cause__ is exc.__context__ is None:
        return all(map(_plain, exc.args))
    for count, link in enumerate(_links(exc), 1):
        if count > MAX_QUIET or not _is_quiet(link) or not (details or _members(link) == ()):
            return False
    return True


def _links(exc: BaseException) -> Iterator[BaseException]:
    """Give the exception, its causes and contexts and the members of groups, each of them once."""
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
    """Read an attribute that Python keeps of every exception, past any property of its class."""
    return _contents_of(cls)[name].__get__(exc)


def without_own_frames(exc: BaseException) -> BaseException:
    """Take off tracebacks the frames that they begin with and that are no business of a caller.

    These are the frames of this package, and of modules that set ``__tracebackhide__``: what runs
    methods for somebody else. Causes, contexts and members of groups are treated alike.
    """
    for link in _links(exc):
        # Not by assignment: a class may have forbidden that (a frozen dataclass, for one).
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
