"""Ctrl-C that waits until it can do no harm.

A `KeyboardInterrupt` comes between any two steps of a program: also between taking bytes from a
socket and noting how many they were, and then the connection would be of no use any more. The one
idea to keep in mind: for as long as that matters, the handler of SIGINT is one that only notes it,
except where nothing is done but wait. So whoever interrupts a loop of quick calls keeps his client.
"""

from __future__ import annotations

from signal import SIGINT
from threading import get_ident, main_thread
from typing import TYPE_CHECKING, Any, TypeVar

try:  # the functions in C: those around them look for enumerations, in ten times the time
    from _signal import getsignal, signal  # type: ignore[import-not-found]
except ImportError:
    from signal import getsignal, signal

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


def _on_main_thread() -> bool:
    return get_ident() == main_thread().ident


class Interrupts:
    """Holds Ctrl-C back in blocks of code: ``with interrupts: ...``.

    For any number of threads; only the main one is ever interrupted, and the others do not notice.
    """

    __slots__ = ("_depth", "_handler", "_noted", "_waiting", "let_in")

    def __init__(self) -> None:
        self._depth = 0  # of blocks in blocks: a handler may call what it has interrupted
        self._handler: Callable[[int, Any], Any] | None = None  # what was there before
        self._waiting = False
        self._noted = False
        self.let_in: BaseException | None = None
        """What was raised in this block while nothing was done but wait."""

    def __enter__(self) -> None:
        if not _on_main_thread():
            return
        if self._handler is None and callable(handler := getsignal(SIGINT)):
            self._noted, self._handler = False, handler
            try:
                signal(SIGINT, self._note)
            except ValueError:  # in a subinterpreter, where no signal is ever handled
                self._handler = None
            except BaseException:  # interrupted before: the block is not entered
                self._handler = None
                raise
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        if not _on_main_thread():
            return
        self._depth -= 1
        if self._depth == 0:
            self.let_in = None
            handler, self._handler = self._handler, None
            if handler is not None:
                signal(SIGINT, handler)
                if self._noted:
                    handler(SIGINT, None)

    def _note(self, number: int, frame: Any) -> None:
        if self._waiting and self._handler is not None:
            self._handler(number, frame)
        else:
            self._noted = True

    def during(self, wait: Callable[..., Result], *args: Any) -> Result:
        """Do what only waits. It may be interrupted, and is not begun if it has been already."""
        if self._handler is None or not _on_main_thread():
            return wait(*args)
        try:
            self._waiting = True
            if self._noted:
                self._noted = False
                self._handler(SIGINT, None)
            return wait(*args)
        except BaseException as error:
            self.let_in = error
            raise
        finally:
            self._waiting = False
