"""How Sphinx builds the documentation: ``python3 noxfile.py -s docs``.

The pages are beside this file. Formats, protocols and changelogs stay where they are, in the
packages; `repository_pages` makes pages of them. `pictures` draws the terminal.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Protocols for laboratories"
author = "the maintainers"
copyright = f"{author}, BSD-3-Clause"  # noqa: A001  (Sphinx has it so)
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
    # What private bases of ours have, and not what Python gives to all exceptions or tuples.
    "inherited-members": "BaseException, tuple, dict, list, str, Enum, object",
}
numpydoc_show_class_members = False
autosummary_generate = False  # numpydoc brings it along; the pages here are written by hand

# From a folder, without a server and without a network: nothing is loaded from elsewhere.
html_theme = "furo"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
