"""A camera controller whose frames are too large to move.

The camera is simulated with real data: a drifting telescope points at the Hubble Deep Field, an
image of scikit-image, and the noise of the sensor is the jitter of this machine's clock, measured
at start. Sent code finds the camera as ``controller_driver``, with the attribute ``frames``.

Run it alone (``python controller.py``), or let ``experiment.py`` start it.
"""

import logging
import time

import numpy as np
import skimage.data
from remote_exec import simple_rexec_server_loop

SIZE = 600  # pixels, the edge of a frame
DRIFT = 20  # pixels, the largest pointing error
READ_NOISE = 12.0  # counts, rms


class Camera:
    """A camera on a drifting telescope."""

    def __init__(self):
        self._sky = skimage.data.hubble_deep_field().sum(axis=2).astype(np.float32) * 16
        self._noise = READ_NOISE * measure_jitter(4 * SIZE * SIZE)
        self._random = np.random.default_rng(1990)
        self.frames = []
        self.pointings = []

    def acquire(self, count):
        """Take frames and keep them here."""
        self.frames = []
        self.pointings = self._random.integers(0, 2 * DRIFT, size=(count, 2))
        for row, column in self.pointings:
            start = self._random.integers(self._noise.size - SIZE * SIZE)
            noise = self._noise[start : start + SIZE * SIZE].reshape(SIZE, SIZE)
            frame = self._sky[row : row + SIZE, column : column + SIZE] + 100 + noise
            self.frames.append(frame.clip(0, 2**16 - 1).astype(np.uint16))

    def get_frame(self, index):
        """Return a frame."""
        return self.frames[index]

    def get_pointings(self):
        """Return the pointing of the telescope, as row and column for each frame."""
        return self.pointings


def measure_jitter(count):
    """Return `count` samples of the clock's jitter, scaled to mean 0 and rms 1."""
    ticks = np.fromiter((time.perf_counter_ns() for _ in range(count + 1)), np.int64, count + 1)
    steps = np.diff(ticks).astype(np.float32)
    steps = np.minimum(steps, np.quantile(steps, 0.99))  # without pauses by the scheduler
    return (steps - steps.mean()) / steps.std()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="controller: %(message)s")
    simple_rexec_server_loop(
        "camera",
        Camera(),
        "127.0.0.1",
        0,  # a real controller has a fixed port
        "camera on a drifting telescope",
        ready_cb=lambda server: print(server.port, flush=True),
    )
