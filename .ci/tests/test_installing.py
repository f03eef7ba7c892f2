"""The install commands of the READMEs, executed as printed, each in a fresh environment.

They need the wheels of ``python3 noxfile.py -s build``.
"""

import glob
import json
import os
import re
import shlex
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
READMES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md"))]
COMMAND = re.compile(r"^    (?:python3 -m )?pip install ([^#\n]+)", re.MULTILINE)

# The index has unrelated projects under some of these names, and may get more.
BARE = re.compile(rf"pip install [^\n`]*?(?<![\w/.\\-])(?:{'|'.join(PACKAGES)})(?![\w/-]|\.whl)")


def commands():
    for readme in READMES:
        for arguments in COMMAND.findall(readme.read_text(encoding="utf-8")):
            name = f"{readme.parent.name if readme.parent != ROOT else 'top'}: {arguments.strip()}"
            yield pytest.param(shlex.split(arguments), id=name)


def pages():
    for pattern in (
        "*.md",
        ".ci/**/*.md",
        ".github/**/*.md",
        "packages/**/*.md",
        "packages/*/src/**/*.py",
    ):
        yield from ROOT.glob(pattern)
    yield from ROOT.glob("packages/*/examples/**/*.py")


class Environment:
    """A new virtual environment with pip."""

    def __init__(self, folder):
        venv.create(folder, with_pip=True)
        self._scripts = folder / ("Scripts" if os.name == "nt" else "bin")

    def run(self, program, *arguments):
        # In the root of the clone, without the variables that the session has set.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
        }
        done = subprocess.run(
            [self._scripts / program, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def origins(self):
        """Return the URL of each installed package; None: from the index."""
        report = json.loads(self.run("python", "-m", "pip", "inspect"))
        return {
            one["metadata"]["name"]: one.get("direct_url", {}).get("url")
            for one in report["installed"]
        }


def requested(arguments):
    """Return the names of our packages in a command, given by folder or by wheel."""
    stems = [Path(argument.partition("[")[0]).name.split("-1")[0] for argument in arguments]
    return {stem.replace("_", "-") for stem in stems}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("arguments", list(commands()))
def test_install_commands_install_our_packages_from_files(arguments, tmp_path):
    environment = Environment(tmp_path / "venv")
    files = [file for one in arguments for file in (sorted(glob.glob(one, root_dir=ROOT)) or [one])]
    environment.run("python", "-m", "pip", "install", "--quiet", *files)
    names = requested(files)
    assert names <= set(PACKAGES)
    origins = environment.origins()
    ours = {name: origins[name] for name in PACKAGES if name in origins}
    assert set(ours) == names
    assert all(url and url.startswith("file:") for url in ours.values())
    for name in names:
        environment.run("python", "-c", f"import {name.replace('-', '_')}")
    for name in names & {"pyon", "pc-rpc", "sync-struct"}:
        environment.run(name, "--help")


def test_every_readme_has_an_install_command():
    for readme in READMES:
        assert COMMAND.search(readme.read_text(encoding="utf-8")), readme


@pytest.mark.parametrize("page", sorted(pages()), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_and_no_program_installs_our_names_from_the_index(page):
    assert BARE.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("pip install pyon", True),
        ("pip install sync-struct[watch]", True),
        ('pip install "pyon[fast]"', True),
        ("pip install numpy remote-exec", True),
        ("pip install pyon>=1.0", True),
        ("pip install ./packages/pyon", False),
        ("pip install .nox/wheels/pyon-1.0.0-py3-none-any.whl", False),
        (".venv\\Scripts\\pip install .\\packages\\pyon .\\packages\\pc-rpc", False),
        ("pip install rich", False),
        ("pip install pyvisa pyvisa-sim", False),
    ],
)
def test_install_commands_that_use_the_index_are_recognised(text, bare):
    assert bool(BARE.search(text)) is bare
