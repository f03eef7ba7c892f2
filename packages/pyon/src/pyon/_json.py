"""The C scanner of the standard library's `json`, set up so that its limits are those of PYON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ._integers import digits_are_limited, parse_integer

Scan = Callable[[str, int], tuple[Any, int]]


class JsonScanner:
    """Reads JSON from any offset of a text.

    Parameters
    ----------
    hook : callable, optional
        Makes the value of a JSON object out of the dict that it is.
    constant : callable, optional
        Makes the value of ``NaN``, ``Infinity`` and ``-Infinity``.
    """

    def __init__(
        self,
        hook: Callable[[dict[str, Any]], Any] | None = None,
        constant: Callable[[str], Any] | None = None,
    ) -> None:
        self._options: dict[str, Any] = {"object_hook": hook, "parse_constant": constant}
        self._quick = self._make()

    def _make(self, **options: Any) -> Scan:
        scan: Scan = json.JSONDecoder(strict=False, **self._options, **options).scan_once  # type: ignore[attr-defined]
        return scan

    def quick(self) -> Scan:
        """Give a scanner that may raise a plain ValueError where an integer is long."""
        return self._quick if digits_are_limited() else self.thorough()

    def thorough(self) -> Scan:
        """Give a slower scanner that reads all integers that PYON allows."""
        return self._make(parse_int=parse_integer)
