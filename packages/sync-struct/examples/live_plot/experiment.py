import math
import sys
import time

import numpy as np
from sync_struct import Notifier, publish

datasets = Notifier({"scan": {"x": np.zeros(0), "y": np.zeros(0)}, "state": "running"})
period = float(sys.argv[1])  # seconds between two points

with publish("127.0.0.1", 3250, {"datasets": datasets}):
    print("publishing", flush=True)
    for step in range(10_000):
        x = step / 10
        with datasets.batch():  # x and y arrive together
            datasets["scan"]["x"].append(x)
            datasets["scan"]["y"].append(math.sin(x) * math.exp(-x / 20))
        time.sleep(period)
    datasets["state"] = "done"
