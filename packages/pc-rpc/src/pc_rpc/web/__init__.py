"""A control panel in a browser: the extra ``pc-rpc[web]``.

`controlling` serves a page with a form for each method of a server's targets; ``pc-rpc web`` does
the same. Methods are called only when somebody submits a form.
"""

from pc_rpc.web._panel import controlling

__all__ = ["controlling"]
