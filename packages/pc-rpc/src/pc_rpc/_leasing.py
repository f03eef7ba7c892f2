"""Leases at the client: taken at the beginning of a block, renewed in it, given back at its end.

The one idea to keep in mind: the server knows who has a lease, and refuses the calls of a
connection that has lost its own. So nothing is checked here before a call. This module only renews
the lease, in a thread that lasts as long as the block.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Any

from pc_rpc._errors import ConnectionLost, IncompatibleServer, LeaseLost, RpcError
from pc_rpc._lease_requests import claim_of, own_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from pc_rpc._client_side import ClientSide
    from pc_rpc._connection import BlockingConnection

BEATS = 3
"""Renewals within the ttl of a lease: two may be late, or lost in a busy network."""

JOIN_TIMEOUT = 1.0
"""Seconds that the end of a block waits for its thread, which nearly always ends at once."""


def require(side: ClientSide) -> None:
    """Raise an error if no target is selected, or the server does not support leases."""
    if side.selected_target is None:
        raise RuntimeError("no target has been selected yet: see select_rpc_target")
    if not side.features.leases:
        raise IncompatibleServer(f"{side.peer} knows no leases: it is an older server")


def breaking(reason: str) -> dict[str, Any]:
    """Return the fields of a request that breaks a lease."""
    return {"reason": reason, "client": own_name()}


class ClaimOfBlock:
    """The base of the leases of both clients: a claim and its state.

    Parameters
    ----------
    purpose, ttl, wait, renew
        As for `Client.lease`.
    """

    def __init__(self, purpose: str, ttl: float, wait: float | None, *, renew: bool) -> None:
        self._fields = claim_of(purpose, ttl, wait, own_name(), calls=not renew)
        self._renews = renew
        self._number: int | None = None
        self._lost: str | None = None

    @property
    def lost(self) -> str | None:
        """Why the lease was lost, None while no loss is known."""
        return self._lost

    @property
    def _pause(self) -> float:
        return float(self._fields["ttl"]) / BEATS

    def _timeout(self, of_calls: float | None) -> float | None:
        """Return the time-out of the claim: to wait for other leases, then for running calls."""
        wait = self._fields["wait"]
        return None if wait is None or of_calls is None else wait + of_calls

    def _enter(self) -> None:
        if self._number is not None:
            raise RuntimeError("a lease is for one block; ask for another one")

    def _begin(self, side: ClientSide, number: int) -> None:
        """Note that the block of this lease begins; `number` is that of the request."""
        self._number, self._side = number, side
        side.blocks[number] = str(self._fields["purpose"])

    def _end(self) -> None:
        """Note that the block has ended, or did not begin."""
        self._side.blocks.pop(self._number, None)

    def _note(self, error: BaseException) -> bool:
        """Note the error of a renewal; return whether to go on renewing."""
        if isinstance(error, (LeaseLost, ConnectionLost)):
            self._lost = str(error)
            return False
        return True

    def __repr__(self) -> str:
        if self._number is None:
            state = "not taken"
        else:
            taken = self._number in self._side.blocks
            state = self._lost or ("taken" if taken else "given back")
        return f"<pc_rpc lease for {self._fields['purpose']!r}: {state}>"


class Lease(ClaimOfBlock):
    """What `Client.lease` returns, to be used in a ``with`` statement.

    Parameters
    ----------
    connection : callable
        Returns the connection.
    purpose, ttl, wait, renew
        As for `Client.lease`.
    """

    def __init__(
        self,
        connection: Callable[[], BlockingConnection],
        purpose: str,
        ttl: float,
        wait: float | None,
        *,
        renew: bool,
    ) -> None:
        super().__init__(purpose, ttl, wait, renew=renew)
        self._connect = connection
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Take the lease. See `Client.lease` for the errors."""
        self._enter()
        self._connection = connection = self._connect()
        require(connection.side)
        call, chunks = connection.side.encode_action("lease", self._fields)
        self._begin(connection.side, call.number)
        granted = False
        try:
            connection.complete(call, chunks, self._timeout(connection.timeout))
            granted = True
            if self._renews:
                self._thread = threading.Thread(
                    target=_keep_renewing,
                    args=(weakref.ref(self), self._stop, self._pause),
                    name=f"lease of {connection.label}",
                    daemon=True,
                )
                self._thread.start()
        except BaseException:
            self._end()
            if granted:  # interrupted between its reply and this block
                self._give_back()
            raise
        return self

    def renew(self) -> None:
        """Renew the lease. Needed with ``renew=False`` only.

        Raises
        ------
        LeaseLost
            The lease is over.
        """
        try:
            self._connection.request("renew_lease")
        except (LeaseLost, ConnectionLost) as error:
            self._note(error)
            raise

    def _give_back(self) -> None:
        with contextlib.suppress(RpcError, OSError):  # then it expires soon
            text = self._connection.request("release_lease", {"lease": self._number})
            self._lost = self._lost or text

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the lease back. Raises nothing: calls have raised `LeaseLost` if it was lost."""
        self._stop.set()
        self._end()
        self._give_back()
        if self._thread is not None:
            self._thread.join(JOIN_TIMEOUT)


def _keep_renewing(reference: weakref.ref[Lease], stop: threading.Event, pause: float) -> None:
    """Renew the lease regularly, as long as it is referred to. Runs in the thread."""
    while not stop.wait(pause):
        lease = reference()
        if lease is None:
            return
        try:
            lease._connection.act("renew_lease", None)
        except Exception as error:
            if not lease._note(error):
                return
        del lease  # so that it can be freed during the pause
