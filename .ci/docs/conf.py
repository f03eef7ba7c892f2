"""Configuration of Sphinx: ``python3 noxfile.py -s docs`` builds the documentation.

The pages are beside this file. `repository_pages` makes further pages from the READMEs, formats,
protocols and changelogs of the packages. `pictures` draws the terminal and the pages in a browser.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Protocols for laboratories"
author = "the maintainers"
copyright = f"{author}, BSD-3-Clause"  # noqa: A001  (required by Sphinx)
html_title = project

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "numpydoc",
    "repository_pages",
    "pictures",
]
source_suffix = {".md": "markdown"}
default_role = "py:obj"
highlight_language = "text"

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 4

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # Members of our private base classes, not those of Python's exceptions and containers.
    "inherited-members": "BaseException, tuple, dict, list, str, Enum, object",
}
numpydoc_show_class_members = False
autosummary_generate = False  # numpydoc loads autosummary; the pages here are written by hand

# The site works from a folder, without a server or a network.
html_theme = "furo"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
