"""The pages of the documentation: all code blocks run, in order, and the reference is complete."""

import importlib
import json
import re
from pathlib import Path

import page_runner
import pytest
import repository_pages

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / ".ci/docs"
COPIES = {DOCS / page for page in repository_pages.PAGES.values()}  # made by the build
PAGES = sorted(set(DOCS.rglob("*.md")) - COPIES)
PACKAGES = ["pyon", "pc_rpc", "sync_struct", "fire_and_forget", "remote_exec"]
MOST_NOT_RUN = 8
"""Largest number of blocks that are not run, in all pages together."""


def name_of(page):
    return page.relative_to(DOCS).as_posix()


def text_of(page):
    return page.read_text(encoding="utf-8")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [p for p in PAGES if page_runner.blocks(text_of(p))], ids=name_of)
def test_the_blocks_of_a_page_run_as_printed(page, tmp_path):
    with page_runner.Page(text_of(page), tmp_path) as running:
        running.follow()


def test_few_blocks_are_not_run_and_each_has_a_reason():
    reasons = [
        block.not_run
        for page in PAGES
        for block in page_runner.blocks(text_of(page))
        if block.not_run
    ]
    assert len(reasons) <= MOST_NOT_RUN, reasons
    assert all(len(reason.split()) >= 2 for reason in reasons)


def test_the_notebook_has_the_cells_of_its_page():
    page = text_of(DOCS / "howto/jupyter.md")
    cells = [one.text for one in page_runner.blocks(page) if one.language == "python"][1:]
    path = ROOT / "packages/sync-struct/examples/notebook/spectrum.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    sources = [
        "".join(cell["source"]) + "\n" for cell in notebook["cells"] if cell["cell_type"] == "code"
    ]
    assert sources == cells


def public_modules(package):
    folder = Path(importlib.import_module(package).__file__).parent
    names = [path.stem for path in folder.glob("*.py")]
    names += [path.parent.name for path in folder.glob("*/__init__.py")]
    return [f"{package}.{name}" for name in names if not name.startswith("_")]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name_once(package):
    text = "".join(map(text_of, (DOCS / "reference").glob("*.md")))
    described = re.findall(r"^\.\. auto(?!module)\w+:: (\S+)$", text, re.MULTILINE)
    names = [f"{package}.{name}" for name in importlib.import_module(package).__all__]
    assert sorted(one for one in described if one.startswith(f"{package}.")) == sorted(names)
    modules = re.findall(r"^\.\. automodule:: (\S+)$", text, re.MULTILINE)
    assert sorted(one for one in modules if one.startswith(f"{package}.")) == sorted(
        public_modules(package)
    )


def test_a_wrong_block_is_an_error(tmp_path):
    for number, text in enumerate(
        [
            "```console\n$ echo one\ntwo\n```\n",
            "```console\n$ false\n```\n",
            "```pycon\n>>> 1 + 1\n3\n```\n",
            "```python\nassert False\n```\n",
            "```ini\n[Unit]\n```\n",
        ]
    ):
        with (
            page_runner.Page(text, tmp_path / str(number)) as page,
            pytest.raises((AssertionError, ValueError)),
        ):
            page.follow()
