"""Servers that announce themselves on the local network, and are found."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import types

import pytest
from pc_rpc import (
    AsyncioClient,
    Client,
    RpcError,
    Server,
    UnknownServer,
    find_servers,
    simple_server_loop,
)
from pc_rpc._cli_find import table
from pc_rpc._cli_options import parse
from pc_rpc.discovery import (
    FoundServer,
    _announcing,
    _network,
    announced,
    asyncio_find_server,
    asyncio_find_servers,
)
from pc_rpc.discovery._finding import MOST_SERVERS, _Search, select
from pc_rpc.discovery._records import (
    LONGEST_LABEL,
    LONGEST_TEXT,
    SERVICE,
    Record,
    label,
    properties,
    read,
)

LONG = 30.0
SEARCH = 3.0


class Laser:
    def idn(self):
        return "a laser"

    def find(self):
        return "the target's"


@pytest.fixture(autouse=True)
def this_computer_only(monkeypatch):
    """Have this process announce and search for servers on its own loopback interface."""
    monkeypatch.setattr(_network, "INTERFACES", ["127.0.0.1"])
    monkeypatch.setattr(_network, "LOOPBACK", True)


@contextlib.asynccontextmanager
async def announcing(
    name=True, *, tls=False, targets=("laser",), description=None, bind="127.0.0.1"
):
    """Run a server that has been announced when the block begins."""
    done = asyncio.Event()

    class Handler(logging.Handler):
        def emit(self, record):
            done.set()

    handler, logger = Handler(), logging.getLogger("pc_rpc")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        server = Server({target: Laser() for target in targets}, description)
        async with server:
            await server.start(bind, 0)
            async with announced(server, name, tls=tls):
                async with asyncio.timeout(LONG):
                    await done.wait()
                yield server.port
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def named(servers, name):
    return [server for server in servers if server.name == name]


async def until_found(name, count=1):
    """Search until a number of servers of a name are found: repeated answers are delayed."""
    found = []
    async with asyncio.timeout(LONG):
        while len(found) < count:
            found = named(await asyncio_find_servers(1.5), name)
    return found


async def test_an_announced_server_is_found_with_its_greeting():
    async with announcing("laser one", targets=["laser", "shutter"], description="A laser") as port:
        found = await until_found("laser one")
    assert found == [
        FoundServer(
            name="laser one", host="127.0.0.1", port=port, targets=("laser", "shutter"),
            description="A laser", tls=False, answers=True,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("description", "targets", "name"),
    [("Laser two", ["laser"], "Laser two"), (None, ["b2", "a2"], "a2, b2")],
)
async def test_without_a_name_it_is_called_by_its_description_or_targets(
    description, targets, name
):
    async with announcing(description=description, targets=targets):
        assert len(await until_found(name)) == 1


async def test_a_server_that_has_ended_is_not_found():
    async with announcing("laser three"):
        pass
    assert named(await asyncio_find_servers(1.0), "laser three") == []


async def test_a_tls_server_is_found_and_marked():
    async with announcing("laser four", tls=True):
        (found,) = await until_found("laser four")
    assert (found.tls, found.answers, found.targets) == (True, True, ("laser",))


async def test_clients_of_both_kinds_connect_by_name():
    async with announcing("laser five", targets=["laser", "shutter"]):
        async with await AsyncioClient.find("laser five", "laser", search=SEARCH) as laser:
            assert await laser.idn() == "a laser"
            assert laser.get_selected_target() == "laser"

        def blocking():
            with Client.find("laser five", "shutter", LONG, search=SEARCH) as shutter:
                return shutter.idn()

        assert await asyncio.to_thread(blocking) == "a laser"


async def test_a_method_called_find_is_the_targets():
    async with announcing("laser six"):
        client = await AsyncioClient.find("laser six", search=SEARCH)
        assert await client.find() == "the target's"
        assert "find" in dir(client)
        await client.close_rpc()


async def test_two_servers_of_one_name_are_both_found_and_neither_is_chosen():
    async with announcing("laser seven") as first, announcing("laser seven") as second:
        found = await until_found("laser seven", 2)
        assert {server.port for server in found} == {first, second}
        with pytest.raises(UnknownServer, match="2 servers called 'laser seven'") as raised:
            await AsyncioClient.find("laser seven", search=SEARCH)
    for port in (first, second):
        assert f"127.0.0.1:{port}" in str(raised.value)
    assert isinstance(raised.value, LookupError)
    assert isinstance(raised.value, RpcError)


async def test_the_error_about_an_unknown_server_lists_those_found():
    async with announcing("laser eight"):
        with pytest.raises(UnknownServer, match=r"no server called 'lasre'.*'laser eight'"):
            await asyncio_find_server("lasre", SEARCH)


class Silent:
    """A double of a server: listens, and never answers."""

    description = None

    def __init__(self, targets=("laser",)):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.targets = dict.fromkeys(targets)
        self.addresses = [self.socket.getsockname()[:2]]


async def test_a_record_that_is_stale_is_shown_as_not_answering(caplog):
    caplog.set_level("INFO", "pc_rpc")
    for name, closes in (("laser nine", True), ("laser ten", False)):
        silent = Silent()
        async with announced(silent, name):
            if closes:
                silent.socket.close()
            found = await until_found(name)
            with pytest.raises(UnknownServer, match=r"announced, but does not answer: 127\.0"):
                select(found, name)
        assert [server.answers for server in found] == [False]
        assert found[0].targets == ("laser",)
        silent.socket.close()


async def test_a_server_with_a_malformed_greeting_is_not_answering():
    async def nonsense(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    silent = Silent()
    silent.socket.close()
    silent.addresses = [server.sockets[0].getsockname()]
    async with server, announced(silent, "laser eleven"):
        found = await until_found("laser eleven")
    assert not found[0].answers


async def test_a_server_for_this_computer_only_is_not_announced_and_the_log_says_so(
    monkeypatch, caplog
):
    monkeypatch.setattr(_network, "LOOPBACK", False)
    caplog.set_level("INFO", "pc_rpc")
    async with announcing("laser twelve"):
        pass
    assert "'laser twelve' is not announced: it serves this computer only" in caplog.text


async def test_a_network_that_fails_does_not_stop_the_server(monkeypatch, caplog):
    monkeypatch.setattr(_network, "INTERFACES", [])
    async with announcing("laser thirteen") as port:
        client = AsyncioClient()
        await client.connect_rpc("127.0.0.1", port, timeout=LONG)
        assert await client.idn() == "a laser"
        await client.close_rpc()
    assert "'laser thirteen' is not announced, for now: OSError: no network" in caplog.text


async def test_a_server_is_announced_when_there_is_a_network_and_where(monkeypatch, caplog):
    own: list[str] = []
    monkeypatch.setattr(_network, "_own_addresses", lambda: own)
    monkeypatch.setattr(_announcing, "ADDRESS_CHECK", 0.01)

    async def found(host):
        async with asyncio.timeout(LONG):
            while host not in {one.host for one in await asyncio_find_servers(0.5)}:
                pass

    async with announcing("laser fourteen", bind="0.0.0.0"):
        own.append("127.0.0.1")
        await found("127.0.0.1")
        own[:] = ["127.0.0.2"]
        await found("127.0.0.2")
    complaints = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage() for record in complaints] == [
        "'laser fourteen' is not announced, for now: this computer has no network"
    ]


def test_announced_addresses_are_those_that_others_can_reach(monkeypatch):
    monkeypatch.setattr(_network, "LOOPBACK", False)
    own = ["127.0.0.1", "::1", "192.0.2.7", "fe80::1", "2001:db8::7", "169.254.3.4"]
    monkeypatch.setattr(_network, "_own_addresses", lambda: own)
    assert _network.reachable_addresses(["127.0.0.1", "::1"]) == []
    assert _network.reachable_addresses(["192.0.2.7", "127.0.0.1"]) == ["192.0.2.7"]
    every = ["192.0.2.7", "169.254.3.4", "2001:db8::7"]
    assert _network.reachable_addresses(["0.0.0.0", "::"]) == every
    assert _network.reachable_addresses(["0.0.0.0"]) == ["192.0.2.7", "169.254.3.4"]


async def test_a_flood_of_records_is_followed_up_to_a_limit(monkeypatch):
    async def look_at(self, name):
        await asyncio.Event().wait()

    monkeypatch.setattr(_Search, "_resolve", look_at)
    search, added = _Search(None), types.SimpleNamespace(name="Added")
    for number in range(MOST_SERVERS + 1):
        search.changed(None, SERVICE, f"{number}.{SERVICE}", added)
    assert len(search._tasks) == MOST_SERVERS
    search.changed(None, SERVICE, f"0.{SERVICE}", types.SimpleNamespace(name="Removed"))
    search.changed(None, SERVICE, f"{MOST_SERVERS}.{SERVICE}", added)
    assert len(search._tasks) == MOST_SERVERS
    await search.end()


# Names and arguments.


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (" ", ValueError), (5, TypeError)])
def test_an_invalid_name_is_refused_before_the_server_starts(name, error):
    with pytest.raises(error, match="announce: expected a name"):
        simple_server_loop({"laser": Laser()}, "127.0.0.1", 0, announce=name)


@pytest.fixture
def without_zeroconf(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    monkeypatch.setitem(sys.modules, "zeroconf.asyncio", None)


@pytest.mark.usefixtures("without_zeroconf")
def test_without_the_library_the_error_says_what_to_install():
    for use in (
        lambda: find_servers(0.1),
        lambda: Client.find("laser"),
        lambda: asyncio.run(AsyncioClient.find("laser")),
        lambda: simple_server_loop({"laser": Laser()}, "127.0.0.1", 0, announce=True),
    ):
        with pytest.raises(ImportError, match=r"install the package zeroconf: .* \[discovery\]"):
            use()


def test_discovery_is_loaded_on_demand_only():
    code = (
        "import sys, pc_rpc, pc_rpc._cli, pc_rpc._cli_serve\n"
        "[getattr(pc_rpc, name) for name in pc_rpc.__all__ if name != 'find_servers']\n"
        "print([name for name in sys.modules if 'zeroconf' in name or 'discovery' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Records; pure.


def wire(record):
    found = properties(record)
    for key, value in found.items():
        assert len(f"{key}={value}".encode()) <= LONGEST_TEXT
    return {key.encode(): value.encode() for key, value in found.items()}


def test_a_record_is_read_as_it_was_written():
    record = Record("laser of table 3", ("laser", "shutter"), "Läser", True)
    assert read(wire(record), "anything") == record


def test_long_texts_are_cut_at_whole_characters_and_targets_at_whole_names():
    record = Record("é" * 300, tuple(f"target{n}" for n in range(99)), "\U0001f600" * 99, False)
    back = read(wire(record), "anything")
    assert back.name == "é" * 123 + "…"
    assert back.targets[-1] == "…"
    assert set(back.targets[:-1]) < set(record.targets)
    assert len(back.targets) > 20
    assert set(back.description) == {"\U0001f600", "…"}
    alone = read(wire(Record("n", ("t" * 300,), "", False)), "anything")
    assert alone.targets == ("…",)


@pytest.mark.parametrize(
    "name", ["laser", "é" * 90, "a.b.c.", "\x00\x1b[2J", "", ".", "\ud800", " ", "x" * 500]
)
def test_the_name_of_an_instance_is_a_label_of_dns(name):
    made = label(name, "a-very-long-name-of-a-host.example.org", 65535)
    assert len(made.encode()) <= LONGEST_LABEL
    assert "." not in made
    assert made.isprintable()


@pytest.mark.parametrize(
    "found",
    [{}, {b"name": None}, {b"name": b"\xff\xfe"}, {b"tls": b"yes", b"targets": b"\xff a\x00b"}],
)
def test_any_content_of_a_record_is_read_as_text(found):
    record = read(found, f"laser (pc 3249).{SERVICE}")
    assert isinstance(record.name, str)
    assert record.name
    assert record.tls is False


# The command.

HOSTILE = FoundServer(
    name="\x1b[2J\nlaser", host="192.0.2.7\x07", port=3249, targets=("a\x1b]0;x\x07", "b" * 100),
    description="line\nforged  127.0.0.1", tls=False, answers=False,
)  # fmt: skip
HONEST = FoundServer("laser", "192.0.2.8", 3250, ("laser",), "A laser", True, True)


def test_the_table_is_legible_whatever_servers_say():
    text = table([HOSTILE, HONEST])
    lines = text.split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert lines[0].split() == ["NAME", "HOST", "PORT", "TLS", "TARGETS", "DESCRIPTION"]
    assert "(not answering) line\\nforged" in lines[1]
    assert lines[2].split() == ["laser", "192.0.2.8", "3250", "yes", "laser", "A", "laser"]
    assert max(map(len, lines)) < 200
    assert table([]) == "no servers found"


@pytest.mark.parametrize(
    ("words", "announce", "factory", "arguments"),
    [
        (["--announce", "m:C"], "", "m:C", []),
        (["--announce=laser one", "m:C"], "laser one", "m:C", []),
        (["m:C", "--announce"], "", "m:C", []),
        (["m:C", "1", "--", "2"], None, "m:C", ["1", "2"]),
        (["m:C"], None, "m:C", []),
    ],
)
def test_the_name_of_the_option_may_be_missing(words, announce, factory, arguments):
    options = parse(["serve", *words])
    assert (options.announce, options.factory) == (announce, factory)
    assert options.arguments == arguments


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


NO_LIBRARY = """
import sys
sys.modules["zeroconf"] = sys.modules["zeroconf.asyncio"] = None
from pc_rpc._cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "arguments", [["find"], ["serve", "--announce", "collections:UserDict", "--port", "0"]]
)
def test_without_the_library_the_command_says_what_to_install(arguments):
    done = run("-c", NO_LIBRARY, *arguments)
    assert done.returncode == 2
    assert "install the package zeroconf" in done.stderr
    assert "Traceback" not in done.stderr


# Two computers: network namespaces with a cable between them.

SERVER_ADDRESS, CLIENT_ADDRESS = "10.231.9.1", "10.231.9.2"


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def computers():
    """Names of two network namespaces, of a controller and of a client."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (iproute2)")
    controller, client = (f"pcrpc-{who}-{os.getpid()}" for who in ("controller", "client"))
    with contextlib.ExitStack() as stack:
        for name in (controller, client):
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"this machine permits no network namespaces: {error.stderr.strip()}")
            stack.callback(ip, "netns", "delete", name)
        ends = [f"vd{n}-{os.getpid()}" for n in (1, 2)]
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(
            (controller, client), ends, (SERVER_ADDRESS, CLIENT_ADDRESS), strict=True
        ):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield controller, client


@contextlib.contextmanager
def controller(computer, *options, folder):
    """Serve on a computer; return the port after the server has been announced."""
    (folder / "laser.py").write_text("class Laser:\n    def idn(self):\n        return 'a laser'\n")
    process = subprocess.Popen(
        ["ip", "netns", "exec", computer, sys.executable, "-m", "pc_rpc", "serve", "laser:Laser",
         *options], cwd=folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        port = int(process.stderr.readline().split()[-1])
        line = process.stderr.readline()
        yield process, port, line
    finally:
        process.terminate()
        process.communicate(timeout=60)


def find_on(computer, *options):
    done = subprocess.run(
        ["ip", "netns", "exec", computer, sys.executable, "-m", "pc_rpc", "find", "--json",
         *options], capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_another_computer_finds_and_calls_a_server(computers, tmp_path):
    here, there = computers
    options = ["--bind", "0.0.0.0", "--announce=laser of table 3", "--description", "A laser"]
    with controller(here, *options, folder=tmp_path) as (process, port, line):
        assert "announced as 'laser of table 3'" in line
        found = find_on(there)
        assert [(one["name"], one["host"], one["port"], one["answers"]) for one in found] == [
            ("laser of table 3", SERVER_ADDRESS, port, True)
        ]
        code = (
            "from pc_rpc import Client\n"
            "with Client.find('laser of table 3', timeout=30) as laser: print(laser.idn())"
        )
        done = subprocess.run(
            ["ip", "netns", "exec", there, sys.executable, "-c", code],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.stdout == "a laser\n", done.stderr
        process.terminate()
        process.wait(60)
        assert find_on(there, "--timeout", "1") == []


def test_a_server_for_its_own_computer_is_not_announced(computers, tmp_path):
    here, there = computers
    options = ["--bind", "127.0.0.1", "--announce"]
    with controller(here, *options, folder=tmp_path) as (_, _port, line):
        assert "'Laser' is not announced: it serves this computer only" in line
        assert find_on(there, "--timeout", "1") == []
