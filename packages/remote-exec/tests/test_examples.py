"""The examples, as people run them."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_camera_moves_little_when_the_code_goes_to_the_frames():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "camera" / "experiment.py"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    moved = [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) bytes", done.stdout)]
    frames = 50 * 600 * 600 * 2
    assert moved[0] >= frames
    assert moved[1] < 10_000
    assert "50 frames, the star went over" in done.stdout  # printed at the camera
    # How well the star is found is the weather's business: the noise is the clock's jitter, here
    # and now. That both ways find the same, from the same frames, the example itself asserts.
    assert "both ways find the same 50 spots" in done.stdout
