"""The errors of this package, one tree; each also derives from the built-in that fits best.

SyncStructError
  UnknownNotifier     (LookupError)       the publisher has no such notifier, or no such part
  ModError            (ValueError)        a mod does not fit the structure that it is applied to
  ModsLost            (RuntimeError)      a subscriber without a structure has missed mods
  StaleView           (LookupError)       a part of a notifier is not in the structure any more
  ChangeInProgress    (RuntimeError)      a change that returns a value interrupts another change
  ChangedBehindBack   (RuntimeError)      a structure was changed, but not through its notifier
  ProtocolError       (ConnectionError)   the peer broke the protocol, or refused us
  SubscriptionLost    (ConnectionError)   the connection ended, or could not be made
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ChangeInProgress",
    "ChangedBehindBack",
    "ModError",
    "ModsLost",
    "ProtocolError",
    "StaleView",
    "SubscriptionLost",
    "SyncStructError",
    "UnknownNotifier",
]


class SyncStructError(Exception):
    """Base class of all errors of this package."""


class UnknownNotifier(SyncStructError, LookupError):  # noqa: N818
    """The publisher has no notifier of that name, or its structure has no such part.

    Attributes
    ----------
    names : tuple of str
        The names of the publisher's notifiers; empty if unknown.
    """

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class ModError(SyncStructError, ValueError):
    """A mod does not fit the structure: replica and publisher differ, or the mod is malformed."""


class ModsLost(SyncStructError, RuntimeError):  # noqa: N818
    """Mods were lost that cannot be received again, by a subscriber without a structure."""


class StaleView(SyncStructError, LookupError):  # noqa: N818
    """The structure has another value, or none, at the path of this part of a notifier."""


class ChangeInProgress(SyncStructError, RuntimeError):  # noqa: N818
    """A signal handler or finaliser interrupted a change with one that returns a value.

    Changes that return nothing are postponed until the interrupted change is complete.
    """


class ChangedBehindBack(SyncStructError, RuntimeError):  # noqa: N818
    """The structure was changed, but not through its notifier: subscribers do not know of it."""


class ProtocolError(SyncStructError, ConnectionError):
    """The peer violated the protocol, or refused a message of ours."""


class SubscriptionLost(SyncStructError, ConnectionError):  # noqa: N818
    """The connection to the publisher was lost, or could not be made."""
