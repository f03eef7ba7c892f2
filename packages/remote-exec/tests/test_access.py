"""Access control, the log, and `connect_global_rpc`."""

import logging
import re
import socket
import ssl
import threading

import pytest
import trustme
from pc_rpc import Client, GenericRemoteException, Server
from pyon.tcp import client_context, server_context
from remote_exec import RemoteExec, connect_global_rpc, simple_rexec_server_loop
from remote_exec._access import is_loopback, is_same_machine, require_guard


def would_serve(host, **options):
    """Return True if the loop serves at an address; it is stopped at once."""

    def ready(server):
        server.terminate()

    simple_rexec_server_loop("main", object(), host, 0, ready_cb=ready, **options)
    return True


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        pytest.param("::1", marks=ipv6),
        pytest.param(["127.0.0.1", "::1"], marks=ipv6),
    ],
)
def test_loopback_is_served(host):
    assert would_serve(host)


BEYOND = [
    None,
    "",
    "*",
    "0.0.0.0",
    "::",
    ["127.0.0.1", "0.0.0.0"],
    ["127.0.0.1", "*"],
    ["127.0.0.1", "::"],
]


@pytest.mark.parametrize("host", BEYOND)
def test_beyond_loopback_is_refused_and_the_error_names_the_options(host):
    refused = "refusing to execute code for everyone who can reach"
    with pytest.raises(ValueError, match=refused) as caught:
        would_serve(host)
    for option in ("127.0.0.1", "ssl=", "allow_remote=True"):
        assert option in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "*", None])
def test_beyond_loopback_is_served_with_allow_remote(host):
    assert would_serve(host, allow_remote=True)


class NameServer:
    """Answers each look-up of a name with the next of some answers, then always with the last."""

    def __init__(self, monkeypatch, name, *answers):
        self._name, self._answers = name, list(answers)
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)

    def look_up(self, host, port, *args, **kwargs):
        if host != self._name:
            return self._real(host, port, *args, **kwargs)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (address, port)) for address in answer]


def test_a_host_name_that_resolves_to_all_interfaces_is_refused(monkeypatch):
    NameServer(monkeypatch, "camera.lab", ["127.0.0.1", "0.0.0.0"])
    with pytest.raises(ValueError, match=r"can reach 0\.0\.0\.0"):
        would_serve("camera.lab")


@ipv6
def test_a_host_name_whose_second_look_up_leaves_loopback_is_refused(monkeypatch):
    # Two addresses and one port: the server binds twice, with a look-up each.
    NameServer(monkeypatch, "camera.lab", ["127.0.0.1"], ["0.0.0.0"])
    with pytest.raises(ValueError, match=r"can reach 0\.0\.0\.0"):
        would_serve(["::1", "camera.lab"])


def test_a_host_name_whose_first_look_up_fails_is_not_served(monkeypatch):
    NameServer(monkeypatch, "camera.lab", socket.gaierror(-3, "try again"), ["0.0.0.0"])
    with pytest.raises(socket.gaierror):
        would_serve("camera.lab")


def test_the_bound_address_decides_and_not_a_later_look_up(monkeypatch):
    NameServer(monkeypatch, "camera.lab", ["127.0.0.1"], ["0.0.0.0"])
    assert would_serve("camera.lab")


def test_no_connection_is_accepted_before_the_check(monkeypatch):
    attempts = []

    def attack(addresses, context):
        with pytest.raises(ConnectionRefusedError) as caught:
            socket.create_connection(("127.0.0.1", addresses[0][1]), timeout=30)
        attempts.append(caught.value)
        raise ValueError("refused")

    monkeypatch.setattr("remote_exec._loop.require_guard", attack)
    with pytest.raises(ValueError, match="refused"):
        would_serve("0.0.0.0")
    assert attempts


@pytest.mark.parametrize("outside", range(3))
def test_each_bound_address_is_checked(outside):
    # Called directly: asyncio binds a list of addresses in no particular order.
    addresses = [("127.0.0.1", 3250), ("::1", 3250), ("127.0.0.2", 3250)]
    require_guard(addresses, None)
    addresses[outside] = ("10.0.0.7", 3250)
    with pytest.raises(ValueError, match=r"can reach 10\.0\.0\.7"):
        require_guard(addresses, None)


@pytest.mark.parametrize("error", [OSError("no"), UnicodeError("no"), RuntimeError("no")])
def test_a_check_that_fails_refuses(monkeypatch, error):
    def fail(host):
        raise error

    monkeypatch.setattr("remote_exec._access.is_loopback", fail)
    with pytest.raises(type(error)):
        would_serve("127.0.0.1")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("::ffff:0.0.0.0", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fe80::1", False),
        ("::2", False),
        ("", False),
        ("*", False),
        ("localhost", False),  # never the address of a socket
        ("/run/socket", False),
    ],
)
def test_which_addresses_can_be_reached_from_this_computer_only(host, loopback):
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("peername", "sockname", "same"),
    [
        (("127.0.0.1", 5), ("127.0.0.1", 3250), True),
        (("::1", 5, 0, 0), ("::1", 3250, 0, 0), True),
        (("::ffff:127.0.0.1", 5, 0, 0), ("::ffff:127.0.0.1", 3250, 0, 0), True),
        (("10.0.0.7", 5), ("10.0.0.7", 3250), True),  # this machine, by its other address
        (("10.0.0.8", 5), ("10.0.0.7", 3250), False),
        (("fe80::1%eth0", 5, 0, 2), ("fe80::2%eth0", 3250, 0, 2), False),
        (None, ("127.0.0.1", 3250), False),
        (None, None, False),
        ("", "", False),  # the names of a Unix socket
    ],
)
def test_which_connections_come_from_this_machine(peername, sockname, same):
    assert is_same_machine(peername, sockname) is same


@pytest.mark.parametrize("mode", [ssl.CERT_NONE, ssl.CERT_OPTIONAL])
def test_tls_without_required_certificates_is_refused(mode):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = mode
    with pytest.raises(ValueError, match=f"refusing.*authenticates nobody.*{mode.name}"):
        would_serve("0.0.0.0", ssl=context)
    assert would_serve("0.0.0.0", ssl=context, allow_remote=True)


def test_with_tls_that_demands_certificates_every_address_is_served():
    certified = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certified.verify_mode = ssl.CERT_REQUIRED
    assert would_serve("0.0.0.0", ssl=certified)


def test_an_invalid_deadline_is_refused_before_anything_is_bound():
    with pytest.raises(ValueError, match="positive number of seconds or None, not -1"):
        would_serve("127.0.0.1", deadline=-1)
    with pytest.raises(ValueError, match="positive number of seconds or None, not '5'"):
        would_serve("127.0.0.1", deadline="5")


async def test_the_loop_is_refused_in_a_thread_with_a_running_event_loop():
    with pytest.raises(RuntimeError, match="call it in a thread of its own"):
        would_serve("127.0.0.1")


def test_tls_arguments_of_the_established_stack_are_refused_with_the_replacement():
    with pytest.raises(TypeError, match=r"ssl=pyon\.tcp\.server_context\("):
        would_serve("0.0.0.0", ssl_config=object())
    with pytest.raises(TypeError, match=r"SSLContext"):
        would_serve("0.0.0.0", ssl=object())


def write_pair(folder, name):
    """Write a certificate and its key, and return their paths."""
    certificate = trustme.CA().issue_cert(name)
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.cert_chain_pems[0].write_to_path(paths[0])
    certificate.private_key_pem.write_to_path(paths[1])
    return paths


def test_with_tls_only_the_holder_of_the_right_key_runs_code(start_controller, tmp_path):
    server, client, other = (write_pair(tmp_path, n) for n in ("server", "client", "other"))
    trusted = client_context(*client, server[0])
    controller = start_controller(ssl=server_context(*server, client[0]), client_ssl=trusted)
    rexec = controller.rexec()
    rexec.add_code("def f():\n    return controller_driver.identify()\n")
    assert rexec.call("f") == "driver of the test"
    for context in (client_context(*other, server[0]), None):
        with pytest.raises(OSError):  # which subclass depends on how TLS ends
            controller.connect(ssl=context, timeout=30)


def test_a_host_that_does_not_exist_is_an_error_of_binding():
    with pytest.raises(OSError):  # the message depends on the platform
        would_serve("no-such-host.invalid")


# The log


def test_each_connection_and_each_piece_of_code_is_logged(controller, caplog):
    caplog.set_level(logging.INFO, "remote_exec")
    client = controller.connect()
    client.add_code("x = 1  # µ\n")
    client.close_rpc()
    messages = [r.message for r in caplog.records if r.name == "remote_exec"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+ \(remote_code_\d+\): connected", messages[0])
    assert messages[1].endswith(": code of 11 characters, sha256 3b0ab7126d316364")


# connect_global_rpc


@pytest.fixture
def dataset_db():
    """Return the port of an RPC server at the experiment, and the datasets that it received."""
    import asyncio
    from concurrent.futures import Future

    class Datasets(dict):
        def set(self, key, value):
            self[key] = value

        def get(self, key):
            return self.setdefault(key, None)

    datasets = Datasets()
    ready = Future()

    async def serve():
        # HOSTILE_TARGET has all kinds of characters that a target name may have.
        server = Server(
            {"master_dataset_db": datasets, HOSTILE_TARGET: datasets}, builtin_terminate=True
        )
        async with server:
            await server.start("127.0.0.1", 0)
            ready.set_result(server.port)
            await server.wait_terminate()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    port = ready.result(30)
    yield port, datasets
    with Client("127.0.0.1", port, "master_dataset_db") as client:
        client.terminate()
    thread.join(30)


HOSTILE = "\"');__import__('os').abort()#\\{name}%s\n\u2028"
HOSTILE_TARGET = "\"');__import__('os').abort()#\\{name}%s"

USE = "def use(key, value):\n    dataset_db.set(key, value)\n    return dataset_db.get(key)\n"


def test_the_global_client_reaches_this_connection_and_later_ones(controller, dataset_db):
    port, datasets = dataset_db
    client = controller.connect()
    connect_global_rpc(client, port=port)  # the default host is the local address of the connection
    for connection in (client, controller.connect()):
        connection.add_code(USE)
        assert connection.call("use", "rabi.frequency", 3.5) == 3.5
    assert datasets == {"rabi.frequency": 3.5}


def test_a_second_global_client_of_the_same_name_is_not_created(controller, dataset_db):
    port, _ = dataset_db
    client = controller.connect()
    connect_global_rpc(client, port=port)
    connect_global_rpc(client, "no-such-host.invalid", 1, "nothing", "dataset_db")
    client.add_code(USE)
    assert client.call("use", "x", 1) == 1


def test_the_driver_cannot_be_replaced(controller, dataset_db):
    client = controller.connect()
    connect_global_rpc(client, port=dataset_db[0], name="controller_driver")
    later = controller.connect()
    later.add_code("def who():\n    return controller_driver.identify()\n")
    assert later.call("who") == "driver of the test"


def test_a_global_client_can_be_created_through_remote_exec(controller, dataset_db):
    rexec = RemoteExec(controller.connect())
    connect_global_rpc(rexec, port=dataset_db[0])
    rexec.add_code(USE)
    assert rexec.call("use", "y", [1]) == [1]


def test_a_hostile_target_name_is_passed_as_a_value(controller, dataset_db):
    port, datasets = dataset_db
    client = controller.connect()
    connect_global_rpc(client, port=port, target=HOSTILE_TARGET)
    client.add_code(USE)
    client.call("use", HOSTILE, HOSTILE)
    assert datasets == {HOSTILE: HOSTILE}


@pytest.mark.parametrize("name", [HOSTILE, "a b", "", "3x", "def", "None", "__builtins__", "a.b"])
def test_a_name_that_is_not_an_identifier_is_refused(controller, name):
    client = controller.connect()
    with pytest.raises(ValueError, match="expected an identifier"):
        connect_global_rpc(client, name=name)
    client.add_code("def names():\n    return sorted(controller_initial_namespace)\n")
    assert client.call("names") == ["controller_driver"]


def test_a_hostile_host_is_an_error_and_nothing_is_executed(controller):
    client = controller.connect()
    with pytest.raises((OSError, ValueError, GenericRemoteException)):
        connect_global_rpc(client, host=HOSTILE)
    assert controller.connect("main").identify() == "driver of the test"


def test_a_hostile_port_is_an_error_and_nothing_is_executed(controller):
    client = controller.connect()
    with pytest.raises((OSError, TypeError, GenericRemoteException)):
        connect_global_rpc(client, host="127.0.0.1", port=HOSTILE)
    assert controller.connect("main").identify() == "driver of the test"
