"""Clients on another machine: a network namespace behind a virtual cable."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest
import trustme

SERVER_ADDRESS, CLIENT_ADDRESS = "10.231.7.1", "10.231.7.2"


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def machines():
    """Return the names of two connected network namespaces, of a controller and of a client."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (iproute2)")
    controller, client = (f"rexec-{who}-{os.getpid()}" for who in ("controller", "client"))
    with contextlib.ExitStack() as stack:
        for name in (controller, client):
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"this machine permits no network namespaces: {error.stderr.strip()}")
            stack.callback(ip, "netns", "delete", name)
        ends = [f"vr{n}-{os.getpid()}" for n in (1, 2)]
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
def running(machine, *command):
    """Run a Python program on a machine; yield its process."""
    with subprocess.Popen(
        ["ip", "netns", "exec", machine, sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


LOOP = """
import sys
from remote_exec import simple_rexec_server_loop
options = {"allow_remote": True} if "allow" in sys.argv else {}
simple_rexec_server_loop("main", object(), sys.argv[1], 3250, **options,
                         ready_cb=lambda server: print("ready", flush=True))
"""

OWN_SERVER = """
import asyncio, functools, ssl, sys
from pc_rpc import Server, serve
from remote_exec import RemoteExecServer
context = None
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    context.load_verify_locations(sys.argv[3])
    context.verify_mode = ssl.CERT_OPTIONAL
async def main():
    server = Server({"main_rexec": functools.partial(RemoteExecServer, {})}, builtin_terminate=True,
                    worker_threads=sys.argv[1] == "threads")
    await serve(server, "0.0.0.0", 3250, ssl=context,
                ready_cb=lambda server: print("ready", flush=True))
asyncio.run(main())
"""

CLIENT = """
import ssl, sys
from pc_rpc import Client
context = None
if len(sys.argv) > 2:
    context = ssl.create_default_context(cafile=sys.argv[2])
    context.check_hostname = False
    if len(sys.argv) > 3:
        context.load_cert_chain(sys.argv[3])
client = Client(sys.argv[1], 3250, None, timeout=60, ssl=context)
client.select_rpc_target(next(name for name in client.get_rpc_id()[0] if name != "main"))
for attempt in ("add_code", "call", "call_within", "keep_output", "read_output"):
    arguments = {"add_code": ["x = dict"], "call": ["x"], "call_within": [None, "x"],
                 "keep_output": [], "read_output": [-1]}[attempt]
    try:
        getattr(client, attempt)(*arguments)
        print(attempt, "done")
    except PermissionError as error:
        print(attempt, "refused", "its own machine only" in str(error))
"""

METHODS = ("add_code", "call", "call_within", "keep_output", "read_output")
REFUSED = [f"{method} refused True" for method in METHODS]
DONE = [f"{method} done" for method in METHODS]


def run_client(machine, *arguments):
    """Return the output of a client on a machine: one line for each method."""
    done = subprocess.run(
        ["ip", "netns", "exec", machine, sys.executable, "-c", CLIENT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def wait_until_ready(process, word="ready"):
    for line in process.stdout:
        if word in line:
            return
    pytest.fail("the controller has ended")


def test_the_address_star_is_refused_where_another_machine_could_reach_it(machines):
    with running(machines[0], "-c", LOOP, "*") as process:
        output, _ = process.communicate(timeout=100)
    assert "ValueError: refusing to execute code for everyone who can reach" in output
    assert "0.0.0.0" in output
    assert "ready\n" not in output


def test_with_allow_remote_another_machine_is_served(machines):
    with running(machines[0], "-c", LOOP, "*", "allow") as process:
        wait_until_ready(process)
        assert run_client(machines[1], SERVER_ADDRESS) == DONE


@pytest.mark.parametrize("how", ["loop", "threads"])
def test_a_custom_server_executes_code_for_its_own_machine_only(machines, how):
    with running(machines[0], "-c", OWN_SERVER, how) as process:
        wait_until_ready(process)
        assert run_client(machines[1], SERVER_ADDRESS) == REFUSED
        assert run_client(machines[0], SERVER_ADDRESS) == DONE
        assert run_client(machines[0], "127.0.0.1") == DONE


def test_the_command_executes_code_for_its_own_machine_only(machines):
    command = ["-m", "pc_rpc", "serve", "remote_exec:RemoteExecServer", "--bind", "0.0.0.0"]
    with running(machines[0], *command, "--port", "3250", "{}") as process:
        wait_until_ready(process, "serving")
        assert run_client(machines[1], SERVER_ADDRESS) == REFUSED
        assert run_client(machines[0], "127.0.0.1") == DONE


def test_with_optional_certificates_only_clients_that_present_one_run_code(machines, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    for name in ("server", "client"):
        authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(
            tmp_path / f"{name}.pem"
        )
    files = {name: tmp_path / f"{name}.pem" for name in ("server", "client", "authority")}
    with running(
        machines[0], "-c", OWN_SERVER, "loop", files["server"], files["authority"]
    ) as process:
        wait_until_ready(process)
        assert run_client(machines[1], SERVER_ADDRESS, files["authority"]) == REFUSED
        assert run_client(machines[1], SERVER_ADDRESS, files["authority"], files["client"]) == DONE
