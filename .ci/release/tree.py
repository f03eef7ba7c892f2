"""One package of the repository, and its releases in git."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

LEVELS = ("first", "major", "minor", "patch")

_VERSION = re.compile(r'^__version__ = "(\d+\.\d+\.\d+)"$', re.MULTILINE)


class RefusedError(Exception):
    """The package cannot be released; the text has the reason."""


class Tree:
    """A package, in a work tree.

    Parameters
    ----------
    root : Path
        The repository.
    package : str
        Name of the package, as in ``packages/``.
    """

    def __init__(self, root: Path, package: str) -> None:
        names = sorted(path.parent.name for path in root.glob("packages/*/pyproject.toml"))
        if package not in names:
            raise RefusedError(f"expected one of {', '.join(names)}, got {package!r}")
        self.root, self.package, self.siblings = root, package, names
        self.module = package.replace("-", "_")
        self.folder = root / "packages" / package
        self.changelog = self.folder / "CHANGELOG.md"
        self.source = self.folder / "src" / self.module / "__init__.py"

    @property
    def version(self) -> str:
        """The version in the source."""
        found = _VERSION.findall(self.source.read_text(encoding="utf-8"))
        if len(found) != 1:
            raise RefusedError(f'{self.source}: expected one line __version__ = "1.2.3"')
        return str(found[0])

    def set_version(self, version: str) -> None:
        """Write a version into the source."""
        text = self.source.read_text(encoding="utf-8")
        self.source.write_text(_VERSION.sub(f'__version__ = "{version}"', text), encoding="utf-8")

    @property
    def dependencies(self) -> list[Requirement]:
        """The packages of this repository that the package requires."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text("utf-8"))["project"]
        needed = [Requirement(text) for text in project["dependencies"]]
        return [one for one in needed if one.name in self.siblings]

    def next_version(self, level: str) -> str:
        """Return the version that a release of this level has.

        Raises
        ------
        RefusedError
            `level` is "first" for a released package, or another level for an unreleased one.
        """
        released = self.released(self.package)
        if level == "first":
            if released:
                raise RefusedError(f"{self.package} {released[-1]} is released: use another level")
            return self.version
        if not released:
            raise RefusedError(
                f"{self.package} was never released: write `{self.package} first`, for version"
                f" {self.version}"
            )
        if Version(self.version) != released[-1]:
            raise RefusedError(
                f"the source says {self.version}, the last tag of {self.package} {released[-1]}"
            )
        numbers = [*released[-1].release]
        place = LEVELS.index(level) - 1
        return ".".join(map(str, [*numbers[:place], numbers[place] + 1, 0, 0][:3]))

    def released(self, package: str) -> list[Version]:
        """Return the versions of a package that have a tag, the oldest first."""
        tags = self.git("tag", "--list", f"{package}-v*").split()
        return sorted(Version(tag.removeprefix(f"{package}-v")) for tag in tags)

    @property
    def last_tag(self) -> str | None:
        """The tag of the last release; None before the first one."""
        released = self.released(self.package)
        return f"{self.package}-v{released[-1]}" if released else None

    def git(self, *arguments: str) -> str:
        """Return what a git command prints."""
        done = subprocess.run(
            ["git", "-C", self.root, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RefusedError(f"git {arguments[0]}: {done.stderr.strip()}")
        return done.stdout
