"""One request of a client and its state.

Pure state that the fast and the general path share: either can go on with a call of the other.
"""

from __future__ import annotations

import json
from typing import Any

from pyon.framing import Message


class Call:
    """A request and, once it has arrived, its reply.

    Attributes
    ----------
    number : int
        Its id; where ids were not negotiated, only a serial number.
    what : str
        Description of the request, for messages.
    step : bool
        A step of the handshake, not a request.
    sent : bool
        It may have been sent, at least in part.
    abandoned : bool
        It was given up.
    reply : Message or None
        The reply, once it has arrived.
    waiter : object
        The lock or future that the front end uses to wake the waiting thread or task.
    """

    __slots__ = ("abandoned", "number", "reply", "sent", "step", "waiter", "what")

    def __init__(self, number: int, what: str, *, step: bool = False) -> None:
        self.number = number
        self.what = what
        self.step = step
        self.sent = False
        self.abandoned = False
        self.reply: Message | None = None
        self.waiter: Any = None


class Requests(dict[str, str]):
    """The text of a request between its id and its arguments, by the name of the method.

    Attributes
    ----------
    gone : dict of str to str
        Methods that only the connection before this one had, each with the text of the error.
    """

    def __init__(self) -> None:
        self.gone: dict[str, str] = {}

    def __missing__(self, name: str) -> str:
        if name in self.gone:
            raise AttributeError(self.gone[name], name=name)
        quoted = f'"{name}"' if name.isidentifier() and name.isascii() else json.dumps(name)
        text = self[name] = f',"action":"call","name":{quoted},"args":'
        return text
