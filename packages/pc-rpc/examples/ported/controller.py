#!/usr/bin/env python3
"""A controller of the established stack, moved to this one line by line.

Its options are the established ones, so that scripts that start it need not change:

    python controller.py -p 3249 --bind 192.0.2.7 -v

Above each new line is the line that it replaces, as a comment.
"""

import argparse
import logging

# from sipyco.pc_rpc import simple_server_loop
from pc_rpc import simple_server_loop

# from sipyco.tools import SimpleSSLConfig
from pyon.tcp import server_context

logger = logging.getLogger(__name__)


class Shutter:
    """The driver of a shutter."""

    def __init__(self):
        self._is_open = False

    def move(self, is_open: bool) -> None:
        """Open or close the shutter."""
        logger.info("shutter %s", "opens" if is_open else "closes")
        self._is_open = is_open

    def is_open(self) -> bool:
        """Return whether the shutter is open."""
        return self._is_open


def get_argparser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # common_args.simple_network_args(parser, 3249)
    network = parser.add_argument_group("network server")
    network.add_argument(
        "--bind", default=[], action="append", help="listen here, too; *: everywhere"
    )
    network.add_argument("--no-localhost-bind", action="store_true", help="listen at --bind only")
    network.add_argument("-p", "--port", default=3249, type=int, help="default: %(default)s")
    # common_args.verbosity_args(parser)
    verbosity = parser.add_argument_group("verbosity")
    verbosity.add_argument("-v", "--verbose", default=0, action="count", help="log more")
    verbosity.add_argument("-q", "--quiet", default=0, action="count", help="log less")
    parser.add_argument("--ssl", nargs=3, metavar=("CERT", "KEY", "PEER_CERT"), help="use TLS")
    return parser


def bind_address(args):
    """Return the addresses to listen on; None: all addresses of this computer."""
    if "*" in args.bind:
        return None
    return args.bind if args.no_localhost_bind else [*args.bind, "127.0.0.1", "::1"]


def main():
    args = get_argparser().parse_args()
    # common_args.init_logger_from_args(args)
    logging.basicConfig(level=logging.WARNING + 10 * (args.quiet - args.verbose))
    # ssl_config = SimpleSSLConfig(*args.ssl) if args.ssl else None
    context = server_context(*args.ssl) if args.ssl else None
    # simple_server_loop({"shutter": Shutter()}, common_args.bind_address_from_args(args),
    #                    args.port, ssl_config=ssl_config)
    simple_server_loop({"shutter": Shutter()}, bind_address(args), args.port, ssl=context)


if __name__ == "__main__":
    main()
