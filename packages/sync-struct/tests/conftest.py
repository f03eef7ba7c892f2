"""What the tests share: waiting for facts, publishers on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

PATIENCE = 20.0
"""Seconds until a fact that should come true counts as never coming."""


async def until(fact: Callable[[], Any]) -> None:
    """Give the loop turns until `fact()` is true."""
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110  (any fact, not only those that have an event)
            await asyncio.sleep(0)


@pytest.fixture(name="until")
def until_fixture():
    return until


def identity(x: Any) -> Any:
    return x


@pytest.fixture(name="identity")
def identity_fixture():
    return identity
