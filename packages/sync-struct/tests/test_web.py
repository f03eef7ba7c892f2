"""The page of published structures, tested over its WebSocket, without a browser."""

import asyncio
import json
import re
import signal
import struct
import sys

import numpy as np
import pytest
from pyon.web import Door
from sync_struct import Notifier, Publisher, process_mod
from sync_struct.web import showing
from sync_struct.web._following import place_of
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus


class Page:
    """A browser without drawing."""

    def __init__(self, socket):
        self.socket = socket
        self.rows = {}
        self.states = {}
        self.found = None

    async def want(self, **rows):
        wanted = {name.replace("__", "/"): want for name, want in rows.items()}
        await self.socket.send(json.dumps({"rows": wanted}))

    async def take(self):
        """Receive one frame, and report that it has been drawn."""
        message = await self.socket.recv()
        (length,) = struct.unpack_from("<I", message)
        header = json.loads(message[4 : 4 + length])
        self.rows |= {row["id"]: row for row in header["rows"]}
        self.states |= header.get("states", {})
        self.found = header.get("found", self.found)
        await self.socket.send('{"drawn": true}')

    async def until(self, fact):
        async with asyncio.timeout(30):
            while not fact():
                await self.take()

    def line(self, name):
        return self.rows.get(name, {}).get("line")

    def state(self, name):
        return self.states.get(name, {}).get("state")


def looking(served):
    return connect(f"ws://127.0.0.1:{served.port}/live", origin=f"http://127.0.0.1:{served.port}")


LEAF = [False, 0, 0]


async def test_a_page_follows_what_is_published():
    lab = Notifier({"temperature": 293.0, "scan": {"points": [1]}})
    async with Publisher({"lab": lab}) as publisher:
        await publisher.start("127.0.0.1", 0)
        async with (
            showing("127.0.0.1", publisher.port, ["lab"]) as served,
            looking(served) as socket,
        ):
            page = Page(socket)
            await page.want(lab=[True, 100, 0], lab__temperature=LEAF, lab__scan__points=LEAF)
            await page.until(lambda: page.line("lab/temperature") == "293.0")
            assert page.state("lab") == "live"
            assert page.rows["lab"]["parts"] == ["lab/temperature", "lab/scan"]
            lab["temperature"] = 294.5
            lab["scan"]["points"].append(2)
            await page.until(lambda: page.line("lab/scan/points") == "[1, 2]")
            await page.until(lambda: page.line("lab/temperature") == "294.5")
            lab["new"] = True
            await page.until(lambda: "lab/new" in page.rows["lab"]["parts"])
            del lab["scan"]
            await page.until(lambda: page.rows["lab/scan/points"]["kind"] == "absent")


async def publishing(port, value):
    publisher = Publisher({"lab": Notifier({"x": value})})
    await publisher.start("127.0.0.1", port)
    return publisher


async def test_a_page_shows_that_a_publisher_stops_and_restarts():
    publisher = await publishing(0, 1)
    port = publisher.port
    async with showing("127.0.0.1", port, ["lab"]) as served, looking(served) as socket:
        page = Page(socket)
        await page.want(lab__x=LEAF)
        await page.until(lambda: page.line("lab/x") == "1" and page.state("lab") == "live")
        await publisher.stop()
        await page.until(lambda: page.state("lab") == "stale" and page.states["lab"]["trouble"])
        assert page.line("lab/x") == "1"  # the last value can still be read
        publisher = await publishing(port, 2)
        await page.until(lambda: page.line("lab/x") == "2" and page.state("lab") == "live")
        assert page.states["lab"]["trouble"] == ""
    await publisher.stop()


async def test_a_page_that_draws_nothing_is_sent_one_frame_whatever_happens():
    lab = Notifier({"image": np.zeros((512, 512))})
    opened = json.dumps({"rows": {"lab/image": [True, 0, 512]}})
    async with Publisher({"lab": lab}) as publisher:
        await publisher.start("127.0.0.1", 0)
        async with (
            showing("127.0.0.1", publisher.port, ["lab"]) as served,
            looking(served) as silent,
            looking(served) as socket,
        ):
            page = Page(socket)
            await socket.send(opened)
            await page.until(lambda: "plot" in page.rows.get("lab/image", {}))
            await silent.recv()
            await silent.send(opened)
            for value in range(1, 30):  # the page that draws is sent all of these
                lab["image"][0, 0] = float(value)
                await page.until(lambda v=value: page.rows["lab/image"]["plot"]["high"] == v)
            await (await silent.ping())  # all earlier messages have arrived
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(silent.recv(), 0)


async def test_a_search_finds_paths():
    lab = Notifier({"oven": {"temperature": 1, "a/b": 2}, "pump": {}})
    async with Publisher({"lab": lab}) as publisher:
        await publisher.start("127.0.0.1", 0)
        async with (
            showing("127.0.0.1", publisher.port, ["lab"]) as served,
            looking(served) as socket,
        ):
            page = Page(socket)
            await page.until(lambda: page.state("lab") == "live")
            await socket.send('{"search": "OVEN temp"}')
            await page.until(lambda: page.found)
            assert page.found == {
                "text": "OVEN temp",
                "paths": ["lab/oven/temperature"],
                "note": "",
            }


async def test_every_key_can_be_shown():
    lab = Notifier({("a", 1): {"x/y": {None: 5}}})
    async with Publisher({"lab": lab}) as publisher:
        await publisher.start("127.0.0.1", 0)
        async with (
            showing("127.0.0.1", publisher.port, ["lab"]) as served,
            looking(served) as socket,
        ):
            page = Page(socket)
            name = "lab"
            for _ in range(3):
                await socket.send(json.dumps({"rows": {name: [True, 10, 0]}}))
                await page.until(lambda n=name: page.rows.get(n, {}).get("parts"))
                (name,) = page.rows[name]["parts"]
            assert page.line(name) == "5"


async def test_no_message_of_a_page_changes_a_structure():
    lab = Notifier({"x": 1})
    changes = []
    lab.add_listener(changes.append)
    async with Publisher({"lab": lab}) as publisher:
        await publisher.start("127.0.0.1", 0)
        async with showing("127.0.0.1", publisher.port, ["lab"]) as served:
            mod = {"action": "setitem", "path": [], "key": "x", "value": 2}
            for message in (mod, {"rows": {}, **mod}, {"search": "x", **mod}, {"mod": mod}):
                async with looking(served) as socket:
                    await socket.send(json.dumps(message))
                    await socket.recv()
    assert changes == []
    assert lab.read == {"x": 1}


async def test_a_foreign_page_sees_nothing():
    async with Publisher({"lab": Notifier({"secret": 1})}) as publisher:
        await publisher.start("127.0.0.1", 0)
        async with showing("127.0.0.1", publisher.port, ["lab"], Door(token="x" * 16)) as served:
            url = f"ws://127.0.0.1:{served.port}/live"
            for origin in ("http://evil.example", f"http://127.0.0.1:{served.port}"):
                with pytest.raises(InvalidStatus):  # the second has no cookie
                    await connect(url, origin=origin)


@pytest.mark.parametrize(
    ("structure", "mod", "place"),
    [
        ({"a": 1}, {"action": "setitem", "path": [], "key": "a", "value": 2}, ("a",)),
        ([1, 2], {"action": "setitem", "path": [], "key": -1, "value": 2}, ()),
        ([1, 2], {"action": "setitem", "path": [], "key": slice(0, 1), "value": [5]}, ()),
        ([1, 2], {"action": "delitem", "path": [], "key": 0}, ()),
        ({"a": []}, {"action": "append", "path": ["a"], "x": 2}, ("a",)),
        ({"a": [0]}, {"action": "insert", "path": ["a"], "i": 0, "x": 2}, ("a",)),
    ],
)
def test_a_mod_changes_one_place_only(structure, mod, place):
    process_mod(structure, mod)  # it is one
    assert place_of(mod) == place


# The command.


async def command(*words):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sync_struct._cli",
        "web",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_command_prints_the_address_and_ends_with_a_signal():
    async with Publisher({"lab": Notifier({"x": 1})}) as publisher:
        await publisher.start("127.0.0.1", 0)
        process = await command("127.0.0.1", str(publisher.port), "lab")
        try:
            line = (await process.stdout.readline()).decode()
            port = re.fullmatch(r"lab at http://127\.0\.0\.1:([0-9]+)/\n", line)[1]
            async with connect(
                f"ws://127.0.0.1:{port}/live", origin=f"http://127.0.0.1:{port}"
            ) as socket:
                page = Page(socket)
                await page.want(lab__x=LEAF)
                await page.until(lambda: page.line("lab/x") == "1")
                process.send_signal(signal.SIGINT)
                out, err = await process.communicate()
            assert (process.returncode, out, err) == (0, b"", b"")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("bind", ["0.0.0.0", ""])
async def test_the_command_refuses_to_serve_other_machines_without_tls(bind):
    process = await command("127.0.0.1", "1", "lab", "--bind", bind)
    out, err = await process.communicate()
    assert process.returncode == 1
    assert out == b""
    assert b"--token-file" in err
    assert b"--https-cert" in err
