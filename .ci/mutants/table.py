"""The tables of edits: what is changed, which promise that breaks, which tests should notice."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TABLES = Path(__file__).resolve().parent


class TableError(ValueError):
    """An entry does not fit the code, or the tests, any more."""


@dataclass(frozen=True)
class Mutant:
    """One deliberate fault.

    Parameters
    ----------
    name : str
        Unique in all tables.
    package : str
        Whose code is changed, and whose tests should notice.
    file : str
        Relative to the package's source, ``_files.py`` for example.
    before, after : str
        The text that is replaced, which the file has once, and what takes its place.
    promise : str
        What does not hold any more.
    tests : tuple of str
        Files of tests, or tests in them, relative to the tests of the package.
    survives : str
        Why no test can notice, or none should. Empty: one must.
    """

    name: str
    package: str
    file: str
    before: str
    after: str
    promise: str
    tests: tuple[str, ...]
    survives: str = ""

    @property
    def path(self) -> Path:
        """The file that is changed, relative to the repository."""
        return Path("packages", self.package, "src", self.package.replace("-", "_"), self.file)

    @property
    def test_paths(self) -> tuple[str, ...]:
        """The tests that should notice, as pytest takes them in the repository."""
        return tuple(f"packages/{self.package}/tests/{test}" for test in self.tests)

    def changed(self, source: str) -> str:
        """Return the source with the fault in it.

        Raises
        ------
        TableError
            The text to be replaced is not there, or there more than once.
        """
        found = source.count(self.before)
        if found != 1:
            raise TableError(f"{self.name}: {self.path} has the text {found} times, expected once")
        return source.replace(self.before, self.after)

    def check(self, root: Path) -> None:
        """Compare the entry with the code and the tests.

        Raises
        ------
        TableError
            It does not fit.
        """
        if not (root / self.path).is_file():
            raise TableError(f"{self.name}: there is no {self.path}")
        self.changed((root / self.path).read_text(encoding="utf-8"))
        for test in self.test_paths:
            path, _, rest = test.partition("::")
            if not (root / path).is_file():
                raise TableError(f"{self.name}: there is no {path}")
            source = (root / path).read_text(encoding="utf-8")
            for name in filter(None, rest.partition("[")[0].split("::")):
                if not re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", source, re.MULTILINE):
                    raise TableError(f"{self.name}: {path} has no {name}")


def check(mutants: Iterable[Mutant], root: Path) -> None:
    """Compare entries with the code and the tests; raise one TableError for all that do not fit."""
    wrong = []
    for mutant in mutants:
        try:
            mutant.check(root)
        except TableError as error:
            wrong.append(str(error))
    if wrong:
        raise TableError("\n".join(wrong))


def load(folder: Path = TABLES) -> list[Mutant]:
    """Return what the tables of a folder have, in their order; one table for each package.

    Raises
    ------
    TableError
        An entry lacks something, has something unknown, or the name of another one.
    """
    found: dict[str, Mutant] = {}
    for table in sorted(folder.glob("*.toml")):
        for entry in tomllib.loads(table.read_text(encoding="utf-8"))["mutant"]:
            mutant = _read(table.stem, entry)
            if mutant.name in found:
                raise TableError(f"two entries have the name {mutant.name}")
            found[mutant.name] = mutant
    return list(found.values())


def _read(package: str, entry: dict[str, str | list[str]]) -> Mutant:
    try:
        mutant = Mutant(package=package, **{**entry, "tests": tuple(entry["tests"])})  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise TableError(f"{package}.toml, {entry.get('name')}: {error}") from None
    if not mutant.tests or not mutant.promise or mutant.before == mutant.after:
        raise TableError(f"{mutant.name}: expected a change, a promise, and tests")
    return mutant
