"""Makes the tools in .ci importable."""

import sys
from pathlib import Path

CI = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CI), str(CI / "docs")]
