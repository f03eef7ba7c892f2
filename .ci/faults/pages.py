"""The table of pages: a new one is a module and a line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from faults.report import Report


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes
    ----------
    name : str
        Its name, and that of its module in this package.
    share : float
        Its share of the budget, relative to the others.
    """

    name: str
    share: float

    @property
    def run(self) -> Callable[[float, int, Report], None]:
        """The function ``run(budget, seed, report)`` of the module."""
        module = importlib.import_module(f"faults.{self.name}")
        return module.run  # type: ignore[no-any-return]


PAGES = [
    Page("calls", 18),
    Page("reconnecting", 5),
    Page("leases", 5),
    Page("streams", 5),
    Page("structures", 6),
    Page("hostile", 3),
    Page("load", 6),
    Page("wire", 3),
    Page("network", 4),
    Page("bridges", 6),
]
