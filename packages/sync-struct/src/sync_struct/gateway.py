"""The interface for gateways, which carry the protocol over another medium.

A gateway receives the steps of a publisher as bytes (`Subscriber` with ``decode=False`` and
``raw_buffers=True``, `Step.frames`). Towards subscribers it acts as a publisher: it reads their
`Request` and writes the messages of PROTOCOL.md. A request that bytes cannot satisfy, such as one
for a part, is served by publishing a `Reflection` of the structure (`Publisher.attach`).
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
