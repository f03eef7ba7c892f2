"""Requests about leases: written by a client, read and checked by the server.

Pure functions. PROTOCOL.md has the table of the actions.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pc_rpc._protocol import Request

ACTIONS = frozenset({"lease", "renew_lease", "release_lease", "break_lease", "get_lease"})

LONGEST_TEXT = 200
"""Maximum number of characters of a purpose, a reason or a client: one line for people."""

SHORTEST_TTL = 0.1
"""Seconds. A shorter lease would be lost by the jitter of a network."""

LONGEST_TTL = 86400.0
"""Seconds, a day. A lease that lasts longer without a sign of life was forgotten."""

_NAMELESS = {"": "python", "-": "stdin", "-c": "python -c"}
"""Names of programs without a file, by their ``sys.argv[0]``."""


class LeaseFields(NamedTuple):
    """The fields of a request about leases.

    Attributes
    ----------
    purpose : str
        Purpose of a lease, or the reason to break it.
    ttl : float
        Seconds that the lease lasts without a sign of life.
    wait : float or None
        Seconds to wait for the leases of others. None: no limit.
    calls : bool
        Whether calls are a sign of life.
    client : str
        Description of the client, by itself.
    number : int
        Id of the claim to release.
    """

    purpose: str = ""
    ttl: float = 10.0
    wait: float | None = None
    calls: bool = False
    client: str = ""
    number: int = -1


def read(request: Request) -> LeaseFields:
    """Read a request about leases.

    Raises
    ------
    KeyError, ValueError
        A field is missing or invalid.
    """
    content = request.content
    client = _text(content.get("client", ""), "client")
    if request.action == "lease":
        wait = content.get("wait")
        return LeaseFields(
            purpose_of(content["purpose"]),
            ttl_of(content.get("ttl", 10.0)),
            wait_of(wait),
            content.get("calls") is True,
            client,
        )
    if request.action == "break_lease":
        return LeaseFields(_text(content.get("reason", ""), "reason"), client=client)
    if request.action == "release_lease":
        number = content["lease"]
        if type(number) is not int:
            raise ValueError(f"expected the id of a lease, got {number!r:.100}")
        return LeaseFields(number=number)
    return LeaseFields()


def purpose_of(value: Any) -> str:
    """Return the purpose of a lease, checked."""
    if value == "":
        raise ValueError("expected the purpose of the lease, got an empty text")
    return _text(value, "purpose")


def ttl_of(value: Any) -> float:
    """Return the seconds that a lease lasts without a sign of life, checked."""
    if not (_is_number(value) and SHORTEST_TTL <= value <= LONGEST_TTL):
        raise ValueError(
            f"ttl: expected {SHORTEST_TTL:g} to {LONGEST_TTL:g} seconds, got {value!r:.100}"
        )
    return float(value)


def wait_of(value: Any) -> float | None:
    """Return the seconds to wait for the leases of others, checked; None: no limit."""
    if value is None or (_is_number(value) and value >= 0):
        return None if value is None or value > LONGEST_TTL else float(value)
    raise ValueError(f"wait: expected a number of seconds or None, got {value!r:.100}")


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and not math.isnan(value)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise ValueError(
            f"{what}: expected a text of at most {LONGEST_TEXT} characters, got {value!r:.100}"
        )
    return value


def own_name() -> str:
    """Return the description of this process for other clients: program, user, host, process id."""
    import getpass  # only clients with leases need them
    import platform

    user = "somebody"
    with contextlib.suppress(Exception):  # the user has no name: in a container, for example
        user = getpass.getuser()
    program = program_name(sys.argv[0] if sys.argv else "")
    name = f"{program} of {user} on {platform.node() or 'a computer'}"
    return f"{name[: LONGEST_TEXT - 30]}, process {os.getpid()}"


def program_name(argument: str) -> str:
    """Return the name of the program whose ``sys.argv[0]`` this is.

    Examples
    --------
    >>> program_name("scans/scan.py"), program_name("pc_rpc/__main__.py")  # python -m pc_rpc
    ('scan.py', 'pc_rpc')
    >>> program_name("-"), program_name("-c"), program_name("")  # python - <scan.py, and so on
    ('stdin', 'python -c', 'python')
    """
    if argument in _NAMELESS:
        return _NAMELESS[argument]
    folder, file = os.path.split(argument)
    return os.path.basename(folder) or file if file == "__main__.py" else file


def claim_of(
    purpose: str, ttl: float, wait: float | None, client: str, *, calls: bool
) -> dict[str, Any]:
    """Return the fields of a request for a lease, checked as the server checks them.

    Raises
    ------
    ValueError
        A field is invalid.
    """
    fields: dict[str, Any] = {"purpose": purpose_of(purpose), "ttl": ttl_of(ttl)}
    fields |= {"wait": wait_of(wait), "client": client}
    return fields | {"calls": True} if calls else fields
