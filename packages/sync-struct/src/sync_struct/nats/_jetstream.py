"""The part of JetStream that we need: requests of its API, and their errors.

Of the client library, only messages and requests are used. `_pull` replaces its consumers.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from pyon.asyncio_tasks import keep

from sync_struct._errors import SyncStructError
from sync_struct.nats._client import (
    CALL_TIMEOUT,
    abort,
    await_call,
    close,
    has_dead_task,
    has_given_up,
    is_client_error,
)
from sync_struct.nats._layout import Subjects

__all__ = ["NO_STREAM", "Entry", "JetStream", "JetStreamError"]

DISCONNECTED_LIMIT = 20.0
"""Seconds without a working connection after which the client is replaced by a new one."""

CHECK_INTERVAL = 1.0
"""Seconds between checks of the connection."""

PING_TIMEOUT = 60
"""Seconds that a ping of ours may take. The client library reconnects long before."""

DUPLICATE_WINDOW = 10.0
"""Seconds that the engine keeps message ids to recognise duplicates. It keeps them in memory; after
a longer failure, we check the last message of the stream instead."""

NO_MESSAGE, NO_STREAM = 10037, 10059
"""Error codes of the API."""

Receive = Callable[[Any], Awaitable[None]]


class JetStreamError(SyncStructError, ConnectionError):
    """The engine refused a request, or cannot be reached.

    Attributes
    ----------
    code : int
        The engine's own code of the error (``err_code``); 0 if there is none.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Entry(NamedTuple):
    """A message in a stream."""

    seq: int
    subject: str
    headers: Mapping[str, str]
    data: bytes
    time: int = 0
    """Time at which the engine stored it, in nanoseconds since 1970; 0 if unknown."""


class StreamState(NamedTuple):
    """Extent of a stream."""

    first: int
    """Sequence of the first message; of the next message if the stream is empty."""

    last: int
    """Sequence of the last message ever stored."""

    size: int
    """Bytes."""


class JetStream:
    """One connection to the engine.

    Parameters
    ----------
    client : nats.aio.client.Client
        A connected client.
    where : str
        Address for error messages.
    """

    def __init__(self, client: Any, where: str) -> None:
        self._client = client
        self.where = where
        self._pings: set[asyncio.Task[bool]] = set()

    @property
    def max_payload(self) -> int:
        """Bytes of the largest message that the engine accepts."""
        size: int = self._client.max_payload
        return size

    @property
    def connected(self) -> bool:
        """Whether there is a connection at present."""
        return bool(self._client.is_connected)

    async def lost(self) -> None:
        """Return after `DISCONNECTED_LIMIT` seconds without a working connection."""
        loop = asyncio.get_running_loop()
        connected = loop.time()
        while loop.time() - connected < DISCONNECTED_LIMIT and not has_given_up(self._client):
            await asyncio.sleep(CHECK_INTERVAL)
            if await self._answers():
                connected = loop.time()

    async def _answers(self) -> bool:
        """Return whether the engine answers a ping: a connected client may have stopped working."""
        if not self.connected or has_dead_task(self._client):
            return False
        # Not cancelled when it takes long: a late pong would end the library's reading task.
        done, _ = await asyncio.wait({keep(self._pings, self._ping())}, timeout=CALL_TIMEOUT)
        return any(ping.result() for ping in done)

    async def _ping(self) -> bool:
        try:
            await self._client.flush(timeout=PING_TIMEOUT)
        except Exception as error:
            if not is_client_error(error):
                raise
            return False
        return True

    async def publish(
        self,
        subject: str,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Send a message. Without a connection it is lost silently."""
        try:
            await await_call(
                self._client.publish(
                    subject, data, reply=reply, headers=dict(headers) if headers else None
                )
            )
        except Exception as error:
            raise self._failure(error, f"publishing {subject}") from error

    async def subscribe(self, subject: str, receive: Receive) -> Any:
        """Call a coroutine function with each message; return a handle for `unsubscribe`."""
        try:
            return await await_call(self._client.subscribe(subject, cb=receive))
        except Exception as error:
            raise self._failure(error, f"subscribing to {subject}") from error

    async def unsubscribe(self, subscription: Any) -> None:
        """End a subscription; errors of a lost connection are ignored."""
        try:
            await await_call(subscription.unsubscribe())
        except Exception as error:
            if not is_client_error(error):
                raise

    def inbox(self) -> str:
        """Return a new subject for replies."""
        text: str = self._client.new_inbox()
        return text

    async def ask(self, subject: str, timeout: float) -> bytes | None:
        """Return the reply to a request; None if there is none."""
        try:
            answer = await await_call(self._client.request(subject, b"", timeout=timeout))
        except Exception as error:
            if is_client_error(error):
                return None
            raise
        data: bytes = answer.data
        return data

    # The API of JetStream.

    async def api(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the reply to a request of the API; raise `JetStreamError` if it is an error."""
        request = b"" if body is None else json.dumps(body).encode()
        try:
            message = await await_call(
                self._client.request(f"$JS.API.{subject}", request, timeout=CALL_TIMEOUT)
            )
        except Exception as error:
            raise self._failure(error, subject) from error
        answer: dict[str, Any] = json.loads(message.data)
        if "error" in answer:
            failure = answer["error"]
            text = f"{self.where}: {subject}: {failure.get('description', failure)}"
            raise JetStreamError(text, failure.get("err_code", 0))
        return answer

    def _failure(self, error: Exception, what: str) -> Exception:
        if not is_client_error(error):
            return error
        text = "no reply (is JetStream on?)" if "NoResponders" in repr(error) else repr(error)
        return JetStreamError(f"{self.where}: {what}: {text}")

    async def make_stream(self, names: Subjects, storage: str, replicas: int) -> None:
        """Create the stream of a notifier, unless it exists."""
        try:
            await self.api(f"STREAM.INFO.{names.stream}")
        except JetStreamError as error:
            if error.code != NO_STREAM:
                raise
            config = {
                "name": names.stream,
                "subjects": [names.step, names.part, names.manifest],
                "retention": "limits",
                "discard": "old",
                "storage": storage,
                "num_replicas": replicas,
                "max_msgs": -1,
                "max_bytes": -1,
                "duplicate_window": round(DUPLICATE_WINDOW * 1e9),
            }
            await self.api(f"STREAM.CREATE.{names.stream}", config)

    async def state(self, stream: str) -> StreamState:
        """Return the extent of a stream."""
        state = (await self.api(f"STREAM.INFO.{stream}"))["state"]
        return StreamState(state["first_seq"], state["last_seq"], state["bytes"])

    async def notifiers_streams(self) -> list[str]:
        """Return the names of all streams of notifiers."""
        answer = await self.api("STREAM.NAMES", {"subject": "sync_struct.*.manifest"})
        return list(answer.get("streams") or ())

    async def last(self, stream: str, subject: str) -> Entry | None:
        """Return the last message of a subject."""
        return await self._get(stream, {"last_by_subj": subject})

    async def first(self, stream: str, subject: str) -> Entry | None:
        """Return the first message of a subject."""
        return await self._get(stream, {"seq": 1, "next_by_subj": subject})

    async def at(self, stream: str, seq: int) -> Entry | None:
        """Return the message with a sequence."""
        return await self._get(stream, {"seq": seq})

    async def _get(self, stream: str, which: Mapping[str, Any]) -> Entry | None:
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", which)
        except JetStreamError as error:
            if error.code in (NO_MESSAGE, NO_STREAM):
                return None
            raise
        found = answer["message"]
        headers = _read_headers(base64.b64decode(found.get("hdrs", "")))
        data = base64.b64decode(found.get("data", ""))
        time = datetime.datetime.fromisoformat(found["time"])
        return Entry(found["seq"], found["subject"], headers, data, int(time.timestamp() * 1e9))

    async def purge(self, stream: str, before: int) -> None:
        """Delete the messages of a stream whose sequences are below `before`."""
        await self.api(f"STREAM.PURGE.{stream}", {"seq": before})

    async def make_consumer(self, stream: str, subjects: list[str], begin: int, idle: float) -> str:
        """Create a pull consumer; return its name.

        Parameters
        ----------
        begin : int
            Sequence of its first message.
        idle : float
            Seconds without a request after which the engine deletes it.
        """
        name = f"sync_struct_{secrets.token_hex(8)}"
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": begin,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": round(idle * 1e9),
        }
        if len(subjects) == 1:
            config["filter_subject"] = subjects[0]
        else:
            config["filter_subjects"] = subjects
        body = {"stream_name": stream, "config": config, "action": "create"}
        await self.api(f"CONSUMER.CREATE.{stream}.{name}", body)
        return name

    async def close(self) -> None:
        """Close the connection."""
        for ping in self._pings:
            ping.cancel()
        await close(self._client)

    def abort(self) -> None:
        """Abort the connection, where there is no time to close it."""
        abort(self._client)


def _read_headers(raw: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in raw.decode(errors="replace").split("\r\n"))
    return {name: value.strip() for name, colon, value in lines if colon}
