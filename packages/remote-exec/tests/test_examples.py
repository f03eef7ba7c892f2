"""The examples, as programs."""

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
    assert "50 frames, the star moved by" in done.stdout  # printed at the camera
    # How well the star is found varies with the noise, which is the present jitter of the clock.
    # The example itself checks that both ways find the same from the same frames.
    assert "both ways find the same 50 spots" in done.stdout
