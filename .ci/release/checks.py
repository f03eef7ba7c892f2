"""Whether a package can be released: public names, what was recorded once, oldest siblings."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from pathlib import Path

import griffe

from release.tree import RefusedError, Tree

UNRELEASED = "## Unreleased\n"

RECORDED = ("tests/data", "tests/vectors", "fuzz/corpus")
"""Folders of a package with what was written and sent once: it must be read and said for ever."""


_COLOUR = re.compile(r"\x1b\[\d*m")


def check(tree: Tree, level: str) -> None:
    """Raise `RefusedError` if the package cannot be released, and say why."""
    tree.next_version(level)
    if tree.git("status", "--porcelain"):
        raise RefusedError("there are changes that are not committed")
    notes(tree)
    if tree.last_tag is None:
        return
    changed = _changed_records(tree, tree.last_tag)
    if changed:
        raise RefusedError(
            "recorded sessions and files may be added, but not changed or removed:\n  "
            + "\n  ".join(changed)
        )
    broken = broken_names(tree, tree.last_tag)
    if broken and level != "major":
        raise RefusedError(
            f"programs for {tree.last_tag} may break, which takes a major version:\n  "
            + "\n  ".join(broken)
        )


def notes(tree: Tree) -> str:
    """Return what the changelog says under *Unreleased*.

    Raises
    ------
    RefusedError
        There is nothing.
    """
    text = tree.changelog.read_text(encoding="utf-8")
    _, found, rest = text.partition(UNRELEASED)
    said = rest.partition("\n## ")[0].strip()
    if not found or not said:
        raise RefusedError(f"{tree.changelog}: expected news under {UNRELEASED.strip()!r}")
    return said


def _changed_records(tree: Tree, tag: str) -> list[str]:
    paths = [f"packages/{tree.package}/{folder}" for folder in RECORDED]
    lines = tree.git("diff", "--name-status", "--diff-filter=MDT", tag, "--", *paths).splitlines()
    return [line.replace("\t", " ") for line in lines]


def broken_names(tree: Tree, tag: str) -> list[str]:
    """Return what a program that was written for a tag may miss in the public names."""
    where = f"packages/{tree.package}/src"
    old = griffe.load_git(
        tree.module, ref=tag, repo=tree.root, search_paths=[where], resolve_aliases=True
    )
    new = griffe.load(tree.module, search_paths=[tree.root / where], resolve_aliases=True)
    breakages = griffe.find_breaking_changes(old, new)
    texts = [one.explain(griffe.ExplanationStyle.ONE_LINE) for one in breakages]
    return [_COLOUR.sub("", text) for text in texts]


def oldest_siblings(tree: Tree, into: Path) -> list[Path]:
    """Bring out the oldest release of each sibling that the package's metadata allows.

    Parameters
    ----------
    tree : Tree
    into : Path
        A folder for them.

    Returns
    -------
    list of Path
        A folder for each sibling, with its ``pyproject.toml``. One that has no such release yet is
        the one beside the package.
    """
    folders = []
    for needed in tree.dependencies:
        home = Path("packages", needed.name)
        allowed = [one for one in tree.released(needed.name) if one in needed.specifier]
        if not allowed:
            folders.append(tree.root / home)
            continue
        tag = f"{needed.name}-v{allowed[0]}"
        done = subprocess.run(
            ["git", "-C", tree.root, "archive", tag, str(home)], capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(into / tag, filter="data")
        folders.append(into / tag / home)
    return folders
