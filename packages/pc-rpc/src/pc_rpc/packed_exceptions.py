"""Exceptions as plain data, for programs that carry them over channels of their own.

The one idea to keep in mind: this is the established form, which any peer and any codec reads. What
calls between our own ends carry besides (arguments, notes, causes) has its form in PROTOCOL.md.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from pc_rpc._errors import GenericRemoteException, rebuild_exception

__all__ = ["GenericRemoteException", "current_exc_packed", "raise_packed_exc"]


def current_exc_packed() -> dict[str, Any]:
    """Return the exception that is being handled, as plain data.

    Returns
    -------
    dict
        With the keys ``class``, ``message`` and ``traceback``: a name, a text, and a list with a
        text for each frame.

    Raises
    ------
    RuntimeError
        No exception is being handled: to be called in an ``except`` block.

    Examples
    --------
    >>> try:
    ...     raise ValueError("too much for the crystal")
    ... except ValueError:
    ...     pack = current_exc_packed()
    >>> pack["class"], pack["message"]
    ('ValueError', 'too much for the crystal')
    """
    exc = sys.exception()
    if exc is None:
        raise RuntimeError("no exception is being handled: call this in an except block")
    from pc_rpc._failures import pack_exception

    return pack_exception(exc)


def raise_packed_exc(pack: dict[str, Any]) -> NoReturn:
    """Raise the exception that `current_exc_packed` took apart, here or at an established peer.

    Only built-in exceptions, and those of `pc_rpc.register_exception`, come back as their class.

    Raises
    ------
    Exception
        The exception, with the frames where it was raised in ``parent_traceback``.
    GenericRemoteException
        It is of a class that cannot be rebuilt here.
    """
    raise rebuild_exception(pack)
