"""The commit and the tag of a release, before they are pushed."""

from __future__ import annotations

from release.checks import UNRELEASED
from release.tree import Tree


def prepare(tree: Tree, level: str, date: str) -> str:
    """Write version and changelog, commit and tag; push nothing.

    Parameters
    ----------
    tree : Tree
        Without uncommitted changes.
    level : str
        "first", "major", "minor" or "patch".
    date : str
        As in ISO 8601.

    Returns
    -------
    str
        A message for people: the next steps.
    """
    version = tree.next_version(level)
    tag = f"{tree.package}-v{version}"
    tree.set_version(version)
    text = tree.changelog.read_text(encoding="utf-8")
    heading = f"{UNRELEASED}\n## {version} ({date})\n"
    tree.changelog.write_text(text.replace(UNRELEASED, heading, 1), encoding="utf-8")
    tree.git("commit", "--quiet", "--all", "-m", f"{tree.package} {version}")
    tree.git("tag", "--annotate", tag, "-m", f"{tree.package} {version}")
    return (
        f"{tag} is committed and tagged locally. To publish it: git push --follow-tags;"
        f" python3 noxfile.py -s build; upload the two files of {tree.package} in .nox/wheels/.\n"
        f"To undo it: git tag -d {tag}; git reset --hard HEAD~1"
    )
