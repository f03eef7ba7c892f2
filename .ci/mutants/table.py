"""The tables of edits: the change, the promise that it breaks, the tests that should fail."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TABLES = Path(__file__).resolve().parent


class TableError(ValueError):
    """An entry does not match the code or the tests."""


@dataclass(frozen=True)
class Mutant:
    """One deliberate fault.

    Parameters
    ----------
    name : str
        Unique among all tables.
    package : str
        The package whose code is changed, and whose tests should fail.
    file : str
        Path relative to the package's source, ``_files.py`` for example.
    before, after : str
        The text to be replaced, which occurs once in the file, and its replacement.
    promise : str
        The promise that the mutant breaks.
    tests : tuple of str
        Test files, or tests in them, relative to the tests of the package.
    survives : str
        The reason why no test can fail, or need fail. Empty: one must.
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
        """The tests that should fail, as arguments of pytest in the repository."""
        return tuple(f"packages/{self.package}/tests/{test}" for test in self.tests)

    def changed(self, source: str) -> str:
        """Return the mutated source.

        Raises
        ------
        TableError
            The text to be replaced does not occur exactly once.
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
            It does not match.
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
    """Compare entries with code and tests; raise one TableError for all that do not match."""
    wrong = []
    for mutant in mutants:
        try:
            mutant.check(root)
        except TableError as error:
            wrong.append(str(error))
    if wrong:
        raise TableError("\n".join(wrong))


def load(folder: Path = TABLES) -> list[Mutant]:
    """Return the entries of all tables in a folder, in order; each package has a table.

    Raises
    ------
    TableError
        An entry lacks a field, has an unknown field, or has the name of another one.
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
