"""``python -m pc_rpc``: the ``pc-rpc`` command."""

import sys

from pc_rpc._cli import main

sys.exit(main())
