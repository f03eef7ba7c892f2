"""Published structures in a browser: the extra ``sync-struct[web]``.

`showing` follows notifiers of a publisher and serves a page that shows them, live and read-only;
``sync-struct web`` does the same on the command line.
"""

from sync_struct.web._showing import showing

__all__ = ["showing"]
