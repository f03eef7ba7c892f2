"""Methods of parts of a driver, by dotted names that `expose` lists."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import socket
import subprocess
import sys
import threading

import pytest
from pc_rpc import Client, Server, immediate
from pc_rpc._cli_prompt import Prompt
from pc_rpc._exposure import find_methods
from pc_rpc._method_list import method_list
from pc_rpc._stubs import stub_module

LONG = 30.0


class Axis:
    """An axis of a stage."""

    def __init__(self, name="x"):
        self.name = name
        self.position = 0.0
        self.encoder = Encoder()

    def move(self, to: float) -> str:
        """Move, in mm."""
        self.position = to
        return f"{self.name} at {to} on {threading.current_thread().name}"

    async def ramp(self):
        await asyncio.sleep(0)
        return f"ramped on {threading.current_thread().name}"

    @immediate
    def abort(self):
        return "aborted"

    @property
    def speed(self) -> float:
        """Speed, in mm/s."""
        return 2.5

    @speed.setter
    def speed(self, value):
        if value > 10:
            raise ValueError("too fast")

    def fail(self):
        raise ValueError("limit switch")

    def _home(self):
        raise AssertionError("reached")


class Encoder:
    def read(self):
        return 42


class Stage:
    """A stage."""

    def __init__(self):
        self.axis = Axis()
        self.other = Axis("y")
        self.late = None

    def stop(self):
        return "stopped"

    def secret(self):
        raise AssertionError("reached")

    @property
    def computed(self):
        return self.axis


EXPOSED = ["stop", "axis.move", "axis.encoder.read", "axis.ramp", "axis.abort", "axis.fail"]


@pytest.fixture
def port(serve):
    return serve({"stage": Stage()}, expose={"stage": EXPOSED}).port


def test_methods_of_parts_are_called_as_methods_of_an_attribute(port, connect, either_road):
    stage = connect(port)
    assert stage.axis.move(3) == "x at 3 on server"
    assert stage.axis.move(to=4.5) == "x at 4.5 on server"
    assert stage.axis.encoder.read() == 42
    assert stage.axis.ramp() == "ramped on server"
    assert stage.with_rpc_timeout(5).axis.move(1) == "x at 1 on server"
    assert stage.__rpc__.axis.encoder.read() == 42
    assert stage.stop() == "stopped"
    with pytest.raises(ValueError, match="limit switch") as raised:
        stage.axis.fail()
    assert "_parts.py" not in "".join(raised.value.parent_traceback).replace("test_parts", "")


async def test_the_asyncio_client_has_methods_of_parts_too(asyncio_client, port):
    async with asyncio_client(port) as stage:
        results = await asyncio.gather(stage.axis.move(3), stage.axis.encoder.read())
        assert results == ["x at 3 on server", 42]


def test_worker_threads_run_methods_of_parts_as_those_of_the_target(serve, connect):
    server = serve({"stage": Stage()}, expose={"stage": EXPOSED}, worker_threads=True)
    stage = connect(server.port)
    assert stage.axis.move(3) == "x at 3 on target stage"
    assert stage.axis.ramp() == "ramped on server"
    assert stage.axis.abort() == "aborted"
    methods = find_methods(Stage(), expose=EXPOSED)
    assert (methods.immediate, methods.coroutine) == ({"axis.abort"}, {"axis.ramp"})


def test_a_generator_of_a_part_is_a_stream(serve, connect):
    class Camera:
        def frames(self, count):
            yield from range(count)

    class Setup:
        def __init__(self):
            self.camera = Camera()

    setup = connect(serve({"setup": Setup()}, expose={"setup": ["camera.frames"]}).port)
    assert list(setup.camera.frames(3)) == [0, 1, 2]


def test_what_is_not_listed_cannot_be_reached(port):
    tried = [
        "axis", "axis.__class__", "axis._home", "axis.move.__func__", "axis.move.__self__",
        "axis.position", "axis.encoder", "axis.encoder.__init__", "secret", "other.move",
        "axis.axis.move", "axis.", ".axis.move", "axis..move", "axis.move.", "axis.move ",
        "computed.move", "_target", "__dict__", "axis.ramp.__code__", "axis.name.upper", "axis.mov",
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", port), LONG) as sock, sock.makefile("rwb") as lines:
        lines.write(b"ARTIQ pc_rpc\nstage pyon_v2 request_ids\n")
        for number, name in enumerate(tried):
            call = {"id": number, "action": "call", "name": name, "args": [], "kwargs": {}}
            lines.write(json.dumps(call, separators=(",", ":")).encode() + b"\n")
        lines.flush()
        answers = [json.loads(lines.readline()) for _ in range(2 + len(tried))][2:]
    for name, answer in zip(tried, answers, strict=True):
        assert answer["exception"]["class"] == "AttributeError", name
        assert answer["exception"]["message"] == f"'Stage' object has no attribute {name!r}"


def test_an_unknown_name_is_an_error_at_the_client(port, connect):
    stage = connect(port)
    for look in (
        lambda: stage.axis.nothing, lambda: stage.axis.encoder.nothing, lambda: stage.other,
        lambda: stage.axis._home, lambda: stage.axis.move.__func__, lambda: stage.axis.move.nothing,
        lambda: stage.axis.__wrapped__,
    ):  # fmt: skip
        with pytest.raises(AttributeError):
            look()
    with pytest.raises(AttributeError, match=r"'axis\.mvoe'.*; did you mean 'axis\.move'\?"):
        _ = stage.axis.mvoe
    with pytest.raises(AttributeError, match=r"cannot set 'axis\.position' of 'stage'"):
        stage.axis.position = 3
    with pytest.raises(AttributeError, match=r"cannot delete 'axis\.move' of 'stage'"):
        del stage.axis.move
    with pytest.raises(TypeError):
        stage.axis()
    assert "axis" in dir(stage)
    assert dir(stage.__rpc__) == ["axis", "stop"]
    assert dir(stage.axis) == ["abort", "encoder", "fail", "move", "ramp"]
    assert repr(stage.axis).startswith("<remote methods axis.* of 'stage' at ")


def test_methods_of_parts_have_documentation_and_signatures(port, connect):
    stage = connect(port)
    assert str(inspect.signature(stage.axis.move)) == "(to: float) -> str"
    assert inspect.getdoc(stage.axis.move) == "Move, in mm."
    assert repr(stage.axis.move).startswith("<remote method axis.move(to: float) -> str of")


def test_a_part_that_is_replaced_is_called_from_then_on(serve, connect):
    driver = Stage()
    stage = connect(serve({"stage": driver}, expose={"stage": ["axis.move"]}).port)
    driver.axis = Axis("z")
    assert stage.axis.move(1).startswith("z at 1")
    driver.axis = Encoder()
    with pytest.raises(AttributeError, match="'Encoder' object has no attribute 'move'"):
        stage.axis.move(1)
    del driver.axis
    with pytest.raises(AttributeError, match="no attribute 'axis'"):
        stage.axis.move(1)


def test_a_part_may_come_later_or_be_computed_and_is_not_read_before(serve, connect):
    class Computing:
        read = 0

        @property
        def axis(self):
            self.read += 1
            return Axis("computed")

        def __init__(self):
            self.late = None

    driver = Computing()
    expose = ["axis.move", "late.move", "axis.encoder.read"]
    stage = connect(serve({"stage": driver}, expose={"stage": expose}).port)
    assert str(inspect.signature(stage.axis.move)) == "(*args: Any, **kwargs: Any) -> Any"
    assert driver.read == 0
    assert stage.axis.move(1).startswith("computed at 1")
    assert (stage.axis.encoder.read(), driver.read) == (42, 2)
    with pytest.raises(AttributeError):
        stage.late.move(1)
    driver.late = Axis("late")
    assert stage.late.move(1).startswith("late at 1")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "axis",
            r"it cannot be called \(Axis\): name its methods, axis.abort, axis.fail, axis.move",
        ),
        ("axis.position", r"it cannot be called \(float\)"),
        ("axis.encoder", r"it cannot be called \(Encoder\)"),
        ("axis.speed", r"it cannot be called \(property\)"),
        ("axis.nothing", "'Axis' object has no such method"),
        ("nothing.move", "'Stage' object has no attribute 'nothing'"),
        ("axis.nothing.move", "'Axis' object has no attribute 'nothing'"),
        ("axis._home", "names with a leading underscore can never be called"),
        ("axis.__class__", "names with a leading underscore can never be called"),
        ("_axis.move", "names with a leading underscore can never be called"),
        ("axis.move.__func__", "names with a leading underscore can never be called"),
        ("axis..move", "it is not a valid name"),
        ("axis.", "it is not a valid name"),
        ("axis.m ove", "it is not a valid name"),
        ("axis.get_speed", "'Axis' object has no such method"),
    ],
)
def test_what_cannot_be_exposed_is_refused_at_the_start(name, reason):
    with pytest.raises(ValueError, match=reason):
        Server({"stage": Stage()}, expose={"stage": [name]})


def test_what_is_hidden_and_not_exposed_is_unknown():
    with pytest.raises(ValueError, match=r"no attribute 'axis\.move'"):
        find_methods(Stage(), hide=["axis.move"])
    assert find_methods(Stage(), expose=EXPOSED, hide=["axis.move"]).names == {
        *EXPOSED
    } - {"axis.move"}  # fmt: skip


def test_properties_of_parts_have_methods_too(serve, connect):
    expose = {"stage": ["axis.get_speed", "axis.set_speed"]}
    stage = connect(serve({"stage": Stage()}, expose=expose, properties=True).port)
    assert stage.axis.get_speed() == 2.5
    with pytest.raises(ValueError, match="too fast"):
        stage.axis.set_speed(50)
    assert inspect.getdoc(stage.axis.set_speed) == "Speed, in mm/s."
    assert str(inspect.signature(stage.axis.get_speed)) == "() -> float"
    with pytest.raises(AttributeError, match=r"use axis\.get_speed\(\) or axis\.set_speed\(value"):
        _ = stage.axis.speed
    with pytest.raises(AttributeError, match=r"use axis\.set_speed\(3\)"):
        stage.axis.speed = 3


def test_a_gateway_offers_methods_of_parts(serve, connect, port):
    stage = connect(serve({"stage": connect(port)}).port)
    assert stage.axis.move(2) == "x at 2 on server"
    assert inspect.getdoc(stage.axis.move) == "Move, in mm."


def test_a_gateway_offers_no_private_steps_whatever_its_server_announces(scripted_peer):
    def script(sock, lines):
        lines.readline()
        sock.sendall(b'{"targets":["main"],"description":null,"features":["pyon_v2"]}\n')
        lines.readline()
        names = '["ok.go","ok._go","_a.b","a.__class__"]'
        sock.sendall(b'{"__jsonclass__":["set",[%s]]}\n' % names.encode())
        lines.readline()

    with Client("127.0.0.1", scripted_peer(script).port, timeout=LONG) as client:
        assert find_methods(client.__rpc__).names == {"ok.go"}


def test_to_an_old_client_dotted_names_are_ordinary_names(port):
    with socket.create_connection(("127.0.0.1", port), LONG) as sock, sock.makefile("rwb") as lines:
        lines.write(b"ARTIQ pc_rpc\nstage\n")
        lines.write(b'{"action": "call", "name": "axis.move", "args": (3, ), "kwargs": {}}\n')
        lines.flush()
        lines.readline()
        assert b'"axis.move"' in lines.readline()
        assert lines.readline() == b'{"status": "ok", "ret": "x at 3 on server"}\n'


def test_a_client_that_connects_again_forgets_its_parts(serve):
    async def run():
        from pc_rpc import AsyncioClient

        client = AsyncioClient()
        first = serve({"stage": Stage()}, expose={"stage": ["axis.move"]})
        await client.connect_rpc("127.0.0.1", first.port, timeout=LONG)
        assert await client.axis.move(1)
        await client.close_rpc()
        second = serve({"stage": Stage()}, expose={"stage": ["stop"]})
        await client.connect_rpc("127.0.0.1", second.port, timeout=LONG)
        with pytest.raises(AttributeError):
            _ = client.axis
        await client.close_rpc()

    asyncio.run(run())


# Stubs and commands.


def test_the_stub_has_a_class_for_each_part(tmp_path):
    stage = Stage()
    methods = find_methods(stage, expose=EXPOSED)
    listed = method_list(stage, methods, builtin_terminate=False, version=2)
    text = stub_module("s:1", '"s", 1', {"stage": listed})
    use = """
from stub import Stage, AsyncioStage

async def use(stage: Stage, other: AsyncioStage) -> None:
    moved: str = stage.axis.move(1.0)
    moved = await other.axis.move(1.0)
    stage.axis.encoder.read()
    stage.axis.move("there")
"""
    (tmp_path / "stub.py").write_text(text)
    (tmp_path / "use.py").write_text(use)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "use.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert "use.py:8: error: Argument 1 to" in done.stdout
    assert "Found 1 error" in done.stdout


def test_hostile_dotted_names_leave_a_stub_valid():
    spec = {"args": ["self"], "annotations": {"return": "set[int]"}}
    names = [".".join(["a"] * 500), "b.class", "b.1", "..", "b.set", "Protocol.x", "b.x.y", "b.x"]
    text = stub_module(
        "s:1", '"s", 1', {"t": {"docstring": None, "methods": {n: [spec, None] for n in names}}}
    )
    ast.parse(text)
    assert "def set(self)" in text


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "pc_rpc", *arguments], capture_output=True, text=True, timeout=60
    )


def test_the_command_calls_and_lists_methods_of_parts(port):
    done = command("call", "127.0.0.1", str(port), "axis.move", "3")
    assert done.stdout == '"x at 3 on server"\n'
    done = command("call", "127.0.0.1", str(port), "axis.move(to=4)")
    assert done.stdout == '"x at 4 on server"\n'
    done = command("call", "127.0.0.1", str(port), "axis.nothing")
    assert done.returncode == 2
    assert "'axis.encoder.read'" in command("list-methods", "127.0.0.1", str(port)).stdout.replace(
        '"', "'"
    )


def test_the_prompt_completes_methods_of_parts(port, connect):
    prompt = Prompt(lambda _: None, connect(port), repr)
    assert list(prompt.completions("axis.en")) == ["axis.encoder.read"]
    assert list(prompt.completions("axis.move ")) == ["to="]
    assert prompt.run("axis.move 3") == "'x at 3 on server'"
    assert prompt.run("axis.move(to=3)") == "'x at 3 on server'"
    assert "Move, in mm." in prompt.run("axis.move?")
    assert "axis.encoder.read()" in prompt.run(":methods")


DRIVER = """
class Axis:
    def move(self, to):
        return to


class Stage:
    def __init__(self):
        self.axis = Axis()
"""


def test_serve_exposes_methods_of_parts(tmp_path):
    (tmp_path / "stage.py").write_text(DRIVER)
    serve = [sys.executable, "-m", "pc_rpc", "serve", "stage:Stage", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        [*serve, "--expose", "axis.move"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        port = int(process.stderr.readline().split()[-1])
        with Client("127.0.0.1", port, timeout=LONG) as client:
            assert client.axis.move(5) == 5
            client.terminate()
    done = subprocess.run(
        [*serve, "--expose", "axis.mvoe"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "cannot expose 'axis.mvoe' of a 'Stage' object" in done.stderr


# In the style of QCoDeS: sub-modules and parameters, looked up by `__getattr__`.


class Parameter:
    """A parameter, called to get or set it."""

    def __init__(self, name, unit, value):
        self.name, self.unit, self._value = name, unit, value

    def __call__(self, *value):
        return self.set(*value) if value else self.get()

    def get(self):
        return self._value

    def set(self, value):
        self._value = value


class Module:
    """An instrument module of QCoDeS: attributes are delegated to dicts."""

    def __init__(self):
        self.parameters, self.submodules = {}, {}

    def add_parameter(self, name, unit="", value=0.0):
        self.parameters[name] = Parameter(name, unit, value)

    def __getattr__(self, name):
        for attributes in ("parameters", "submodules"):
            found = self.__dict__.get(attributes, {})
            if name in found:
                return found[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class Source(Module):
    def __init__(self):
        super().__init__()
        self.add_parameter("frequency", "Hz", 1e6)
        self.submodules["channel"] = Module()
        self.submodules["channel"].add_parameter("level", "dBm", -10.0)

    def get_idn(self):
        return {"vendor": "simulated"}


def test_an_instrument_of_qcodes_is_served_as_it_is(serve, either_client):
    expose = ["get_idn", "frequency", "frequency.get", "channel.level", "channel.level.set"]
    server = serve({"source": Source()}, expose={"source": expose})
    client = either_client(server.port)
    if hasattr(client, "_client"):
        client, run = client._client, client._runner.run
    else:

        def run(result):
            return result

    assert run(client.get_idn()) == {"vendor": "simulated"}
    assert run(client.frequency()) == 1e6
    assert run(client.frequency(2e6)) is None
    assert run(client.frequency.get()) == 2e6
    assert run(client.channel.level.set(-3.0)) is None
    assert run(client.channel.level()) == -3.0
    with pytest.raises(AttributeError):
        _ = client.channel.parameters
