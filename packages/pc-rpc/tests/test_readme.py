"""The facts of the README; its examples are doctests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pc_rpc._cli_errors import STATUSES

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_table_of_exit_statuses_is_that_of_the_command():
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", README, re.MULTILINE)
    assert {int(status): meaning for status, meaning in rows} == STATUSES


@pytest.fixture
def certificates(tmp_path):
    """The folder with the files that the README's openssl lines make."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    lines = re.findall(r"^    openssl .*$", README, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        subprocess.run(line.split(), cwd=tmp_path, capture_output=True, check=True, timeout=60)
    return tmp_path


def test_the_certificates_of_the_readme_serve_both_ends(certificates):
    (certificates / "laser_module.py").write_text(
        "class Laser:\n    def idn(self):\n        return 'a laser'\n"
    )
    python = [sys.executable, "-m", "pc_rpc"]
    server = subprocess.Popen(
        [*python, "serve", "laser_module:Laser", "--bind", "127.0.0.1", "--cert", "laser.pem",
         "--key", "laser.key", "--peer-cert", "lab.pem"],
        cwd=certificates, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        port = server.stderr.readline().split()[-1]
        command = [*python, "call", "127.0.0.1", port, "idn"]
        tls = ["--cert", "lab.pem", "--key", "lab.key", "--peer-cert", "laser.pem"]
        done = subprocess.run(
            [*command, *tls], cwd=certificates, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (0, '"a laser"\n'), done.stderr
        without = subprocess.run(
            command, cwd=certificates, capture_output=True, text=True, timeout=60
        )
        assert without.returncode == 3
    finally:
        server.kill()
        server.communicate()
