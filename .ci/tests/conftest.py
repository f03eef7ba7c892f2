"""What the tests of the repository share: the tools in .ci can be imported."""

import sys
from pathlib import Path

CI = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CI), str(CI / "docs")]
