import sys

import matplotlib.pyplot as plt
from matplotlib.animation import FuncAnimation
from sync_struct import mirror

figure, axes = plt.subplots()
(line,) = axes.plot([], [])

with mirror("127.0.0.1", 3250, "datasets", path=["scan"], max_rate=20) as scan:

    def draw(_frame):
        now = scan.read  # x and y of the same moment
        line.set_data(now["x"], now["y"])
        axes.relim()
        axes.autoscale_view()
        axes.set_title(f"{len(now['x'])} points, {scan.state}")

    if sys.argv[1:] == ["--once"]:  # save to a file, for a logbook
        scan.wait(lambda now: len(now["x"]) > 20, timeout=30)
        draw(0)
        figure.savefig("scan.png")
    else:
        animation = FuncAnimation(figure, draw, interval=50, cache_frame_data=False)
        plt.show()
