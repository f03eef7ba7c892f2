"""The door for gateways: what they need of the package to carry its protocol over another medium.

A gateway takes the steps of a publisher as bytes (`Subscriber` with ``decode=False`` and
``raw_buffers=True``, `Step.frames`), and speaks to subscribers as a publisher does: it reads their
`Request` and writes the messages of PROTOCOL.md. Where it cannot do what is asked for, as to cut a
part out of bytes, it publishes a `Reflection` of what it has (`Publisher.attach`).
"""

from sync_struct._addresses import name_in, without_secrets
from sync_struct._protocol import (
    GROWING_ARRAYS,
    RAW_BUFFERS,
    STALENESS,
    Position,
    Request,
    control,
    read_banner,
    refusal,
)
from sync_struct._recording import Record
from sync_struct._relay import Reflection, relaying

__all__ = [
    "GROWING_ARRAYS",
    "RAW_BUFFERS",
    "STALENESS",
    "Position",
    "Record",
    "Reflection",
    "Request",
    "control",
    "name_in",
    "read_banner",
    "refusal",
    "relaying",
    "without_secrets",
]
