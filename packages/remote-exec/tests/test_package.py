"""Public names, and the modules that an import loads."""

import subprocess
import sys

import remote_exec


def test_public_names_are_exactly_these():
    assert remote_exec.__all__ == [
        "AsyncioRemoteExec",
        "Interrupted",
        "RemoteExec",
        "RemoteExecServer",
        "connect_global_rpc",
        "simple_rexec_server_loop",
    ]
    assert all(hasattr(remote_exec, name) for name in remote_exec.__all__)


def test_importing_the_package_loads_no_numpy():
    probe = "import sys, remote_exec; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
