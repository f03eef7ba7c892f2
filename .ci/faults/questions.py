"""The calls of the page of calls: arguments, expected results, and their outcome."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from pc_rpc import ConnectionLost

from faults.ledger import ANSWERED, NOT_EXECUTED, UNKNOWN


@dataclass
class Question:
    """One call.

    Attributes
    ----------
    number : int
        Its number in the ledger, and its first argument.
    method : str
        Name of a method of the driver.
    arguments : tuple
        Its further arguments.
    answer : object
        The expected result.
    error : type or None
        The exception that the server must raise instead.
    timeout : float or None
        Seconds.
    """

    number: int
    method: str
    arguments: tuple[Any, ...]
    answer: Any = None
    error: type[Exception] | None = None
    timeout: float | None = None

    def is_answer(self, result: Any) -> bool:
        """Return whether a result is the expected one."""
        return type(result) is type(self.answer) and repr(result) == repr(self.answer)

    def judge(self, result: Any, error: BaseException | None) -> int | None:
        """Return the outcome for the ledger; None if it is wrong."""
        if error is None:
            return ANSWERED if self.error is None and self.is_answer(result) else None
        if hasattr(error, "parent_traceback"):
            right = type(error) is self.error and (
                self.method != "fail" or error.args == (f"call {self.number}",)
            )
            return ANSWERED if right else None
        if isinstance(error, ConnectionLost):
            return UNKNOWN if error.sent else NOT_EXECUTED
        if isinstance(error, (TimeoutError, asyncio.CancelledError)):
            return UNKNOWN
        if isinstance(error, TypeError) and self.method == "echo" and self.error is TypeError:
            return NOT_EXECUTED
        return None


def _value(number: int, rng: Random) -> Any:
    kind = rng.randrange(6)
    if kind == 0:
        return f"value {number} \u00e9\u2028\U0001f600"
    if kind == 1:
        return [number, {"x": (float(number), None), number: number / 3}]
    if kind == 2:
        return number.to_bytes(8, "big") * rng.randrange(1, 40)
    return number * 7


def _large(number: int, rng: Random) -> Any:
    size = int(10 ** rng.uniform(2, 5))
    if rng.random() < 0.5:
        return f"{number:09}" * (size // 9)
    return np.full(size // 8, number)


TIMEOUTS = (None, None, None, None, 5.0, 5.0, 5.0, 0)
"""Seconds; 0 stands for a random time-out that many calls exceed."""


def ask(number: int, rng: Random) -> Question:
    """Return a call to make."""
    timeout = rng.choice(TIMEOUTS)
    if timeout == 0:
        timeout = rng.uniform(0, 0.2)
    kind = rng.random()
    if kind < 0.80:
        value = _value(number, rng)
        return Question(number, "echo", (value,), [number, value], timeout=timeout)
    if kind < 0.81:
        value = _large(number, rng)
        return Question(number, "echo", (value,), [number, value], timeout=timeout)
    if kind < 0.89:
        return Question(number, "fail", (), error=ValueError, timeout=timeout)
    if kind < 0.91:
        return Question(number, "odd", (), error=TypeError, timeout=timeout)
    if kind < 0.93:
        return Question(number, "echo", (object(),), error=TypeError, timeout=timeout)
    if kind < 0.97:
        return Question(number, "rest", (rng.uniform(0, 0.002),), number, timeout=timeout)
    if kind < 0.972:
        return Question(number, "block", (rng.uniform(0, 0.004),), number, timeout=timeout)
    return Question(number, "echo", (None,), [number, None], timeout=timeout)
