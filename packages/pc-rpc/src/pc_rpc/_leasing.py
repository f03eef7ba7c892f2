"""Leases at the client: taken where a block begins, renewed in it, given back where it ends.

The one idea to keep in mind: the server knows who has a lease, and refuses the calls of a
connection that has lost its own. So nothing is looked at here before a call; what is done here is
to give a sign of life, from a thread that lasts as long as the block.
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
"""Signs of life within the time that a lease lasts: two may be late, or lost in a busy network."""

PATIENCE = 1.0
"""Seconds that the end of a block waits for its thread, which has nothing left to do."""


def require(side: ClientSide) -> None:
    """Raise `IncompatibleServer` if the server knows no leases."""
    if side.selected_target is None:
        raise RuntimeError("no target has been selected yet: see select_rpc_target")
    if not side.features.leases:
        raise IncompatibleServer(f"{side.peer} knows no leases: it is an older server")


def breaking(reason: str) -> dict[str, Any]:
    """Return what a request that breaks a lease says."""
    return {"reason": reason, "client": own_name()}


class ClaimOfBlock:
    """What leases of both clients are: a claim, and what has become of it.

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
        """Why the lease was lost, as far as that is known here; None while it is not."""
        return self._lost

    @property
    def _pause(self) -> float:
        return float(self._fields["ttl"]) / BEATS

    def _timeout(self, of_calls: float | None) -> float | None:
        """Return how long the claim may take: to wait for others, then for calls that run."""
        wait = self._fields["wait"]
        return None if wait is None or of_calls is None else wait + of_calls

    def _enter(self) -> None:
        if self._number is not None:
            raise RuntimeError("a lease is for one block; ask for another one")

    def _begin(self, side: ClientSide, number: int) -> None:
        """Note that the block of this lease begins: with the request of that number."""
        self._number, self._side = number, side
        side.blocks[number] = str(self._fields["purpose"])

    def _end(self) -> None:
        """Note that the block has ended, or did not begin."""
        self._side.blocks.pop(self._number, None)

    def _note(self, error: BaseException) -> bool:
        """Take in what a sign of life met; say whether another one is of any use."""
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
        """Take the lease, or raise why it cannot be had."""
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
        """Give a sign of life: for ``renew=False``, else that is done by itself.

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
        with contextlib.suppress(RpcError, OSError):  # then it is over by itself, soon
            text = self._connection.request("release_lease", {"lease": self._number})
            self._lost = self._lost or text

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the lease back. Raises nothing: calls have told if it was lost."""
        self._stop.set()
        self._end()
        self._give_back()
        if self._thread is not None:
            self._thread.join(PATIENCE)


def _keep_renewing(reference: weakref.ref[Lease], stop: threading.Event, pause: float) -> None:
    """Give a sign of life now and then, as long as anybody has the lease."""
    while not stop.wait(pause):
        lease = reference()
        if lease is None:
            return
        try:
            lease._connection.act("renew_lease", None)
        except Exception as error:
            if not lease._note(error):
                return
        del lease  # or nobody could see that its last user has gone
