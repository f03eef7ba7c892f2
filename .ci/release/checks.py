"""Whether a package can be released: public names, recorded sessions and files, siblings."""

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
"""Folders of a package with recorded files and sessions, which all later versions must support."""


_COLOUR = re.compile(r"\x1b\[\d*m")


def check(tree: Tree, level: str) -> None:
    """Raise `RefusedError`, with the reason, if the package cannot be released."""
    tree.next_version(level)
    if tree.git("status", "--porcelain"):
        raise RefusedError("there are uncommitted changes")
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
    """Return the text of the changelog under *Unreleased*.

    Raises
    ------
    RefusedError
        It is empty.
    """
    text = tree.changelog.read_text(encoding="utf-8")
    _, found, rest = text.partition(UNRELEASED)
    entries = rest.partition("\n## ")[0].strip()
    if not found or not entries:
        raise RefusedError(f"{tree.changelog}: expected entries under {UNRELEASED.strip()!r}")
    return entries


def _changed_records(tree: Tree, tag: str) -> list[str]:
    paths = [f"packages/{tree.package}/{folder}" for folder in RECORDED]
    lines = tree.git("diff", "--name-status", "--diff-filter=MDT", tag, "--", *paths).splitlines()
    return [line.replace("\t", " ") for line in lines]


def broken_names(tree: Tree, tag: str) -> list[str]:
    """Return the incompatible changes of the public names since a tag."""
    where = f"packages/{tree.package}/src"
    old = griffe.load_git(
        tree.module, ref=tag, repo=tree.root, search_paths=[where], resolve_aliases=True
    )
    new = griffe.load(tree.module, search_paths=[tree.root / where], resolve_aliases=True)
    breakages = griffe.find_breaking_changes(old, new)
    texts = [one.explain(griffe.ExplanationStyle.ONE_LINE) for one in breakages]
    return [_COLOUR.sub("", text) for text in texts]


def oldest_siblings(tree: Tree, into: Path) -> list[Path]:
    """Extract the oldest release of each sibling that the package's metadata allows.

    Parameters
    ----------
    tree : Tree
    into : Path
        Folder to extract to.

    Returns
    -------
    list of Path
        A folder for each sibling, with its ``pyproject.toml``: if there is no such release, the one
        in the work tree.
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
