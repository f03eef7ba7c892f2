"""A controller that was ported from the established stack, with its established options."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from pc_rpc import Client
from pyon.tcp import client_context

CONTROLLER = Path(__file__).parents[1] / "examples" / "ported" / "controller.py"
LOCAL = ["--bind", "127.0.0.1", "--no-localhost-bind"]


class Controller:
    """The controller in a process of its own; its log has the address."""

    def __init__(self, *options):
        self._process = subprocess.Popen(
            [sys.executable, CONTROLLER, "-p", "0", "-v", *map(str, options)],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""
        while " port " not in self.log:
            line = self._process.stderr.readline()
            assert line, self.log
            self.log += line
        self.port = int(re.search(r" port (\d+)", self.log)[1])

    def use(self, **options):
        """Use the shutter, end the controller, and return what it logged."""
        with Client("127.0.0.1", self.port, "shutter", timeout=60, **options) as shutter:
            shutter.move(True)
            assert shutter.is_open() is True
            shutter.terminate()
        _, rest = self._process.communicate(timeout=60)
        assert self._process.returncode == 0
        return self.log + rest

    def kill(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def start():
    controllers = []

    def start(*options):
        controllers.append(Controller(*options))
        return controllers[-1]

    yield start
    for controller in controllers:
        controller.kill()


def test_a_controller_that_was_moved_here_serves_and_logs(start):
    assert "INFO:__main__:shutter opens" in start(*LOCAL).use()


@pytest.mark.parametrize(
    ("options", "addresses"),
    [
        (LOCAL, {"127.0.0.1"}),
        (["--bind", "*"], {"0.0.0.0"}),
    ],
)
def test_its_options_are_the_established_ones(start, options, addresses):
    log = start(*options).use()
    assert all(f"{address} port" in log for address in addresses)


def test_it_serves_with_tls(start, tmp_path):
    for name in ("server", "client"):
        certificate = trustme.CA().issue_cert(name)
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    server = [tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "client.pem"]
    client = client_context(
        tmp_path / "client.pem", tmp_path / "client.key", tmp_path / "server.pem"
    )
    start(*LOCAL, "--ssl", *server).use(ssl=client)
