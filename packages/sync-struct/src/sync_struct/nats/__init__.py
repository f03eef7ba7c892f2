"""sync-struct over NATS with JetStream: the extra ``sync-struct[nats]``.

`bridging_out` writes the steps of a publisher into JetStream, and `bridging_in` publishes them
again from there. A subscriber can also read them directly, with an address such as
``nats://host/lab``. PROTOCOL.md, *Over NATS*, specifies the contents of the stream.

In this package, *engine* means the NATS server or cluster with JetStream.
"""

from sync_struct.nats._bridge import bridging_in, bridging_out, serve_subscriber
from sync_struct.nats._connecting import Address
from sync_struct.nats._history import read_history
from sync_struct.nats._jetstream import JetStreamError
from sync_struct.nats._outlet import AnotherBridge
from sync_struct.nats._pipeline import Displaced

__all__ = [
    "Address",
    "AnotherBridge",
    "Displaced",
    "JetStreamError",
    "bridging_in",
    "bridging_out",
    "read_history",
    "serve_subscriber",
]
