"""Ctrl-C that waits until it can do no harm.

A `KeyboardInterrupt` comes between any two steps of a program: also between taking bytes from a
socket and noting how many they were, and then the connection would be of no use any more. The one
idea to keep in mind: for as long as that matters, the handler of SIGINT is one that only notes it,
except where nothing is done but wait. So a loop of quick calls can be interrupted,
and its client used on.
"""

from __future__ import annotations

import os
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


main = main_thread().ident
"""Ident of the thread that signal handlers run on."""


def _note_main_thread() -> None:
    global main
    main = main_thread().ident


if hasattr(os, "register_at_fork"):  # the thread that forks is the main one of the child
    os.register_at_fork(after_in_child=_note_main_thread)


def interruption(error: BaseException) -> InterruptedError:
    """Return the reason of the end of a connection whose state an exception has spoilt."""
    return InterruptedError(f"interrupted by {type(error).__name__} in the middle of a message")


class Interrupts:
    """Holds Ctrl-C back while something is done: ``interrupts.held_back(do, it)``.

    For any number of threads; only the main one is ever interrupted, and the others do not notice.
    """

    __slots__ = ("_handler", "_noted", "_outer", "_waiting", "let_in")

    def __init__(self) -> None:
        self._outer: list[bool] = []  # for each action: whether what it interrupted waited
        self._handler: Callable[[int, Any], Any] | None = None  # what was there before
        self._waiting = False
        self._noted = False
        self.let_in: BaseException | None = None
        """What was raised while nothing was done but wait."""

    def held_back(self, action: Callable[..., Result], *args: Any) -> Result:
        """Do something; Ctrl-C that comes meanwhile is raised behind it, or where it waits."""
        if get_ident() != main:
            return action(*args)
        depth = len(self._outer)
        try:
            self._begin()
            return action(*args)
        finally:
            try:
                self._end(depth)
            except BaseException:  # what other signals raise may come between any two steps
                self._end(depth)
                raise

    def _begin(self) -> None:
        if self._handler is None and callable(handler := getsignal(SIGINT)):
            self._noted, self._handler = False, handler
            try:
                signal(SIGINT, self._note)
            except ValueError:  # in a subinterpreter, where no signal comes
                pass
            self._handler = handler  # again: a call that came in between has forgotten it
        self._outer.append(self._waiting)
        self._waiting = False

    def _end(self, depth: int) -> None:
        """Give the signal back, and raise what was noted. May be called again."""
        if len(self._outer) > depth:
            self._waiting = self._outer[depth]
            del self._outer[depth:]
        if depth:
            return
        self.let_in = None
        handler = self._handler
        if handler is not None:
            if getsignal(SIGINT) == self._note:  # not if a signal handler has set another one
                signal(SIGINT, handler)
            self._handler = None
            if self._noted:
                self._noted = False
                handler(SIGINT, None)

    def _note(self, number: int, frame: Any) -> None:
        if self._waiting and self._handler is not None:
            self._handler(number, frame)
        else:
            self._noted = True

    def during(self, wait: Callable[..., Result], *args: Any) -> Result:
        """Do what only waits. It may be interrupted, and is not begun if it has been already."""
        if get_ident() != main:
            return wait(*args)
        try:
            self._waiting = True
            if self._noted and self._handler is not None:
                self._noted = False
                self._handler(SIGINT, None)
            return wait(*args)
        except BaseException as error:
            self.let_in = error
            raise
        finally:
            self._waiting = False
