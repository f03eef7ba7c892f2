"""The demo with --stay: the controller keeps running, and the printed commands work."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

EXPERIMENT = Path(__file__).parents[2] / "packages/remote-exec/examples/machine/experiment.py"
COMMAND = re.compile(r"^    (\S*(?:pc-rpc|sync-struct) .*)$")


def run(command):
    done = subprocess.run(
        shlex.split(command), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_stays_and_its_commands_work_as_printed():
    with subprocess.Popen(
        [sys.executable, EXPERIMENT, "--stay"], stdout=subprocess.PIPE, text=True
    ) as demo:
        try:
            lines = []
            while not lines or "The last command ends" not in lines[-1]:
                lines.append(demo.stdout.readline())
                assert lines[-1], "the demo has ended"
            commands = [found[1] for found in map(COMMAND.match, lines) if found]
            targets, call, interactive, watch, terminate = commands
            assert "machine_rexec" in run(targets)
            assert len(run(call).split(",")) == 3
            assert run(f"{interactive} --help").startswith("usage: pc-rpc interactive")
            assert run(f"{watch} --help").startswith("usage: sync-struct watch")
            run(terminate)
            assert demo.wait(100) == 0
        finally:
            demo.kill()
    assert max(map(len, lines[: lines.index(next(x for x in lines if "your turn" in x))])) <= 81
