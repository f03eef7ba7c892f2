"""``python -m release STEP PACKAGE [LEVEL]``; ``python3 noxfile.py -s release`` runs all steps.

check     check whether PACKAGE can be released as LEVEL; change nothing
siblings  extract the oldest siblings that PACKAGE's metadata allows, and print their folders
prepare   write version and changelog; commit, tag; push nothing

The exit status is 1 if the package cannot be released, and the reasons are printed.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

from release import checks, preparing
from release.tree import LEVELS, RefusedError, Tree

ROOT = Path(__file__).resolve().parents[2]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("release", description="Prepare the release of a package.")
    parser.add_argument("step", choices=["check", "siblings", "prepare"])
    parser.add_argument("package")
    parser.add_argument("level", choices=LEVELS, nargs="?", default="minor")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    parser.add_argument("--into", type=Path, default=Path(".nox/release"), help="for siblings")
    return parser.parse_args()


def main() -> int:
    """Run one step; return the exit status."""
    options = _options()
    try:
        tree = Tree(options.root, options.package)
        if options.step == "check":
            version = tree.next_version(options.level)
            checks.check(tree, options.level)
            print(f"{options.package}: {tree.version} can be released as {version}")
        elif options.step == "siblings":
            for folder in checks.oldest_siblings(tree, options.into):
                print(folder)
        else:
            checks.check(tree, options.level)
            today = datetime.datetime.now(datetime.UTC).date()
            print(preparing.prepare(tree, options.level, today.isoformat()))
    except RefusedError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
