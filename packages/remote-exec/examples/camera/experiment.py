"""Track a star: once with all frames moved here, once with the code sent to the camera.

Both ways give the same result. A relay counts the bytes that they move. The controller needs
scikit-image (``pip install scikit-image``); then run ``python experiment.py``.
"""

import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from counting_wire import CountingWire
from pc_rpc import Client
from remote_exec import RemoteExec

FRAMES = 50


def find_spot(frame):
    """Return row and column of the centre of the brightest spot."""
    size = 24  # pixels, the edge of a box around the spot
    total = frame.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    boxes = (
        total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    )
    top, left = np.unravel_index(boxes.argmax(), boxes.shape)
    box = frame[top + 1 : top + 1 + size, left + 1 : left + 1 + size].astype(float)
    light = np.clip(box - box.max() / 2, 0, None)
    rows, columns = np.indices(light.shape)
    row, column = (light * rows).sum() / light.sum(), (light * columns).sum() / light.sum()
    return top + 1 + row, left + 1 + column


def track():
    """Return the centre of the spot in every frame. Runs at the camera."""
    centres = np.array([find_spot(frame) for frame in controller_driver.frames])  # noqa: F821
    print(f"{len(centres)} frames, the star moved by {np.ptp(centres, axis=0).round(1)} pixels")
    return centres


def main():
    """Start the controller, track the star both ways, and compare."""
    command = [sys.executable, Path(__file__).with_name("controller.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as controller:
        port = int(controller.stdout.readline())
        with (
            CountingWire("127.0.0.1", port) as wire,
            Client("127.0.0.1", wire.port, "camera") as camera,
            Client("127.0.0.1", wire.port, "camera_rexec") as camera_rexec,
        ):
            camera.acquire(FRAMES)

            moved, start = wire.moved, perf_counter()
            here = np.array([find_spot(camera.get_frame(n)) for n in range(FRAMES)])
            report("frames moved here", wire.moved - moved, perf_counter() - start)

            moved, start = wire.moved, perf_counter()
            there = RemoteExec(camera_rexec).send(track)()  # with find_spot and the import of numpy
            report("code sent there", wire.moved - moved, perf_counter() - start)

            if not np.array_equal(here, there):
                raise RuntimeError(f"the spots differ: {here} here, {there} there")
            print(f"both ways find the same {len(there)} spots")
            sky = there + camera.get_pointings()
            print(f"the star stays within {np.ptp(sky, axis=0).max():.2f} pixels of the sky")
            camera.terminate()


def report(what, moved, seconds):
    print(f"{what + ':':20}{moved:12,} bytes{seconds:9.3f} s")


if __name__ == "__main__":
    main()
