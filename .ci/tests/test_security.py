"""SECURITY.md: each promise names a test or a page, and these exist."""

import re
from pathlib import Path

import pytest
from faults.pages import PAGES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
SECTIONS = dict(re.findall(r"^## ([\w-]+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
ROWS = [row.split(" | ") for row in re.findall(r"^\| (.* \| .*) \|$", TEXT, re.MULTILINE)]
PROMISES = {promise: held_by for promise, held_by in ROWS if promise != "promise"}
NAMED = sorted(set(re.findall(r"`([\w-]+): (\w+)`", TEXT)) - {("package", "test")})


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_a_table_of_promises(package):
    assert "| promise | held by |" in SECTIONS[package]


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_names_a_test_or_a_page(promise):
    assert re.search(r"`[\w-]+: test_\w+`|page `\w+`", PROMISES[promise])


@pytest.mark.parametrize(("package", "name"), NAMED, ids=[": ".join(one) for one in NAMED])
def test_a_named_test_exists(package, name):
    folder = ROOT / (".ci/web" if package == "web" else f"packages/{package}/tests")
    texts = [one.read_text() for one in folder.glob("test_*.py")]
    assert any(re.search(rf"^(async )?def {name}\(", text, re.MULTILINE) for text in texts)


def test_a_named_page_exists():
    assert set(re.findall(r"page `(\w+)`", TEXT)) <= {page.name for page in PAGES}
