"""Pages in a browser, for commands of other packages: the extra ``pyon[web]``.

A `Site` is a page with its files, a `Door` has the address and the conditions of access, and
`serving` serves the site. A page shows values through a `View`: it requests the rows that are on
its screen, and receives their changes, as fast as it can draw them (`Conversation`).
"""

from pyon.web._access import Access
from pyon.web._conversation import Conversation
from pyon.web._door import Door, door_of
from pyon.web._searching import search
from pyon.web._serving import Serving, serving
from pyon.web._site import Site
from pyon.web._view import Spelling, View

__all__ = [
    "Access",
    "Conversation",
    "Door",
    "Serving",
    "Site",
    "Spelling",
    "View",
    "door_of",
    "search",
    "serving",
]
