"""Exceptions as plain data, for programs that send them over channels of their own.

The one idea to keep in mind: this is the established form, which every peer and every codec reads.
PROTOCOL.md has the extended form (arguments, notes, causes) of calls between our own ends.
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
        No exception is being handled: the function must be called in an ``except`` block.

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
    """Raise the exception that `current_exc_packed`, ours or that of an established peer, packed.

    Only built-in exceptions, and those of `pc_rpc.register_exception`, keep their class.

    Raises
    ------
    Exception
        The exception. Its attribute ``parent_traceback`` has the original traceback.
    GenericRemoteException
        The class of the exception cannot be rebuilt here.
    """
    raise rebuild_exception(pack)
