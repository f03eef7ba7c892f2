"""The errors of this package, one tree; each is also the built-in that a stranger would catch.

SyncStructError
  UnknownNotifier     (LookupError)       the publisher has no notifier, or no part, of that name
  ModError            (ValueError)        a mod does not fit the structure that it is applied to
  ModsLost            (RuntimeError)      a subscriber of mods alone was too slow, or late
  StaleView           (LookupError)       a part of a notifier is not in the structure any more
  ChangeInProgress    (RuntimeError)      a change that returns something, made within another one
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
    """What all errors of this package have in common."""


class UnknownNotifier(SyncStructError, LookupError):  # noqa: N818
    """The publisher has no notifier of that name, or the structure no such part.

    Attributes
    ----------
    names : tuple of str
        The notifiers that there are; empty if the publisher did not tell.
    """

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class ModError(SyncStructError, ValueError):
    """A mod does not fit the structure: replica and publisher disagree, or it is no mod at all."""


class ModsLost(SyncStructError, RuntimeError):  # noqa: N818
    """A subscriber that takes no snapshots has missed mods for good."""


class StaleView(SyncStructError, LookupError):  # noqa: N818
    """A part of a notifier was kept, and its place in the structure holds something else now."""


class ChangeInProgress(SyncStructError, RuntimeError):  # noqa: N818
    """A signal handler or finaliser asked for a change and its result while another was being made.

    Changes that return nothing are postponed until the other one is complete.
    """


class ChangedBehindBack(SyncStructError, RuntimeError):  # noqa: N818
    """The structure was changed, but not through its notifier, so that nobody was told."""


class ProtocolError(SyncStructError, ConnectionError):
    """The peer sent what the protocol does not allow, or refused what we sent."""


class SubscriptionLost(SyncStructError, ConnectionError):  # noqa: N818
    """The connection to the publisher is gone, or could not be made."""
