"""The lines of a server in the handshake, read by clients; pure functions.

The peer may be a server of any generation, or something else: a line that cannot be read raises an
error that shows it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pyon

from pc_rpc._errors import IncompatibleServer, ProtocolError, rebuild_exception
from pc_rpc._protocol import FEATURES, AutoTarget, _read_json


class Greeting(NamedTuple):
    """The first line of a server."""

    targets: list[str]
    description: str | None
    offered: list[str]
    """The features that both ends have."""
    leases: list[dict[str, Any]]
    """The current leases: see PROTOCOL.md."""


def read_greeting(line: bytes, peer: str) -> Greeting:
    """Read the first line of a server; `peer` is its address, for messages.

    Raises
    ------
    ProtocolError
        The line is not a greeting.
    """
    try:
        greeting = _read_json(line.decode())
        targets, description = greeting["targets"], greeting["description"]
        offered, leases = greeting.get("features") or [], greeting.get("leases")
        if not (isinstance(targets, list) and isinstance(offered, list)):
            raise TypeError("not lists")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        hint = " (does it speak TLS?)" if line[:1] in {b"\x15", b"\x16"} else ""
        expected = f"{peer}: expected the greeting of an RPC server"
        raise ProtocolError(f"{expected}, got {line[:100]!r:.100}{hint}") from error
    words = [word for word in FEATURES if word in offered]
    leases = [lease for lease in leases if type(lease) is dict] if type(leases) is list else []
    return Greeting(list(map(str, targets)), description, words, leases)


def choose(target_name: str | AutoTarget | type[AutoTarget], targets: list[str]) -> str:
    """Return the name of the target to select.

    Raises
    ------
    IncompatibleServer
        There is no such target.
    ValueError
        `AutoTarget`, and there is not exactly one target.
    """
    available = " ".join(sorted(targets)) or "none"
    if isinstance(target_name, AutoTarget) or (
        isinstance(target_name, type) and issubclass(target_name, AutoTarget)
    ):
        if len(targets) != 1:
            raise ValueError(
                f"AutoTarget needs a server with one target, this one has: {available}"
            )
        return targets[0]
    if target_name not in targets:
        raise IncompatibleServer(
            f"expected the target {target_name!r}, the server has: {available}"
        )
    return target_name


class Announced(NamedTuple):
    """The methods of a target."""

    methods: frozenset[str]
    """Their names."""
    streams: frozenset[str]
    """The names of those that return streams."""


def read_methods(line: bytes, peer: str, target: str | None) -> Announced:
    """Read the names of a target's methods; or raise the exception of its factory.

    Parameters
    ----------
    line : bytes
        The answer of the server to the selection of the target.
    peer : str
        Its address, for messages.
    target : str or None
        The target, if the server may send an exception instead; None otherwise.

    Raises
    ------
    ProtocolError
        The line is neither.
    """
    if (announced := _as_ours(line)) is not None:
        return announced
    expected = f"{peer}: expected the set of method names, got {line[:100]!r:.100}"
    try:
        names = pyon.decode(line)
    except pyon.DecodeError as error:
        raise ProtocolError(expected) from error
    if target is not None and isinstance(names, dict) and "exception" in names:
        raised = rebuild_exception(names["exception"])
        note = f"{peer} cannot make {target!r}"
        notes = [note, *getattr(raised, "__notes__", ())]  # the frames at the server come last
        BaseException.__setattr__(raised, "__notes__", notes)
        try:
            raise raised
        finally:
            del raised  # its traceback refers to this frame
    if isinstance(names, dict) and isinstance(names.get("methods"), list):
        streams = names.get("streams")
        listed = streams if isinstance(streams, list) else []
        return Announced(frozenset(map(str, names["methods"])), frozenset(map(str, listed)))
    if not isinstance(names, (set, dict, list)):  # v1 spells the empty set like an empty dict
        raise ProtocolError(expected)
    return Announced(frozenset(map(str, names)), frozenset())


def _as_ours(line: bytes) -> Announced | None:
    """Read the form that our servers send to our clients, quickly; None for any other."""
    try:
        said = _read_json(line.decode())
    except (ValueError, RecursionError):
        return None
    if type(said) is not dict or len(said) != 2:
        return None
    methods, streams = said.get("methods"), said.get("streams")
    if type(methods) is not list or type(streams) is not list:
        return None
    if not {*map(type, methods), *map(type, streams)} <= {str}:
        return None
    return Announced(frozenset(methods), frozenset(streams))
