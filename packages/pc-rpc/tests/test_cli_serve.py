"""`pc-rpc serve`: errors of the driver and of the command line, and the addresses served."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import pytest
from pc_rpc import Client, ConnectionLost
from pc_rpc._cli_errors import STATUSES
from pyon.tcp_options import loopback_addresses

DRIVER = """
import os
import sys

class Laser:
    def __init__(self, address, *, speed: int = 1):
        pass

class Bare:
    def idn(self):
        return "a laser"

def boom(error):
    raise error

class WithKeyError:
    def __init__(self):
        {}["serial"]

class WithAssertionError:
    def __init__(self):
        assert self is None

class WithOSError:
    def __init__(self):
        open("/no/such/device")

class WithConnectionRefused:
    def __init__(self):
        raise ConnectionRefusedError(111, "Connection refused")

class WithTypeError:
    def __init__(self):
        len(5)

class WithBadSignature(type):
    __signature__ = property(lambda self: {}["signature"])

class Unsigned(metaclass=WithBadSignature):
    def __init__(self):
        {}["serial"]

class WithExit:
    def __init__(self):
        sys.exit(0)

class WithBadStr(Exception):
    def __str__(self):
        raise RuntimeError

class WithCause:
    def __init__(self):
        try:
            {}["serial"]
        except KeyError as error:
            raise RuntimeError("no laser") from error

class WithEscape:
    def __init__(self):
        raise ValueError("\\x1b[2J")

def with_bad_str():
    raise WithBadStr

def with_generator_exit():
    raise GeneratorExit

def with_remote_error():
    import pc_rpc
    pc_rpc.Client("127.0.0.1", 1)

def nothing():
    pass

async def coroutine():
    pass

class Closable(Bare):
    rate = property(lambda self: boom(ValueError("touched")))
    def close(self):
        pass

class CloseIsARegister(Bare):
    close = property(lambda self: boom(ValueError("touched")))

class ClosableAndCallable(Closable):
    def __call__(self):
        pass

class BoundToItsThread:
    def __init__(self):
        import sqlite3
        self.connection = sqlite3.connect(":memory:")
    def version(self):
        return self.connection.execute("select 42").fetchone()[0]
    def close(self):
        self.connection.close()
        print("closed where it was made", file=sys.stderr, flush=True)

class NeverEnds(Bare):
    def hang(self):
        print("hanging", file=sys.stderr, flush=True)
        import threading
        threading.Event().wait()
    def close(self):
        pass

class BadClose(Bare):
    def close(self):
        {}["shutter"]

class BadAsyncClose(Bare):
    async def close(self):
        {}["shutter"]

def gateway(port):
    import pc_rpc
    return pc_rpc.Client("127.0.0.1", port)

laser = 5
"""
MODULES = {
    "drivers": DRIVER,
    "raises": "{}['serial']",
    "exits": "raise SystemExit('no device')",
    "imports": "import no_such_library",
    "imports_name": "from os import no_such_name",
    "syntax": "class Laser:\n    def idn(self)\n",
    "lazy": "def __getattr__(name):\n    if name == 'Laser':\n        {}['serial']\n"
            "    raise AttributeError(name)\n",
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """Run the command to its end: status, stderr."""
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "pc_rpc", "serve", *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout == ""
        return done.returncode, done.stderr

    return run


OURS = re.compile(r"pc_rpc[/\\]|importlib|asyncio[/\\]")


@pytest.mark.parametrize(
    ("factory", "last"),
    [("drivers:WithKeyError", "KeyError: 'serial'"),
     ("drivers:WithAssertionError", "AssertionError"),
     ("drivers:WithOSError", "FileNotFoundError: [Errno 2] No such file or directory"),
     ("drivers:WithConnectionRefused", "ConnectionRefusedError: [Errno 111] Connection refused"),
     ("drivers:WithTypeError", "TypeError: object of type 'int' has no len()"),
     ("drivers:Unsigned", "KeyError: 'serial'"),
     ("drivers:WithExit", "SystemExit: 0"), ("drivers:WithEscape", r"ValueError: \x1b[2J"),
     ("drivers:with_bad_str", "drivers.WithBadStr: <exception str() failed>"),
     ("drivers:with_generator_exit", "GeneratorExit"),
     ("raises:Laser", "KeyError: 'serial'"), ("exits:Laser", "SystemExit: no device"),
     ("imports:Laser", "ModuleNotFoundError: No module named 'no_such_library'"),
     ("imports_name:Laser", "ImportError: cannot import name 'no_such_name' from 'os'"),
     ("syntax:Laser", "SyntaxError: expected ':'"), ("lazy:Laser", "KeyError: 'serial'")],
)  # fmt: skip
def test_an_exception_of_a_driver_is_shown_as_its_own_with_its_own_status(run, factory, last):
    status, err = run(factory)
    assert status == 4
    assert re.search(rf"^{re.escape(last)}", err, re.MULTILINE)
    assert not OURS.search(err)
    assert f"{factory.partition(':')[0]}.py" in err
    assert re.search(r"^pc-rpc: .* raised \w+$", err.splitlines()[-1])


def test_the_cause_of_an_exception_of_a_driver_is_shown_too(run):
    status, err = run("drivers:WithCause")
    assert status == 4
    assert "KeyError: 'serial'" in err
    assert "direct cause" in err
    assert "RuntimeError: no laser" in err
    assert not OURS.search(err)


def test_a_driver_that_finds_no_server_itself_is_not_mistaken_for_a_client_of_the_command(run):
    status, err = run("drivers:with_remote_error")
    assert status == 4
    assert "in with_remote_error" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["no_such_module:Laser"], "No module named 'no_such_module'; looked for it in "),
     (["my-driver:Laser"], "No module named 'my-driver'; looked for it in "),
     (["drivers.py:Laser"], "write drivers:CLASS, without .py"),
     (["drivers"], "expected MODULE:CLASS, got 'drivers'"),
     (["./drivers:Laser"], "expected MODULE:CLASS"), ([".drivers:Laser"], "expected MODULE:CLASS"),
     ([":Laser"], "expected MODULE:CLASS"), (["drivers:"], "expected MODULE:CLASS"),
     (["drivers:Lasr"], "the module 'drivers' has no 'Lasr'; did you mean 'Laser'?"),
     (["lazy:Lasr"], "the module 'lazy' has no 'Lasr'"),
     (["drivers:laser"], "expected a class or function, but drivers:laser is of type int"),
     (["drivers:coroutine"], "expected a driver from coroutine, got None"),
     (["drivers:nothing"], "expected a driver from nothing, got None"),
     (["drivers:Laser"], "missing a required argument: 'address': Laser(address, *, speed"),
     (["drivers:Laser", "1", "2"], "too many positional arguments: Laser("),
     (["drivers:Laser", "1", "sped=2"], "unexpected keyword argument 'sped': Laser("),
     (["drivers:Laser", "abc"], "a string needs quotes"),
     (["drivers:Bare", "--hide", "open"], "Bare has no method 'open'"),
     (["drivers:Closable", "--expose", "rate"], "cannot expose 'rate'"),
     (["drivers:ClosableAndCallable", "--expose", "idm"], "has no method 'idm'"),
     (["drivers:Bare", "--cert", "x", "--key", "y", "--peer-cert", "z"], "'z'"),
     (["drivers:Bare", "--bind", "no.such.host.invalid"], "cannot listen on no.such.host.inv")],
)  # fmt: skip
def test_a_mistake_in_the_command_line_is_shown_without_a_traceback(run, arguments, message):
    status, err = run(*arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_a_port_in_use_is_named_with_its_address(run):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        status, err = run("drivers:Bare", "--bind", "127.0.0.1", "--port", port)
    assert status == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in err
    assert re.search(r"address already in use|Only one usage", err)


def test_every_exit_status_is_in_the_help():
    done = subprocess.run(
        [sys.executable, "-m", "pc_rpc", "--help"], capture_output=True, text=True, check=True
    )
    for status, text in STATUSES.items():
        assert re.search(rf"^ +{status} +{re.escape(text)}$", done.stdout, re.MULTILINE)


# Serving.


@pytest.fixture
def start(tmp_path):
    """Start the command; return the process and its first line, which has the addresses."""
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    processes = []

    def start(*arguments):
        processes.append(subprocess.Popen(
            [sys.executable, "-m", "pc_rpc", "serve", *arguments],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ))  # fmt: skip
        return processes[-1], processes[-1].stderr.readline()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_both_loopbacks_are_served_on_one_port_unless_told_otherwise(start):
    _, line = start("drivers:Bare", "--target", "laser")
    served = re.findall(r"(\S+) port (\d+)", line)
    assert sorted(host for host, _ in served) == loopback_addresses()
    assert len({port for _, port in served}) == 1
    for host, port in served:
        with Client(host, int(port), timeout=30) as client:
            assert client.idn() == "a laser"


def can_have_a_network_of_its_own():
    command = ["unshare", "--net", "sh", "-c", f"{WITHOUT_IPV6} true"]
    return (
        bool(shutil.which("unshare")) and subprocess.call(command, stderr=subprocess.DEVNULL) == 0
    )


WITHOUT_IPV6 = "ip link set lo up && sysctl -qw net.ipv6.conf.all.disable_ipv6=1 &&"


def test_where_ipv6_is_switched_off_the_other_loopback_is_served(start, tmp_path):
    if not can_have_a_network_of_its_own():
        pytest.skip("needs the right to make a network namespace")
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c",
         f"{WITHOUT_IPV6} exec {sys.executable} -m pc_rpc serve drivers:Bare --target laser"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        line = process.stderr.readline()
        process.terminate()
        process.stderr.read()
    assert re.search(r"serving laser on 127\.0\.0\.1 port \d+$", line)
    assert process.returncode == 0


def test_a_gateway_closes_its_client_and_not_the_driver_behind(start, serve):
    class Driver:
        closed = 0

        def idn(self):
            return "behind"

        def close(self):
            self.closed += 1

    driver = Driver()
    behind = serve({"laser": driver}, expose={"laser": ["idn", "close"]})
    process, line = start("drivers:gateway", str(behind.port), "--bind", "127.0.0.1")
    with Client("127.0.0.1", int(line.split()[-1]), timeout=30) as client:
        assert client.idn() == "behind"
        client.terminate()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert driver.closed == 0


@pytest.mark.parametrize("factory", ["drivers:Closable", "drivers:ClosableAndCallable"])
@pytest.mark.parametrize(
    ("options", "methods"),
    [([], ["idn", "terminate"]), (["--hide", "close"], ["idn", "terminate"]),
     (["--expose", "idn", "--expose", "close"], ["close", "idn", "terminate"]),
     (["--expose", "close"], ["close", "terminate"]), (["--hide", "idn"], ["terminate"])],
)  # fmt: skip
def test_clients_can_call_methods_that_are_exposed_and_not_hidden(start, factory, options, methods):
    _, line = start(factory, "--bind", "127.0.0.1", *options)
    with Client("127.0.0.1", int(line.split()[-1]), timeout=30) as client:
        assert dir(client.__rpc__) == methods


def test_a_driver_that_is_bound_to_its_thread_is_made_called_and_closed_there(start):
    process, line = start("drivers:BoundToItsThread", "--bind", "127.0.0.1", "--worker-threads")
    with Client("127.0.0.1", int(line.split()[-1]), timeout=30) as client:
        assert client.version() == 42
        client.terminate()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (0, "closed where it was made")


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_a_driver_whose_method_never_ends_is_not_closed_and_the_command_ends(start):
    process, line = start("drivers:NeverEnds", "--bind", "127.0.0.1", "--worker-threads")
    with Client("127.0.0.1", int(line.split()[-1])) as client:

        def call():
            with pytest.raises(ConnectionLost):
                client.hang()

        caller = threading.Thread(target=call)
        caller.start()
        assert process.stderr.readline() == "hanging\n"
        process.send_signal(signal.SIGTERM)
        caller.join(60)
        assert not caller.is_alive()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert err.endswith("pc-rpc: the driver was not closed: its thread was busy for 5 s\n")


def test_an_attribute_close_that_is_not_a_method_is_not_read_in_the_end(start):
    process, line = start("drivers:CloseIsARegister", "--bind", "127.0.0.1")
    with Client("127.0.0.1", int(line.split()[-1]), timeout=30) as client:
        client.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


@pytest.mark.parametrize("where", [(), ("--worker-threads",)])
@pytest.mark.parametrize("factory", ["drivers:BadClose", "drivers:BadAsyncClose"])
def test_an_exception_of_close_is_shown_as_the_drivers(start, factory, where):
    process, line = start(factory, "--bind", "127.0.0.1", *where)
    with Client("127.0.0.1", int(line.split()[-1]), timeout=30) as client:
        client.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "in close\n" in err
    assert err.endswith("KeyError: 'shutter'\npc-rpc: close() of the driver raised KeyError\n")
    assert not OURS.search(err)


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.parametrize("where", [(), ("--worker-threads",)])
def test_control_c_while_a_driver_is_made_ends_the_command(start, tmp_path, where):
    (tmp_path / "slow.py").write_text(
        "import sys, threading\n"
        "def make():\n"
        "    print('making', file=sys.stderr, flush=True)\n"
        "    threading.Event().wait()\n"
    )
    process, line = start("slow:make", *where)
    assert line == "making\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
def test_control_c_that_comes_on_the_drivers_thread_ends_the_command(start, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import signal, sys, threading\n"
        "def make():\n"
        "    print('making', file=sys.stderr, flush=True)\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGINT)\n"
        "    threading.Event().wait()\n"
    )
    process, line = start("slow:make", "--worker-threads")
    assert line == "making\n"
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


@pytest.mark.skipif(os.name == "nt", reason="signals of another kind")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_command_in_order_and_is_told(start, name):
    process, _ = start("drivers:Bare", "--target", "laser")
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert re.search(rf"INFO pc_rpc: stopped serving laser: {name}\n\Z", err)
