"""One request of a client: what it says, and what becomes of it.

Pure state that lean and general roads share: one goes on with a call where the other has left it.
"""

from __future__ import annotations

import json
from typing import Any

from pyon.framing import Message


class Call:
    """A request and, once it came, its reply.

    Attributes
    ----------
    number : int
        Its id; where ids were not negotiated, only a serial number.
    what : str
        What was asked, for messages to people.
    step : bool
        A step of the handshake, not a request.
    sent : bool
        It may have gone out, in part at least.
    abandoned : bool
        Nobody waits for the reply any more.
    reply : Message or None
        The reply, once it came.
    waiter : object
        What the front end needs to wake the waiting thread or task.
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
    """What a request says between its id and its arguments, by the name of the method.

    Attributes
    ----------
    gone : dict of str to str
        Why methods cannot be called any more that the connection before this one had.
    """

    def __init__(self) -> None:
        self.gone: dict[str, str] = {}

    def __missing__(self, name: str) -> str:
        if name in self.gone:
            raise AttributeError(self.gone[name], name=name)
        quoted = f'"{name}"' if name.isidentifier() and name.isascii() else json.dumps(name)
        text = self[name] = f',"action":"call","name":{quoted},"args":'
        return text
