"""Ctrl-C, delayed until it does no harm.

A `KeyboardInterrupt` may come between any two steps of a program: also between receiving bytes from
a socket and noting their number, and then the connection could not be used any more. The one idea
to keep in mind: in such sections the handler of SIGINT only sets a flag, except while the thread
waits. So a loop of quick calls can be interrupted, and its client is usable afterwards.
"""

from __future__ import annotations

import os
from signal import SIGINT
from threading import get_ident, main_thread
from typing import TYPE_CHECKING, Any, TypeVar

try:  # the functions in C: the wrappers convert enumerations, which takes ten times as long
    from _signal import getsignal, signal  # type: ignore[import-not-found]
except ImportError:
    from signal import getsignal, signal

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


main = main_thread().ident
"""Identifier of the thread that signal handlers run on."""


def _note_main_thread() -> None:
    global main
    main = main_thread().ident


if hasattr(os, "register_at_fork"):  # the thread that forks is the main one of the child
    os.register_at_fork(after_in_child=_note_main_thread)


def interruption(error: BaseException) -> InterruptedError:
    """Return the reason for the end of a connection whose state is unknown after an exception."""
    return InterruptedError(f"interrupted by {type(error).__name__} in the middle of a message")


class Interrupts:
    """Delays Ctrl-C during an action: ``interrupts.held_back(action, argument)``.

    For any number of threads; only the main thread is interrupted, the others are not affected.
    """

    __slots__ = ("_handler", "_outer", "_pending", "_waiting", "raised_in_wait")

    def __init__(self) -> None:
        self._outer: list[bool] = []  # for each nested action: whether the outer one was waiting
        self._handler: Callable[[int, Any], Any] | None = None  # the one that was replaced
        self._waiting = False
        self._pending = False  # Ctrl-C was pressed, and not raised yet
        self.raised_in_wait: BaseException | None = None
        """The exception that ended the last wait."""

    def held_back(self, action: Callable[..., Result], *args: Any) -> Result:
        """Do something; Ctrl-C that comes meanwhile is raised at its end, or where it waits."""
        if get_ident() != main:
            return action(*args)
        depth = len(self._outer)
        try:
            self._begin()
            return action(*args)
        finally:
            try:
                self._end(depth)
            except BaseException:  # another signal handler may raise between any two steps
                self._end(depth)
                raise

    def _begin(self) -> None:
        if self._handler is None and callable(handler := getsignal(SIGINT)):
            self._pending, self._handler = False, handler
            try:
                signal(SIGINT, self._note)
            except ValueError:  # in a subinterpreter, which gets no signals
                pass
            self._handler = handler  # again: a nested call may have set it to None
        self._outer.append(self._waiting)
        self._waiting = False

    def _end(self, depth: int) -> None:
        """Restore the handler, and call it if Ctrl-C is pending. May be called again."""
        if len(self._outer) > depth:
            self._waiting = self._outer[depth]
            del self._outer[depth:]
        if depth:
            return
        self.raised_in_wait = None
        handler = self._handler
        if handler is not None:
            if getsignal(SIGINT) == self._note:  # unless a signal handler has set another one
                signal(SIGINT, handler)
            self._handler = None
            if self._pending:
                self._pending = False
                handler(SIGINT, None)

    def _note(self, number: int, frame: Any) -> None:
        if self._waiting and self._handler is not None:
            self._handler(number, frame)
        else:
            self._pending = True

    def during(self, wait: Callable[..., Result], *args: Any) -> Result:
        """Wait: Ctrl-C interrupts this. If Ctrl-C is pending, it is raised instead of waiting."""
        if get_ident() != main:
            return wait(*args)
        try:
            self._waiting = True
            if self._pending and self._handler is not None:
                self._pending = False
                self._handler(SIGINT, None)
            return wait(*args)
        except BaseException as error:
            self.raised_in_wait = error
            raise
        finally:
            self._waiting = False
