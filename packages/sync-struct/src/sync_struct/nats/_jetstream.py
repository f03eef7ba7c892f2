"""JetStream, as far as we need it: requests of its API, and what they fail with.

Of the client library only messages and requests are used; its own idea of a consumer is not: see
`_pull`.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from sync_struct._errors import SyncStructError
from sync_struct.nats._layout import Subjects

__all__ = ["NO_STREAM", "Entry", "JetStream", "JetStreamError", "close", "is_of_client"]

REQUEST_TIMEOUT = 5.0
"""Seconds until an answer of the engine counts as never coming; it answers within milliseconds."""

GIVE_UP = 20.0
"""Seconds without a connection after which another client is made, whatever the one is doing."""

LOOK = 1.0
"""Seconds between looks at that."""

DUPLICATE_WINDOW = 10.0
"""Seconds that the engine keeps ids of messages to recognise repeated ones: it keeps them in
memory, and we look at the last message after any longer disturbance."""

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
    """A message as it lies in a stream."""

    seq: int
    subject: str
    headers: Mapping[str, str]
    data: bytes
    time: int = 0
    """Nanoseconds since 1970 at which the engine took it, where that is known."""


class JetStream:
    """One connection to the engine.

    Parameters
    ----------
    client : nats.aio.client.Client
        Connected.
    where : str
        For error messages.
    """

    def __init__(self, client: Any, where: str) -> None:
        self._client = client
        self.where = where

    @property
    def max_payload(self) -> int:
        """Bytes of the largest message that the engine takes."""
        size: int = self._client.max_payload
        return size

    @property
    def connected(self) -> bool:
        """Whether there is a connection at present."""
        return bool(self._client.is_connected)

    async def lost(self) -> None:
        """Return when there has been no connection for long: another one has to be made."""
        loop = asyncio.get_running_loop()
        connected = loop.time()
        while loop.time() - connected < GIVE_UP and not _has_given_up(self._client):
            await asyncio.sleep(LOOK)
            if await self._answers():
                connected = loop.time()

    async def _answers(self) -> bool:
        """Tell whether the engine answers a ping: a client may be connected, and do nothing."""
        if not self.connected:
            return False
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._client.flush()
        except Exception as error:
            if not is_of_client(error):
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
        """Send a message; it is lost if there is no connection, and nobody tells."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                await self._client.publish(
                    subject, data, reply=reply, headers=dict(headers) if headers else None
                )
        except Exception as error:
            raise self._failure(error, f"publishing {subject}") from error

    async def subscribe(self, subject: str, receive: Receive) -> Any:
        """Have a coroutine function called with each message; returns what `unsubscribe` takes."""
        try:
            return await self._client.subscribe(subject, cb=receive)
        except Exception as error:
            raise self._failure(error, f"subscribing to {subject}") from error

    async def unsubscribe(self, subscription: Any) -> None:
        """End a subscription, as far as there is a connection."""
        try:
            await subscription.unsubscribe()
        except Exception as error:
            if not is_of_client(error):
                raise

    def inbox(self) -> str:
        """Return a subject for answers."""
        text: str = self._client.new_inbox()
        return text

    async def ask(self, subject: str, timeout: float) -> bytes | None:
        """Return the answer to a request; None if nobody is there to answer."""
        try:
            answer = await self._client.request(subject, b"", timeout=timeout)
        except Exception as error:
            if is_of_client(error):
                return None
            raise
        data: bytes = answer.data
        return data

    # The API of JetStream.

    async def api(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a request of the API; `JetStreamError` if it is an error."""
        request = b"" if body is None else json.dumps(body).encode()
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):  # also where it cannot be sent
                message = await self._client.request(
                    f"$JS.API.{subject}", request, timeout=REQUEST_TIMEOUT
                )
        except Exception as error:
            raise self._failure(error, subject) from error
        answer: dict[str, Any] = json.loads(message.data)
        if "error" in answer:
            told = answer["error"]
            text = f"{self.where}: {subject}: {told.get('description', told)}"
            raise JetStreamError(text, told.get("err_code", 0))
        return answer

    def _failure(self, error: Exception, what: str) -> Exception:
        if not is_of_client(error):
            return error
        text = "nobody answers (is JetStream on?)" if "NoResponders" in repr(error) else repr(error)
        return JetStreamError(f"{self.where}: {what}: {text}")

    async def make_stream(self, names: Subjects, storage: str, replicas: int) -> None:
        """Make the stream of a notifier, unless it is there."""
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

    async def state(self, stream: str) -> tuple[int, int]:
        """Return the last sequence of a stream, and its size in bytes."""
        answer = await self.api(f"STREAM.INFO.{stream}")
        return answer["state"]["last_seq"], answer["state"]["bytes"]

    async def notifiers_streams(self) -> list[str]:
        """Return the streams that there are for notifiers."""
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
        """Make a consumer that is asked for messages; return its name.

        Parameters
        ----------
        begin : int
            The sequence from which on it has messages.
        idle : float
            Seconds without a request after which the engine forgets it.
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
        await close(self._client)


def _read_headers(raw: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in raw.decode(errors="replace").split("\r\n"))
    return {name: value.strip() for name, colon, value in lines if colon}


OF_CLOSED_TRANSPORTS = (AttributeError, TypeError, RuntimeError)
"""What the client library raises where it writes to a transport that has just been closed."""


def is_of_client(error: Exception) -> bool:
    """Tell whether an error is of the client library, or of the network below it."""
    kinds = (TimeoutError, OSError, *OF_CLOSED_TRANSPORTS)
    return isinstance(error, kinds) or type(error).__module__.startswith("nats.")


def _has_given_up(client: Any) -> bool:
    """Tell whether the task of the client library that connects again has failed.

    An error that it does not foresee, as where a greeting is cut, ends it for good.
    """
    task = getattr(client, "_reconnection_task", None)
    if task is None or not task.done() or task.cancelled():
        return False
    return task.exception() is not None and not client.is_connected


async def close(client: Any) -> None:
    """Close a client, in whatever state it is."""
    _has_given_up(client)  # so that nobody wonders about the error
    try:
        await client.close()
    except (*OF_CLOSED_TRANSPORTS, OSError):
        # It was lost just now: the client library writes to a transport that is closed, and leaves
        # the tasks of its subscriptions behind.
        for subscription in list(getattr(client, "_subs", {}).values()):
            task = getattr(subscription, "_wait_for_msgs_task", None)
            if task is not None:
                task.cancel()
