"""The fast path of a subscriber: handles the usual small mods of one read in one loop.

It is taken while the replica is live, has no observer and at most one callback, for complete lines
that are each a step of one mod of a list or dict. Any other line is left, without any effect, to
the general path (`Subscription.receive`), which also raises the errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyon.wire import LINE_SIZE, line_scanner

from sync_struct._actions import ACTIONS
from sync_struct._callbacks import is_awaitable
from sync_struct._copies import unshared
from sync_struct._kinds import PLAIN
from sync_struct._raw_arrays import read_setting

if TYPE_CHECKING:
    from pyon.framing import Message

    from sync_struct._actions import Mod
    from sync_struct._subscriber_connection import SubscriberConnection
    from sync_struct._subscription import Subscription

__all__ = ["take_array", "take_lines"]

LEAN = True
"""Whether the fast path may be taken. Tests turn it off to compare it with the general path."""


def take_lines(subscription: Subscription, connection: SubscriberConnection, lines: str) -> int:
    """Handle the lines of one read up to the first unusual one; return the characters handled."""
    scan = line_scanner(lines)
    if scan is None or not _is_usual(subscription, connection):
        return 0
    replica, begin = subscription.replica, 0
    while begin < len(lines):
        end, callbacks = lines.index("\n", begin), subscription.notify_cbs
        if end - begin >= LINE_SIZE or len(callbacks) > 1:
            break
        try:
            mod, stop = scan(lines, begin)
            number, action = mod.pop("number", None), ACTIONS[mod["action"]]
            if stop != end or type(number) is not int:
                break
            container = _container_at(mod["path"], replica.target)
            action.apply(container, unshared(mod) if callbacks else mod)
        except _UNUSUAL:
            break
        begin, replica.number, replica.fits = end + 1, number, True
        if callbacks and not _call_callback(subscription, connection, mod):
            break
    return begin


def take_array(
    subscription: Subscription, connection: SubscriberConnection, message: Message
) -> bool:
    """Handle a message that sets an item to an array, if it is usual; return whether it was."""
    replica, callbacks = subscription.replica, subscription.notify_cbs
    line, buffers = message.line, message.buffers
    if len(callbacks) > 1 or not _is_usual(subscription, connection):
        return False
    if len(buffers) > 1 or len(line) >= LINE_SIZE or line[-1] != _BRACE:
        return False
    announced = b'{"buffers":[%d],' % len(buffers[0])
    text, _, number = bytes(line[len(announced) : -1]).rpartition(b',"number":')
    if not (line.startswith(announced) and number.isdigit() and number[0] != _ZERO):
        return False
    setting = read_setting(b"{%b}" % text, len(buffers[0]))
    if setting is None:
        return False
    mod = setting.mod(buffers[0])
    try:
        container = _container_at(setting.path, replica.target)
        ACTIONS["setitem"].apply(container, unshared(mod) if callbacks else mod)
    except _UNUSUAL:
        return False
    replica.number, replica.fits = int(number), True
    if callbacks:
        _call_callback(subscription, connection, mod)
    return True


_BRACE, _ZERO = b"}0"


def _container_at(path: Iterable[Any], container: Any) -> Any:
    """Return the list or dict at a path in `container`.

    LookupError: there is none, or the path leads through another type.
    """
    for key in path:
        if type(container) not in PLAIN:
            raise LookupError(key)
        container = container[key]
    if type(container) not in PLAIN:
        raise LookupError
    return container


def _call_callback(subscription: Subscription, connection: SubscriberConnection, mod: Mod) -> bool:
    """Call the callback; return whether the next message can be handled at once."""
    result = subscription.callbacks.call(subscription.notify_cbs[0], mod)
    if result is not None and is_awaitable(result):
        subscription.wait_for(connection, result, iter(()), ends=True)
        return False
    return connection is subscription.connection


_UNUSUAL = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    StopIteration,
    RecursionError,
)
"""Exceptions that an unusual line raises before it has changed anything."""


def _is_usual(subscription: Subscription, connection: SubscriberConnection) -> bool:
    """Return whether a small mod only has to be applied and passed to a callback."""
    replica, request = subscription.replica, subscription.request
    return (
        LEAN
        and connection is subscription.connection
        and subscription.state == "live"
        and replica.live
        and not (replica.legacy or replica.pending)
        and not (request.wish.mods_only or request.max_rate is not None)
        and subscription.guard is None
        and connection.ready.done()
    )
