"""The controller of the page of hostile input: ``python -m faults.executing``. Accepts code."""

from __future__ import annotations

from typing import Any

from pc_rpc import Server
from remote_exec import simple_rexec_server_loop

from faults.processes import HOST


class Driver:
    """A driver for other clients."""

    def double(self, x: int) -> int:
        """Return twice as much."""
        return 2 * x


def main() -> None:
    """Serve until killed."""

    def ready(server: Server) -> Any:
        print("port", server.port, flush=True)

    simple_rexec_server_loop("main", Driver(), HOST, 0, ready_cb=ready)


if __name__ == "__main__":
    main()
