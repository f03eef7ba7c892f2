"""After any sequence of faults, every replica equals the structure in the end.

Mutations of every kind from several threads; subscribers that come, go, stall, are cut at random
bytes, reconnect and resume; publishers that restart, with and without memory of what was. The
structure holds a diary that every mutation appends its number to, so that order, losses and
doubles show, and in the same step the length of the diary, so that half a step shows. Every mod
that a callback or listener was given is kept: folded by `process_mod`, in
the end, they make the replica, too. Some subscribers are what `sync-struct log` runs: their files,
replayed, make it as well.

The same goes on with NATS in between: replicas are at a bridge, or go to the engine themselves;
bridges and engine are ended and begun again, too.
"""

import asyncio
import contextlib
import datetime
import itertools
import logging
import math
import os
import pathlib
import tempfile
import threading

import numpy as np
import pyon
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
    run_state_machine_as_test,
)
from sync_struct import ModError, Notifier, Publisher, Subscriber, _lean_steps, process_mod
from sync_struct._actions import walk
from sync_struct._cli_reading import Recording
from sync_struct._mods import applied
from sync_struct._recording import Recorder, read_recording
from sync_struct._replay import state_at
from sync_struct.nats import JetStreamError, _ledger, bridging_in, bridging_out
from sync_struct.nats._connecting import connect

PATIENCE = 30.0
QUICK = 0.2
"""Seconds between beacons of a bridge."""

EXAMPLES = int(os.environ.get("SYNC_STRUCT_EXAMPLES", "60"))

ours = st.fixed_dictionaries(
    {},
    optional={
        "raw_buffers": st.booleans(),
        "max_rate": st.sampled_from([math.inf, 200.0]),
        "path": st.sampled_from(
            [["part"], ["diary"], ["grows"], ["tuple"], ["tuple", 1], ["comes", "goes"]]
        ),
    },
)

recorded = ours.map(lambda options: {k: v for k, v in options.items() if k != "raw_buffers"})


class Ours:
    """One of our subscribers, behind a network of its own."""

    def __init__(self, options):
        self.path = options.get("path", [])
        self.diary = []
        self.kept = []
        self.errors = []
        self.skips = "max_rate" in options or self.path not in ([], ["diary"])
        self.subscriber = Subscriber(
            "d", lambda x: x, self.read, on_error=self.errors.append, **options
        )

    def read(self, mod):
        """Keep the mod, and check that the diary goes on where it was."""
        self.kept.append(mod)
        if not self.path:
            assert len(self.target["diary"]) == self.target["last"]
        path = [*self.path, *mod.get("path", [])]
        if mod["action"] == "init":
            structure = mod["struct"] if not self.path else {self.path[0]: mod["struct"]}
            self.diary = list(structure.get("diary", []))
        elif mod["action"] == "append" and path == ["diary"] and not self.skips:
            self.diary.append(mod["x"])
            assert self.diary == list(range(len(self.diary)))

    @property
    def target(self):
        return self.subscriber.target

    async def run(self, port):
        await self.subscriber.run("127.0.0.1", port, longest_wait=0.05)

    def check(self, count):
        """Check what this has been told, now that its target is right."""
        assert plain(folded(self.kept)) == plain(self.target)
        assert not [e for e in self.errors if isinstance(e, (AssertionError, ModError))]
        if not self.skips:
            assert self.diary == list(range(count))

    def close(self):
        """Nothing is open."""


class Recorded:
    """What `sync-struct log` runs, behind a network of its own; its files go on in others."""

    def __init__(self, folder, options):
        seconds = itertools.count()
        begin = datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC)
        self.path = options.get("path", [])
        self.file = folder / "log"
        self.target = None
        self.recorder = Recorder(
            self.file, size=5_000, now=lambda: begin + datetime.timedelta(seconds=next(seconds))
        )
        self.recording = Recording(self.recorder)
        self.subscriber = self.recording.subscriber = Subscriber(
            "d",
            None,
            self.write,
            decode=False,
            state_cb=self.recording.take_state,
            on_error=lambda error: None,
            **options,
        )

    async def write(self, step):
        await self.recording.write(step)
        for mod in step.mods():
            if mod["action"] in ("init", "absent"):
                self.target = mod.get("struct")
            else:
                self.target = applied(self.target, mod)

    async def run(self, port):
        await self.subscriber.run("127.0.0.1", port, longest_wait=0.05)

    def check(self, count):
        """Check the files: all together, and the last one alone."""
        files = [*sorted(self.file.parent.glob("log.*")), self.file]
        assert self.recording.failure is None
        for those in (files, files[-1:]):
            assert plain(state_at(read_recording(those))) == plain(self.target)

    def close(self):
        self.recorder.close()


def folded(mods):
    """Return the result of kept mods, in a list: an array that grows is replaced."""
    box = [None]
    for mod in mods:
        if mod["action"] == "init":
            box[0] = mod["struct"]
        elif mod["action"] == "absent":
            box[0] = None
        else:
            process_mod(box, {**mod, "path": [0, *mod["path"]]})
    return box[0]


class Old:
    """A subscriber of the established protocol that reconnects when its connection is cut."""

    path = ()

    def __init__(self):
        self.target = None

    def check(self, count):
        """It keeps nothing but the target."""

    def close(self):
        """Nothing is open."""

    async def run(self, port):
        while True:
            with contextlib.suppress(OSError):
                await self.follow(*await asyncio.open_connection("127.0.0.1", port))
            await asyncio.sleep(0)

    async def follow(self, reader, writer):
        writer.write(b"ARTIQ sync_struct\nd\n")
        try:
            buffered = b""
            while data := await reader.read(2**16):
                *lines, buffered = (buffered + data).split(b"\n")
                for mod in map(pyon.decode, lines):
                    if mod["action"] == "init":
                        self.target = mod["struct"]
                    else:
                        process_mod(self.target, mod)
        finally:
            writer.close()


def structure():
    return {
        "diary": [],
        "last": 0,
        "part": {"x": 0},
        "list": [],
        "array": np.zeros(300),
        "grows": np.zeros(0),
        "tuple": (True, np.zeros((0, 2)), []),
        "comes": {},
    }


class Machine(RuleBasedStateMachine):
    Relay = folder = None  # set by the test
    Ours = Ours

    subscribers = Bundle("subscribers")

    @initialize(lean=st.booleans())
    def begin(self, lean):
        _lean_steps.LEAN = lean
        self.loop = asyncio.new_event_loop()
        self.count = 0
        self.live = []
        self.turn = threading.Lock()
        self.notifier = self.listened(Notifier(structure()))
        self.publisher = None
        self.do(self.start())

    def do(self, coroutine):
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, PATIENCE))

    async def start(self):
        self.publisher = Publisher({"d": self.notifier}, backlog=30_000)
        await self.publisher.start("127.0.0.1", 0)
        self.lead_to(self.publisher.port)

    async def stop(self):
        await self.publisher.stop()

    def lead_to(self, port):
        """Have the replicas that connect again from now on connect there."""
        self.port = port
        for *_, relay in self.live:
            relay.target = port

    # The structure.

    def listened(self, notifier):
        """Keep what the listeners of a notifier are told."""
        self.told = [{"action": "init", "struct": notifier.copy()}]
        notifier.add_listener(self.told.append)
        return notifier

    def check_listened(self):
        assert plain(folded(self.told)) == plain(self.notifier.read)

    def mutate(self, kind, value):
        n = self.notifier
        with self.turn, n.batch():  # `turn` only for the count: the notifier needs no help
            n["diary"].append(self.count)
            self.count += 1
            match kind:
                case "set":
                    n["part"]["x"] = value
                case "nest":
                    n["part"] = {"x": value, "y": {"z": []}}
                case "deep":
                    n["part"].setdefault("y", {}).setdefault("z", []).append(value)
                case "delete":
                    n["part"].pop("y", None)
                case "insert":
                    n["list"].insert(0, value)
                case "slice":
                    n["list"][1:2] = [value, value]
                case "clear":
                    n["list"].clear()
                case "element":
                    n["array"][value % 300] = value
                case "array":
                    n["array"] = np.full(300, value)
                case "large":
                    n["part"]["large"] = str(value) * 20_000
                case "grow":
                    n["grows"].append(value)
                    n["grows"][0] = -value
                case "rows":
                    n["tuple"][1].extend([[value, value]] * (value % 3))
                    n["grows"].extend(range(value % 50))
                case "shrink":
                    n["grows"] = np.zeros(value % 3)
                    n["tuple"] = (False, np.ones((value % 3, 2)), [value])
                case "inside":
                    n["tuple"][2].append(n["list"])
                case "come":
                    n["comes"]["goes"] = [value, []]
                    n["comes"]["goes"][1].append(value)
                case "go":
                    n["comes"].pop("goes", None)
            n["last"] = self.count

    kinds = st.sampled_from(
        ["set", "nest", "deep", "delete", "insert", "slice", "clear", "element", "array", "large"]
    ) | st.sampled_from(["grow", "rows", "shrink", "inside", "come", "go"])
    changes = st.lists(st.tuples(kinds, st.integers(0, 999)), min_size=1, max_size=8)

    @rule(changes=changes)
    def change(self, changes):
        for kind, value in changes:
            self.mutate(kind, value)

    @rule(changes=changes)
    def change_bit_by_bit(self, changes):
        async def work():
            for kind, value in changes:
                self.mutate(kind, value)
                await asyncio.sleep(0)

        self.do(work())

    @rule(changes=st.lists(changes, min_size=2, max_size=3))
    def change_from_threads(self, changes):
        def work(mine):
            for kind, value in mine:
                self.mutate(kind, value)

        async def all_at_once():
            await asyncio.gather(*(asyncio.to_thread(work, mine) for mine in changes))

        self.do(all_at_once())

    # The subscribers.

    @rule(target=subscribers, options=st.none() | ours)
    def join(self, options):
        return self.add(Old() if options is None else self.Ours(options))

    @rule(target=subscribers, options=recorded)
    def record(self, options):
        return self.add(Recorded(pathlib.Path(tempfile.mkdtemp(dir=self.folder)), options))

    def add(self, replica):
        relay = self.Relay(self.port)
        self.do(relay.__aenter__())
        task = self.loop.create_task(replica.run(relay.port))
        self.live.append((replica, task, relay))
        return self.live[-1]

    @rule(one=consumes(subscribers))
    def leave(self, one):
        self.do(self.dismiss(one))
        self.live.remove(one)

    @rule(one=subscribers)
    def stall(self, one):
        one[2].held = True

    @rule(one=subscribers)
    def go_on(self, one):
        one[2].held = False

    @rule(one=subscribers, size=st.integers(1, 5000))
    def cut(self, one, size):
        one[2].cut_after = size

    @rule(one=subscribers)
    def reset(self, one):
        one[2].cut()

    @rule(turns=st.integers(1, 50))
    def pass_time(self, turns):
        self.pass_turns(turns)

    def pass_turns(self, turns):
        async def wait():
            for _ in range(turns):
                await asyncio.sleep(0)

        self.do(wait())

    @rule(forgets=st.booleans())
    def restart(self, forgets):
        if forgets:
            self.check_listened()
            self.notifier = self.listened(Notifier(self.notifier.copy()))
        self.do(self.publisher.stop())
        self.do(self.start())

    # The end.

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        try:
            for *_, relay in self.live:
                relay.held, relay.cut_after = False, None
            self.mutate("set", -1)
            self.check_listened()
            try:
                self.do(self.until_equal())
            except TimeoutError:
                raise AssertionError([self.describe(one) for one in self.live]) from None
        finally:
            for one in self.live:
                self.do(self.dismiss(one))
            self.pass_turns(50)  # for connections that have been accepted to be noticed
            self.do(self.stop())
            self.pass_turns(50)  # and to be closed
            until = self.loop.time() + PATIENCE
            while left := asyncio.all_tasks(self.loop):
                assert self.loop.time() < until, left
                self.pass_turns(1)
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    async def until_equal(self):
        for replica, task, _ in self.live:
            while not self.is_equal(replica):
                assert not task.done(), task
                await asyncio.sleep(0)
            replica.check(self.count)

    def describe(self, one):
        replica, _, relay = one
        subscriber = getattr(replica, "subscriber", None)
        state = (
            (subscriber.state, subscriber._subscription.replica.position) if subscriber else "old"
        )
        same_port = relay.target == self.port
        return self.is_equal(replica), state, same_port, relay.held, replica.target

    def is_equal(self, replica):
        try:
            expected = walk(self.notifier.read, replica.path)
        except LookupError:
            return replica.subscriber.state == "absent" and not replica.subscriber.lag
        if plain(replica.target) != plain(expected):
            return False
        return isinstance(replica, Old) or replica.subscriber.state == "live"

    async def dismiss(self, one):
        replica, task, relay = one
        relay.held = False
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await relay.__aexit__()
        replica.close()


def plain(structure):
    """Return a form that can be compared: the order of keys makes no difference."""
    if isinstance(structure, dict):
        return {key: plain(value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(map(plain, structure))
    return structure.tolist() if isinstance(structure, np.ndarray) else structure


# With NATS in between.


class Relayed(Ours):
    """A subscriber of a bridge: after a restart of the bridge it receives only the differences."""

    def __init__(self, options):
        super().__init__(options)
        self.skips = True


class Addressed(Ours):
    """A subscriber that reads directly from the engine."""

    async def run(self, port):
        await self.subscriber.run(f"nats://127.0.0.1:{port}/d", longest_wait=0.05)


class BridgedMachine(Machine):
    engine = None  # set by the test
    Ours = Relayed
    bridge_out = bridge_in = None

    async def start(self):
        self.publisher = Publisher({"d": self.notifier}, backlog=30_000)
        await self.publisher.start("127.0.0.1", 0)
        if self.bridge_out is not None:
            self.front.target = self.publisher.port
            return
        self.front = self.Relay(self.publisher.port)
        await self.front.__aenter__()
        await self.begin_out()
        await self.begin_in()

    async def stop(self):
        await self.bridge_in.aclose()
        await self.bridge_out.aclose()
        await self.front.__aexit__()
        await super().stop()
        js = await connect(self.engine.address)
        with contextlib.suppress(JetStreamError):  # it has not been made yet
            await js.api("STREAM.DELETE.sync_struct-d")
        await js.close()

    async def begin_out(self):
        self.bridge_out = contextlib.AsyncExitStack()
        await self.bridge_out.enter_async_context(
            bridging_out("127.0.0.1", self.front.port, ["d"], self.engine.address, interval=QUICK)
        )

    async def begin_in(self):
        self.bridge_in = contextlib.AsyncExitStack()
        served = await self.bridge_in.enter_async_context(Publisher({}))
        await served.start("127.0.0.1", 0)
        await self.bridge_in.enter_async_context(bridging_in(served, self.engine.address, ["d"]))
        self.lead_to(served.port)

    def lead_to(self, port):
        self.port = port
        for replica, _, relay in self.live:
            if not isinstance(replica, Addressed):
                relay.target = port

    @rule(target=Machine.subscribers, options=ours)
    def join_by_address(self, options):
        at_bridge, self.port = self.port, int(self.engine.address.rpartition(":")[2])
        one = self.add(Addressed(options))
        self.port = at_bridge
        return one

    @rule()
    def begin_out_again(self):
        self.do(self.bridge_out.aclose())
        self.do(self.begin_out())

    @rule()
    def begin_in_again(self):
        self.do(self.bridge_in.aclose())
        self.do(self.begin_in())

    @rule()
    def kill_the_engine(self):
        self.engine.kill()
        self.engine.start()


def run(machine, examples, steps, **options):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


@pytest.fixture(autouse=True)
def machines(Relay, caplog, tmp_path, monkeypatch):
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(_lean_steps, "LEAN", True)  # put back at the end
    Machine.Relay, Machine.folder = Relay, tmp_path


@pytest.mark.timeout(300)
def test_in_the_end_every_replica_equals_the_structure():
    run(Machine, EXAMPLES, 30)


# By nats-py when it reconnects: a transport that is closed without waiting.
@pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning")
@pytest.mark.timeout(600)
def test_with_bridges_in_between_too(engine, monkeypatch):
    monkeypatch.setattr(_ledger, "LEAST_STEPS", 50_000)
    monkeypatch.setattr(BridgedMachine, "engine", engine)
    run(BridgedMachine, max(2, EXAMPLES // 20), 20, phases=[Phase.generate])
