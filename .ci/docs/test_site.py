"""The built site: links, loaded files, pictures, search index, and the reference.

Run by ``python3 noxfile.py -s docs``, after the build.
"""

import html.parser
import importlib
import inspect
import os
import re
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

SITE = Path(__file__).resolve().parents[2] / ".nox" / "site"
PAGES = sorted(SITE.rglob("*.html"))
LOADED = {"img": "src", "link": "href", "script": "src", "source": "src"}


class Links(html.parser.HTMLParser):
    """The links of a page, the files that it loads, and its anchors."""

    def __init__(self, page):
        super().__init__()
        self.linked, self.loaded, self.anchors = set(), set(), set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors.add(attributes.get("id"))
        if tag == "a" and attributes.get("href"):
            self.linked.add(attributes["href"])
        if attributes.get(LOADED.get(tag, "")):
            self.loaded.add(attributes[LOADED[tag]])


LINKS = {page: Links(page) for page in PAGES}


def test_there_is_a_site():
    assert len(PAGES) > 30


def has_target(page, link):
    path, _, anchor = link.partition("#")
    target = Path(os.path.normpath(page.parent / path.partition("?")[0])) if path else page
    if not target.exists():
        return False
    return not anchor or target not in LINKS or anchor in LINKS[target].anchors


def test_every_internal_link_has_a_target():
    broken = [
        (page.name, link)
        for page, links in LINKS.items()
        for link in links.linked | links.loaded
        if not re.match(r"\w+:|//", link) and not has_target(page, link)
    ]
    assert broken == []


def test_nothing_is_loaded_from_another_server():
    outside = re.compile(r"^(?:https?:)?//")
    assert [one for links in LINKS.values() for one in links.loaded if outside.match(one)] == []
    for sheet in [*SITE.rglob("*.css"), *SITE.rglob("*.svg")]:
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"url\([\"']?(?:https?:)?//", text), sheet
        assert "@import" not in text, sheet


@pytest.mark.parametrize("word", ["temperatur", "systemd", "simplesslconfig", "pyvisa"])
def test_the_search_index_has_the_words_of_the_pages(word):
    index = (SITE / "searchindex.js").read_text(encoding="utf-8")
    assert word in index


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_the_picture_of_the_terminal_shows_the_structure():
    picture = (SITE / "_images" / "watch.svg").read_text(encoding="utf-8")
    for shown in ("temperature", "391.9", "history", "live", "float64"):
        assert shown in picture


def members(package):
    """Yield the public names of a package, and the public members of its classes."""
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        yield f"{package}.{name}"
        if not inspect.isclass(value) or issubclass(value, BaseException):
            continue
        for ours in (one for one in value.__mro__ if one.__module__.startswith(package)):
            public = [member for member in vars(ours) if not member.startswith("_")]
            documented = [member for member in public if inspect.getdoc(getattr(ours, member))]
            yield from (f"{package}.{name}.{member}" for member in documented)


@pytest.mark.parametrize(
    "package",
    [
        "pyon",
        "pc_rpc",
        "pc_rpc.web",
        "sync_struct",
        "sync_struct.nats",
        "sync_struct.web",
        "fire_and_forget",
        "remote_exec",
    ],
)
def test_every_public_name_and_member_is_in_the_reference(package):
    with (SITE / "objects.inv").open("rb") as inventory:
        objects = InventoryFile.load(inventory, "", lambda base, path: path)
    described = {name for kind, names in objects.items() if kind[:3] == "py:" for name in names}
    assert sorted(set(members(package)) - described) == []
