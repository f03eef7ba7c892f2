"""The publisher of the page of structures: changes a notifier continuously.

``python -m faults.publisher PORT LIFE SEED BACKLOG [JOURNAL]``, then commands on standard input, a
line each, answered by a line each: ``rest`` (stop changing; answers the structure), ``go``,
``restart`` (the publisher on the same port, not the notifier), ``mods`` (answers their number),
``held`` (answers the resources of the process).
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyon
from sync_struct import Notifier, PublisherThread, publish

from faults import journal
from faults.processes import HOST, held, memory


def structure(life: int) -> dict[str, Any]:
    """Return the initial structure of a publisher."""
    return {
        "life": life,
        "count": 0,
        "twin": 0,
        "part": {"x": 0},
        "list": [],
        "array": np.zeros(300),
        "grows": np.zeros(0),
        "tuple": (True, np.zeros((0, 2)), []),
        "comes": {},
    }


def _deep(n: Any, k: int) -> None:
    n["part"].setdefault("y", {}).setdefault("z", []).append(k)


def _slice(n: Any, k: int) -> None:
    n["list"][1:2] = [k, str(k)]


def _insert(n: Any, k: int) -> None:
    n["list"].insert(k % (len(n["list"]) + 1), k)
    if len(n["list"]) > 50:
        n["list"].clear()


def _pop(n: Any, k: int) -> None:
    if len(n["list"]):
        n["list"].pop(k % len(n["list"]))


def _element(n: Any, k: int) -> None:
    n["array"][k % 300] = k
    n["array"][k % 100 : k % 100 + 5] = -k


def _replace(n: Any, k: int) -> None:
    n["array"] = np.full(300, k)


def _large(n: Any, k: int) -> None:
    n["part"]["large"] = f"{k:06}" * 5000


def _grow(n: Any, k: int) -> None:
    n["grows"].append(k)
    n["grows"].extend(range(k % 20))
    if len(n["grows"]) > 3000:
        n["grows"] = np.zeros(k % 3)


def _rows(n: Any, k: int) -> None:
    n["tuple"][1].extend([[k, -k]] * (k % 3))
    n["tuple"][2].append(k)
    if len(n["tuple"][2]) > 60:
        n["tuple"] = (k % 2 == 0, np.ones((k % 3, 2)), [k])


def _nest(n: Any, k: int) -> None:
    n["part"] = {"x": k, "y": {"z": [(k, None), {k: b"\0" * (k % 99)}]}}


def _come(n: Any, k: int) -> None:
    n["comes"]["goes"] = [k, []]
    n["comes"]["goes"][1].append(k)


def _go(n: Any, k: int) -> None:
    n["comes"].pop("goes", None)


def _set(n: Any, k: int) -> None:
    n["part"]["x"] = k


CHANGES: dict[Callable[[Any, int], None], float] = {
    _set: 10,
    _deep: 3,
    _slice: 4,
    _insert: 6,
    _pop: 4,
    _element: 6,
    _replace: 1,
    _large: 0.2,
    _grow: 6,
    _rows: 5,
    _nest: 1,
    _come: 0.5,
    _go: 0.5,
}
"""Changes of the structure, with weights: every kind of mod, on every kind of container."""


PACE, SLOWLY = 0.012, 0.1
"""Longest time between bursts, in seconds, without and with a journal."""


class Writer(threading.Thread):
    """Changes the notifier in bursts. Each step sets a number at two places, in one batch."""

    def __init__(self, notifier: Notifier, seed: int, journal: journal.Writer | None) -> None:
        super().__init__(daemon=True)
        self.mods = 0
        self.going = threading.Event()
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._notifier = notifier
        self._journal = journal
        self._rng = Random(f"publisher/{seed}")
        notifier.add_listener(self._count)

    def _count(self, mod: Any) -> None:
        self.mods += 1

    def run(self) -> None:
        kinds, weights = list(CHANGES), list(CHANGES.values())
        count, rng = 0, self._rng
        self._note(count)
        while True:
            self.going.wait()
            with self._turn:
                if not self.going.is_set():
                    continue
                for change in rng.choices(kinds, weights, k=rng.randrange(1, 60)):
                    count += 1
                    with self._notifier.batch():
                        self._notifier["count"] = count
                        change(self._notifier, count)
                        self._notifier["twin"] = count
                self._note(count)
            self._over.wait(rng.uniform(0, PACE if self._journal is None else SLOWLY))

    def _note(self, count: int) -> None:
        if self._journal is not None:
            self._journal.note(count, self._notifier.raw_view)

    def rest(self) -> None:
        """Stop making changes; return after the last one."""
        self.going.clear()
        with self._turn:
            pass


def main() -> None:
    """Publish, change, and execute commands."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    port, life, seed, backlog = map(int, sys.argv[1:5])
    notifier = Notifier(structure(life))
    kept = journal.Writer(Path(sys.argv[5]), life) if sys.argv[5:] else None
    writer = Writer(notifier, seed, kept)

    def serve() -> PublisherThread:
        return publish(HOST, port, {"d": notifier}, backlog=backlog)

    publisher = serve()
    writer.start()
    print("port", publisher.port, flush=True)
    for command in map(str.strip, sys.stdin):
        answer: Any = command
        if command == "rest":
            writer.rest()
            answer = pyon.encode(notifier.read, version=2)
        elif command == "go":
            writer.going.set()
        elif command == "restart":
            publisher.close()
            publisher = serve()
        elif command == "mods":
            answer = writer.mods
        elif command == "held":
            answer = json.dumps({**held(), "memory": memory()})
        print(answer, flush=True)
    publisher.close()


if __name__ == "__main__":
    main()
