"""``python -m pyon`` is the `pyon` command."""

from pyon._cli import main

raise SystemExit(main())
