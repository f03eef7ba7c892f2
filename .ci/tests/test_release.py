"""The release of a package: its changes, and its refusals."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from release import checks, preparing
from release.tree import RefusedError, Tree

ROOT = Path(__file__).resolve().parents[2]

CHANGELOG = "# Changelog of pyon\n\n## Unreleased\n\n- Files of another kind.\n"

MODULE = '''"""Text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyon._codec import decode

__all__ = ["decode"]
__version__ = "1.0.0"
'''

CODEC = '''"""The codec."""


def decode(s, *, strict=False):
    """Read text."""
'''


def git(root, *arguments):
    return subprocess.run(
        ["git", "-C", root, *arguments], capture_output=True, text=True, check=True
    ).stdout


def write(root, **texts):
    for name, text in texts.items():
        path = root / "packages/pyon" / {"module": "src/pyon/__init__.py"}.get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def commit(root):
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "a change")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Make a repository with pyon, which was never released, and pc-rpc, which requires it."""
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "A Maintainer")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "maintainer@example.org")
    git(tmp_path, "init", "--quiet")
    for name in ("pyon", "pc-rpc"):
        (tmp_path / "packages" / name).mkdir(parents=True)
        metadata = ROOT / "packages" / name / "pyproject.toml"
        shutil.copy(metadata, tmp_path / "packages" / name)
    write(tmp_path, module=MODULE)
    for name, text in {"CHANGELOG.md": CHANGELOG, "src/pyon/_codec.py": CODEC}.items():
        write(tmp_path, **{name: text})
    write(tmp_path, **{"tests/vectors/v1.txt": "1\n"})
    commit(tmp_path)
    return tmp_path


def release(root, level, package="pyon"):
    tree = Tree(root, package)
    checks.check(tree, level)
    return preparing.prepare(tree, level, "2026-11-26")


def change(root, text="- More.\n", **texts):
    """Change files, add an entry to the changelog, and commit."""
    path = root / "packages/pyon/CHANGELOG.md"
    changelog = path.read_text()
    path.write_text(changelog.replace("## Unreleased\n", f"## Unreleased\n\n{text}", 1))
    write(root, **texts)
    commit(root)


def test_the_first_release_has_the_version_of_the_source(root):
    before = git(root, "rev-parse", "HEAD").strip()
    message = release(root, "first")
    assert git(root, "log", "-1", "--format=%s%n%P").split("\n")[:2] == ["pyon 1.0.0", before]
    assert git(root, "describe", "--exact-match").strip() == "pyon-v1.0.0"
    assert git(root, "status", "--porcelain") == ""
    changelog = (root / "packages/pyon/CHANGELOG.md").read_text()
    assert "## Unreleased\n\n## 1.0.0 (2026-11-26)\n\n- Files of another kind.\n" in changelog
    assert "git push --follow-tags" in message


@pytest.mark.parametrize(
    ("level", "version"), [("patch", "1.0.1"), ("minor", "1.1.0"), ("major", "2.0.0")]
)
def test_a_release_raises_the_version_by_its_level(root, level, version):
    release(root, "first")
    change(root)
    release(root, level)
    assert f'__version__ = "{version}"' in (root / "packages/pyon/src/pyon/__init__.py").read_text()
    assert git(root, "tag").split() == ["pyon-v1.0.0", f"pyon-v{version}"]


def test_a_second_first_release_and_a_wrong_name_are_refused(root):
    with pytest.raises(RefusedError, match="write `pyon first`"):
        release(root, "minor")
    release(root, "first")
    with pytest.raises(RefusedError, match=r"1\.0\.0 is released"):
        release(root, "first")
    with pytest.raises(RefusedError, match="expected entries under '## Unreleased'"):
        release(root, "patch")
    with pytest.raises(RefusedError, match="expected one of pc-rpc, pyon, got 'pyom'"):
        release(root, "patch", package="pyom")


def test_uncommitted_changes_are_not_released(root):
    write(root, module=MODULE + "\n")
    with pytest.raises(RefusedError, match="uncommitted"):
        release(root, "first")


@pytest.mark.parametrize(
    "changed",
    [
        {"module": '"""Text."""\n\n__all__ = []\n__version__ = "1.0.0"\n'},
        {"src/pyon/_codec.py": CODEC.replace("s, *, strict=False", "text")},
        {"src/pyon/_codec.py": CODEC.replace("s, *, strict=False", "s, more, *, strict=False")},
    ],
    ids=["name removed", "parameter removed", "parameter required"],
)
def test_an_incompatible_change_takes_a_major_version(root, changed):
    release(root, "first")
    change(root, **changed)
    with pytest.raises(
        RefusedError, match=r"takes a major version:\n .*decode.*(removed|required)"
    ):
        release(root, "minor")
    assert git(root, "tag").split() == ["pyon-v1.0.0"]
    release(root, "major")


def test_a_new_optional_parameter_is_compatible(root):
    release(root, "first")
    change(root, **{"src/pyon/_codec.py": CODEC.replace("strict=", "limit=None, strict=")})
    release(root, "minor")


def test_recorded_files_cannot_be_changed(root):
    release(root, "first")
    change(root, **{"tests/vectors/v2.txt": "more\n"})
    release(root, "minor")
    change(root, **{"tests/vectors/v1.txt": "2\n"})
    with pytest.raises(RefusedError, match=r"M packages/pyon/tests/vectors/v1\.txt"):
        release(root, "major")


def test_the_oldest_allowed_siblings_are_extracted(root, tmp_path):
    tree = Tree(root, "pc-rpc")
    assert checks.oldest_siblings(tree, tmp_path / "out") == [root / "packages/pyon"]
    release(root, "first")
    change(root)
    release(root, "minor")
    (folder,) = checks.oldest_siblings(tree, tmp_path / "out")
    assert folder == tmp_path / "out/pyon-v1.0.0/packages/pyon"
    assert '"1.0.0"' in (folder / "src/pyon/__init__.py").read_text()
    metadata = root / "packages/pc-rpc/pyproject.toml"
    metadata.write_text(metadata.read_text().replace("pyon>=1.0", "pyon>=1.1"))
    (folder,) = checks.oldest_siblings(tree, tmp_path / "out")
    assert '"1.1.0"' in (folder / "src/pyon/__init__.py").read_text()


def test_the_command_prints_the_reason_of_a_refusal(root):
    done = subprocess.run(
        [sys.executable, "-m", "release", "check", "pyon", "minor", "--root", root],
        env={"PYTHONPATH": str(ROOT / ".ci"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("release: pyon was never released")
