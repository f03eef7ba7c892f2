"""Properties of drivers, which clients read and set by methods: `Server(..., properties=True)`."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import socket
import subprocess
import sys
import typing

import pytest
from pc_rpc import Client, GenericRemoteException, immediate
from pc_rpc._exposure import find_methods
from pc_rpc._method_list import method_list
from pymeasure.adapters import ProtocolAdapter
from pymeasure.instruments import Instrument
from pymeasure.instruments.validators import strict_range

touched: list[str] = []


class Register:
    """A descriptor that can be read and set: a feature of a driver toolkit."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        touched.append(f"read {self.name}")
        return instance.registers[self.name]

    def __set__(self, instance, value):
        instance.registers[self.name] = value


class ReadOnly:
    """A descriptor that can only be read: it may be a kind of method."""

    def __get__(self, instance, owner=None):
        touched.append("read only")
        return lambda: 5


class Base:
    @property
    def inherited(self) -> int:
        """The common base class."""
        touched.append("inherited")
        return 1

    @property
    def overridden(self):
        """Documented in the base."""
        return "base"


class Laser(Base):
    register = Register()
    read_only = ReadOnly()
    constant = 5
    __slots__ = ("slot",)

    def __init__(self):
        self.watts = 0.5
        self.slot = 7
        self.registers = {"register": 3}

    @property
    def power(self) -> typing.Annotated[float, "W"]:
        """Output power, in watts."""
        touched.append("power")
        return self.watts

    @power.setter
    def power(self, value: float):
        if value > 1:
            raise ValueError("too much for the crystal")
        self.watts = value

    @property
    def overridden(self):
        return "derived"

    @property
    def _secret(self):
        touched.append("secret")

    @functools.cached_property
    def serial(self) -> str:
        """Serial number."""
        touched.append("serial")
        return "0042"

    def _set_trap(self, value: float):
        self.trap = value

    written = property(fset=_set_trap, doc="Can only be set.")

    @property
    def current(self):
        return 1.0

    def get_current(self):
        return "its own"

    @property
    @immediate
    def progress(self):
        return 0.5

    @property
    async def slow(self) -> int:
        await asyncio.sleep(0)
        return 9

    @property
    def broken(self):
        raise RuntimeError("no instrument")


OFFERED = {
    *("get_inherited", "get_overridden", "get_register", "set_register", "get_power", "set_power"),
    *("get_serial", "set_written", "get_current", "get_progress", "get_slow", "get_broken"),
}


@pytest.fixture(autouse=True)
def untouched():
    touched.clear()


def test_each_property_has_methods_and_none_is_read_to_find_them():
    assert find_methods(Laser(), properties=True).names == OFFERED
    assert find_methods(Laser()).names == {"get_current"}
    assert touched == []


def test_methods_of_properties_are_called_like_any_method(serve, either_client, either_road):
    server = serve({"laser": Laser()}, properties=True)
    laser = either_client(server.port)
    assert touched == []
    assert laser.get_power() == 0.5
    assert laser.set_power(0.75) is None
    assert laser.get_power() == 0.75
    laser.set_power(value=1)
    assert (laser.get_power(), type(laser.get_power())) == (1, int)
    laser.set_register(8)
    assert laser.get_register() == 8
    assert laser.get_inherited() == 1
    assert laser.get_overridden() == "derived"
    assert [laser.get_serial(), laser.get_serial(), touched.count("serial")] == ["0042", "0042", 1]
    assert laser.get_current() == "its own"
    assert laser.get_slow() == 9
    laser.set_written(5)


def test_an_exception_of_a_property_arrives_as_from_any_method(serve, either_client, either_road):
    laser = either_client(serve({"laser": Laser()}, properties=True).port)
    with pytest.raises(ValueError, match="too much for the crystal") as raised:
        laser.set_power(2)
    frames = "".join(raised.value.parent_traceback)
    assert "test_properties.py" in frames
    assert "_properties.py" not in frames.replace("test_properties", "")
    with pytest.raises(RuntimeError, match="no instrument"):
        laser.get_broken()
    with pytest.raises(TypeError, match=r"get_power\(\) takes 0 positional arguments but 1"):
        laser.get_power(5)
    with pytest.raises(TypeError, match=r"set_power\(\) missing 1 required positional argument"):
        laser.set_power()


def test_methods_of_properties_run_where_other_methods_run(serve, connect):
    laser = connect(serve({"laser": Laser()}, properties=True, worker_threads=True).port)
    assert [laser.get_power(), laser.get_slow(), laser.get_progress()] == [0.5, 9, 0.5]
    methods = find_methods(Laser(), properties=True)
    assert methods.immediate == {"get_progress"}
    assert methods.coroutine == {"get_slow"}


def test_a_target_made_for_each_connection_has_methods_of_properties_too(serve, connect):
    server = serve({"laser": Laser}, properties=True)
    first, second = connect(server.port), connect(server.port)
    first.set_power(0.25)
    assert (first.get_power(), second.get_power()) == (0.25, 0.5)


def test_documentation_and_annotations_are_those_of_the_property(serve, connect):
    laser = connect(serve({"laser": Laser()}, properties=True).port)
    shown = {
        name: (str(inspect.signature(getattr(laser, name))), inspect.getdoc(getattr(laser, name)))
        for name in ("get_power", "set_power", "get_serial", "get_overridden", "set_written")
    }
    annotated = "typing.Annotated[float, 'W']"
    assert shown == {
        "get_power": (f"() -> {annotated}", "Output power, in watts."),
        "set_power": ("(value: float)", "Output power, in watts."),
        "get_serial": ("() -> str", "Serial number."),
        "get_overridden": ("()", "Documented in the base."),
        "set_written": ("(value: float)", "Can only be set."),
    }


def test_a_setter_without_an_annotation_has_that_of_the_result():
    class Stage:
        @property
        def position(self) -> float: ...

        @position.setter
        def position(self, value): ...

    methods = find_methods(Stage(), properties=True)
    listed = method_list(Stage(), methods, builtin_terminate=False, version=2)
    assert listed["methods"]["set_position"][0]["annotations"] == {"value": "float"}


def test_an_attribute_of_the_client_says_which_method_to_call(serve, either_client):
    laser = either_client(serve({"laser": Laser()}, properties=True).port)
    if hasattr(laser, "_client"):
        laser = laser._client
    with pytest.raises(AttributeError, match=r"use get_power\(\) or set_power\(value\)$"):
        _ = laser.power
    with pytest.raises(AttributeError, match=r"cannot set 'power' .*; use set_power\(3\)$"):
        laser.power = 3
    with pytest.raises(AttributeError, match=r"; use set_power\(value\)$"):
        laser.power = 10**5000
    with pytest.raises(AttributeError, match=r"; it can be read: get_serial\(\)$"):
        laser.__rpc__.serial = "0043"


def test_expose_and_hide_take_the_names_of_properties_and_their_methods():
    def names(**options):
        return find_methods(Laser(), properties=True, **options).names

    assert names(expose=["get_power", "set_register"]) == {"get_power", "set_register"}
    assert names(hide=["set_power"]) == OFFERED - {"set_power"}
    assert names(hide=["power"]) == OFFERED - {"get_power", "set_power"}
    with pytest.raises(ValueError, match=r"'power' .*: expose get_power or set_power$"):
        names(expose=["power"])
    with pytest.raises(ValueError, match="no attribute 'set_serial'"):
        names(expose=["set_serial"])
    with pytest.raises(ValueError, match="no attribute 'get_power'"):
        find_methods(Laser(), expose=["get_power"])
    with pytest.raises(ValueError, match="names with a leading underscore"):
        names(expose=["_secret"])


def test_what_is_not_offered_cannot_be_called(serve):
    port = serve({"laser": Laser()}, properties=True, expose={"laser": ["get_power"]}).port
    with socket.create_connection(("127.0.0.1", port), 30) as sock, sock.makefile("rwb") as lines:
        lines.write(b"ARTIQ pc_rpc\nlaser pyon_v2\n")
        for name in ("set_power", "get__secret", "power", "_target", "get_", "__class__", "watts"):
            call = {"action": "call", "name": name, "args": [], "kwargs": {}}
            lines.write(json.dumps(call).encode() + b"\n")
        lines.flush()
        answers = [lines.readline() for _ in range(9)]
    assert b'["get_power","terminate"]' in answers[1] or b'["get_power"]' in answers[1]
    for answer in answers[2:]:
        assert json.loads(answer)["exception"]["class"] == "AttributeError"
    assert touched == []


class Supply(Instrument):
    """A power supply, in pymeasure's manner, unchanged."""

    voltage = Instrument.control(
        "VOLT?", "VOLT %g", "Control the voltage in V.", validator=strict_range, values=[0, 10]
    )
    current = Instrument.measurement("CURR?", "Get the current in A.")
    limit = Instrument.control(
        "LIM?", "LIM %g", "Control the limit in A.", validator=strict_range, values=[0, 1],
        dynamic=True,
    )  # fmt: skip


def test_an_instrument_of_pymeasure_is_served_as_it_is(serve, either_client):
    adapter = ProtocolAdapter(
        [(b"VOLT 5", None), (b"VOLT?", b"5.0"), (b"CURR?", b"0.25"), (b"LIM 3", None)]
    )
    supply = Supply(adapter, "simulated", includeSCPI=False)
    client = either_client(serve({"supply": supply}, properties=True).port)
    client.set_voltage(5)
    assert client.get_voltage() == 5.0
    assert client.get_current() == 0.25
    with pytest.raises(ValueError, match="not in range"):
        client.set_voltage(50)
    with pytest.raises(LookupError, match="can not be set"):
        client.set_current(1)
    supply.limit_values = [0, 5]  # in a dynamic property, of this instrument alone
    client.set_limit(3)
    with pytest.raises((GenericRemoteException, AttributeError)):
        client.adapter()


def test_the_units_in_the_documentation_of_pymeasure_reach_the_client(serve, connect):
    supply = Supply(ProtocolAdapter([]), "simulated", includeSCPI=False)
    client = connect(serve({"supply": supply}, properties=True).port)
    assert "voltage in V." in inspect.getdoc(client.get_voltage)
    assert "voltage in V." in inspect.getdoc(client.set_voltage)


DRIVER = """
class Laser:
    watts = 0.5

    def __call__(self):
        "It can be called, too."

    @property
    def power(self):
        return self.watts

    @power.setter
    def power(self, value):
        self.watts = value
"""


@pytest.mark.parametrize(
    ("options", "methods"),
    [
        ((), ["get_power", "set_power", "terminate"]),
        (("--expose", "get_power"), ["get_power", "terminate"]),
        (("--hide", "set_power"), ["get_power", "terminate"]),
    ],
)
def test_the_command_serves_them_when_it_is_told_to(tmp_path, options, methods):
    (tmp_path / "laser.py").write_text(DRIVER)
    serve = [sys.executable, "-m", "pc_rpc", "serve", "laser:Laser", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        [*serve, "--properties", *options], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        port = int(process.stderr.readline().split()[-1])
        with Client("127.0.0.1", port, timeout=30) as client:
            assert dir(client.__rpc__) == methods
            assert client.get_power() == 0.5
            client.terminate()
        assert process.stderr.read() == ""
    assert process.returncode == 0
