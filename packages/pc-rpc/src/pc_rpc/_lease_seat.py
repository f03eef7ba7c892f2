"""One connection at the desk of its target: requests about leases, and the replies.

The one idea to keep in mind: all communication between a session and the leases passes here. A
session asks whether a barred call waits or fails; the desk has calls refused or resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyon

from pc_rpc._execution import NOT_BEGUN
from pc_rpc._lease_requests import read

if TYPE_CHECKING:
    from pc_rpc._lease_desk import Desk
    from pc_rpc._protocol import Request, ServerSide
    from pc_rpc._schedule import Schedule
    from pc_rpc._session import Session


class Seat:
    """One connection at the desk of its target.

    Attributes
    ----------
    watched : bool
        Whether the session must report the ends of its calls: see `call_ended`.
    schedule, side
        Those of the session.
    peer : str
        Address of the client.
    """

    __slots__ = ("_desk", "_session", "peer", "schedule", "side", "watched")

    def __init__(self, desk: Desk, session: Session, schedule: Schedule, side: ServerSide) -> None:
        self.schedule = schedule
        self.side = side
        self.peer = session.peername
        self.watched = False
        self._desk = desk
        self._session = session
        desk.enter(self)

    # For the session.

    def answer(self, request: Request) -> None:
        """Handle a request about leases; reply now, or when the lease is granted."""
        try:
            self._do(request)
        except Exception as error:
            self.refuse(request.number, error)

    def _do(self, request: Request) -> None:
        number, asked = request.number, read(request)
        result: Any = None
        if not self._desk.leasable:
            raise ValueError(
                f"the target {self._desk.target!r} is made for each connection and cannot be "
                "leased: no other client can call it"
            )
        if number is None:
            raise ValueError("a request about leases needs an id")
        if request.action == "lease":
            self._desk.ask(self, number, asked)
            return
        if request.action == "renew_lease":
            self._desk.renew(self)
        elif request.action == "release_lease":
            result = self._desk.release(self, asked.number)
        elif request.action == "break_lease":
            result = self._desk.break_(self, asked)
        else:
            result = self._desk.holder()
        self.confirm(number, result)

    def refusal(self) -> Exception | None:
        """Return the error for a barred call; None if the call waits."""
        lost = self._desk.lost(self)
        if lost is None and self.side.features.lease_waits:
            return None
        return lost or self._desk.refusal(self)

    def cancel(self, number: object) -> None:
        """Remove the claim of the request with this id, if there is one."""
        if type(number) is int:
            self._desk.cancel(self, number)

    def call_ended(self) -> None:
        """Note that a call has ended."""
        self._desk.call_ended(self)

    def leave(self) -> None:
        """Note that the connection has ended."""
        self._desk.leave(self)

    def forget(self) -> None:
        """Note that no call of the ended connection runs."""
        self._desk.forget(self)

    # For the desk.

    def resume(self) -> None:
        """Start the calls that have waited, and resume the streams."""
        if not self._session.closed:
            self._session.start_calls()
            self._session.resume_streams()

    def refuse_waiting(self) -> None:
        """Refuse the waiting calls, and continue reading."""
        away = self.schedule.remove_waiting()
        for call in away:
            self.refuse(call.number, self._desk.refusal(self))
        if away:
            self.resume()

    def end_streams(self) -> None:
        """End the streams of a connection that has lost its lease, with the error."""
        error = self._desk.lost(self)
        if error is not None:
            self._session.fail_streams(error)

    def confirm(self, number: int, result: Any = None) -> None:
        """Reply to a request."""
        if not self._session.closed:
            text = pyon.encode(result, version=2)
            self._session.send_chunks(self.side.confirm(number, text))

    def confirm_cancelled(self, number: int) -> None:
        """Reply to a claim whose caller has given it up."""
        if not self._session.closed:
            self._session.send_chunks(self.side.failure(number, NOT_BEGUN))

    def refuse(self, number: int | None, error: Exception) -> None:
        """Reply to a request with an error."""
        if not self._session.closed:
            self._session.send_chunks(self.side.refusal(number, error))
