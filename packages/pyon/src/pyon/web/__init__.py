"""Pages in a browser, for the commands of the stack: the extra ``pyon[web]``.

`Site` is a page with its files, `Door` says where it is served and who may enter, `serving` does
it. A page shows values by a `View`: it asks for the rows that are on the screen, and is sent what
has changed of them, as fast as it draws and no faster (`Conversation`).
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
