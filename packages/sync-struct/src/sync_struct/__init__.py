"""A nested list or dict owned by one process and mirrored live in others."""

from sync_struct._actions import ModAction
from sync_struct._channel import Counters
from sync_struct._errors import (
    ChangedBehindBack,
    ChangeInProgress,
    ModError,
    ModsLost,
    ProtocolError,
    StaleView,
    SubscriptionLost,
    SyncStructError,
    UnknownNotifier,
)
from sync_struct._mirror import Mirror, mirror
from sync_struct._mods import process_mod
from sync_struct._notifier import Notifier
from sync_struct._publish import PublisherThread, publish
from sync_struct._publisher import Publisher
from sync_struct._steps import Step
from sync_struct._subscriber import Subscriber
from sync_struct._undecodable import Undecodable
from sync_struct._update import update_from_dict

__all__ = [
    "ChangeInProgress",
    "ChangedBehindBack",
    "Counters",
    "Mirror",
    "ModAction",
    "ModError",
    "ModsLost",
    "Notifier",
    "ProtocolError",
    "Publisher",
    "PublisherThread",
    "StaleView",
    "Step",
    "Subscriber",
    "SubscriptionLost",
    "SyncStructError",
    "Undecodable",
    "UnknownNotifier",
    "mirror",
    "process_mod",
    "publish",
    "update_from_dict",
]

__version__ = "1.0.0"
