"""Forms for types of the standard library: dates, paths, decimal numbers and similar types.

They are not built in, because readers of the established stack do not know their names. One line
registers all of them: ``pyon.standard_types.register()``.
"""

from __future__ import annotations

import datetime
import decimal
import pathlib
import uuid
import zoneinfo
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pyon

from ._codec import shared

__all__ = ["register"]


def register(codec: pyon.Codec | None = None) -> None:
    """Register the types of this module, except those that are registered already.

    Parameters
    ----------
    codec : Codec, optional
        The codec to register with. By default that of `pyon.encode` and `pyon.decode`.

    Raises
    ------
    ValueError
        If one of the names is in use for another type.

    Examples
    --------
    >>> import datetime, pyon
    >>> codec = pyon.Codec()
    >>> register(codec)
    >>> codec.encode(datetime.date(2026, 1, 31))
    'date("2026-01-31")'
    """
    target = shared() if codec is None else codec
    for form in _FORMS:
        if not target.is_registered(form.type):
            target.register(form.type, name=form.name, encode=form.encode, decode=form.decode)


class _Form(NamedTuple):
    type: type
    name: str
    encode: Callable[[Any], Iterable[Any]]
    decode: Callable[..., Any]


def _zoned(x: datetime.datetime | datetime.time) -> Iterable[Any]:
    """Return ISO 8601 without the zone, then zone and fold if there are any."""
    text = x.replace(tzinfo=None, fold=0).isoformat()
    return (text, x.tzinfo, x.fold)[: 3 if x.fold else 2 if x.tzinfo else 1]


def _datetime(text: str, zone: datetime.tzinfo | None = None, fold: int = 0) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def _time(text: str, zone: datetime.tzinfo | None = None, fold: int = 0) -> datetime.time:
    return datetime.time.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def _timezone(x: datetime.timezone) -> Iterable[Any]:
    arguments: tuple[Any, ...] = x.__getinitargs__()  # type: ignore[attr-defined]
    return arguments


def _zone_key(x: zoneinfo.ZoneInfo) -> Iterable[Any]:
    if x.key is None:
        raise pyon.EncodeError("a ZoneInfo that was read from a file has no name")
    return (x.key,)


def _text(x: object) -> Iterable[Any]:
    return (str(x),)


_FORMS = (
    _Form(datetime.datetime, "datetime", _zoned, _datetime),
    _Form(datetime.date, "date", lambda x: (x.isoformat(),), datetime.date.fromisoformat),
    _Form(datetime.time, "time", _zoned, _time),
    _Form(
        datetime.timedelta,
        "timedelta",
        lambda x: (x.days, x.seconds, x.microseconds),
        datetime.timedelta,
    ),
    _Form(datetime.timezone, "timezone", _timezone, datetime.timezone),
    _Form(zoneinfo.ZoneInfo, "ZoneInfo", _zone_key, zoneinfo.ZoneInfo),
    _Form(decimal.Decimal, "Decimal", _text, decimal.Decimal),
    _Form(uuid.UUID, "UUID", _text, uuid.UUID),
    # The path type of this system: a path from another system becomes a path of this one.
    _Form(type(pathlib.Path()), "Path", _text, pathlib.Path),
    _Form(pathlib.PurePosixPath, "PurePosixPath", _text, pathlib.PurePosixPath),
    _Form(pathlib.PureWindowsPath, "PureWindowsPath", _text, pathlib.PureWindowsPath),
    _Form(range, "range", lambda x: (x.start, x.stop, x.step), range),
    _Form(frozenset, "frozenset", lambda x: (set(x),), frozenset),
    _Form(bytearray, "bytearray", lambda x: (bytes(x),), bytearray),
    _Form(deque, "deque", lambda x: (list(x), x.maxlen), deque),
)
