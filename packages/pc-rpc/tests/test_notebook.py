"""A client in a notebook: in a real IPython kernel, as Jupyter runs it."""

import asyncio
import os
import tempfile
import threading

import pytest
import pytest_asyncio
from jupyter_client import AsyncKernelManager

pytestmark = pytest.mark.asyncio(loop_scope="module")
LONG = 60.0


class Stage:
    """A translation stage."""

    def __init__(self):
        self.at = 0.0
        self.homing, self.homed = threading.Event(), threading.Event()

    def move_to(self, position: float, *, speed: float = 1.0) -> float:
        """Move to a position, in millimetres."""
        if position < 0:
            raise ValueError("there is a wall")
        self.at = position
        return position

    def home(self) -> str:
        """Find the reference mark, which takes long."""
        self.homing.set()
        assert self.homed.wait(LONG)
        return "home"

    def position(self) -> float:
        """Return the position, in millimetres."""
        return self.at


class Kernel:
    """A kernel, with the actions of a notebook."""

    def __init__(self, manager, client):
        self._manager = manager
        self._client = client

    async def run(self, code):
        """Run a cell; return the text that the notebook shows below it: output, result or error."""
        shown = []

        def show(message):
            kind, content = message["header"]["msg_type"], message["content"]
            if kind == "stream":
                shown.append(content["text"])
            elif kind == "execute_result":
                shown.append(content["data"]["text/plain"])
            elif kind == "error":
                shown.append("\n".join(content["traceback"]))

        await self._client.execute_interactive(code, timeout=LONG, output_hook=show)
        return "".join(shown)

    async def run_interrupted(self, code, reached):
        """Run a cell and interrupt it when the event `reached` is set."""
        running = asyncio.create_task(self.run(code))
        assert await asyncio.to_thread(reached.wait, LONG)
        await self._manager.interrupt_kernel()
        return await running

    async def complete(self, code):
        reply = await self._client.complete(code, reply=True, timeout=LONG)
        return reply["content"]["matches"]

    async def inspect(self, code):
        """Return the text that Shift-Tab shows."""
        reply = await self._client.inspect(code, reply=True, timeout=LONG)
        return reply["content"]["data"]["text/plain"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kernel():
    manager = AsyncKernelManager(kernel_name="python3")
    with tempfile.TemporaryDirectory() as folder:
        if os.name == "posix":  # kernels that start together may choose the same TCP ports
            manager.transport, manager.ip = "ipc", os.path.join(folder, "kernel")
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        await client.wait_for_ready(timeout=LONG)
        yield Kernel(manager, client)
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


@pytest.fixture
def stage():
    return Stage()


@pytest_asyncio.fixture(loop_scope="module")
async def notebook(kernel, serve, stage):
    """A notebook in which `stage` is connected to a server at `port`."""
    port = serve({"stage": stage}, worker_threads=True).port
    shown = await kernel.run(
        f"import pc_rpc\nport = {port}\nstage = pc_rpc.Client('127.0.0.1', port, timeout={LONG})"
    )
    assert shown == ""
    yield kernel
    await kernel.run("stage.close_rpc()")


async def test_a_client_and_its_methods_have_a_readable_repr(notebook):
    assert "pc_rpc.Client of 'stage' at 127.0.0.1" in await notebook.run("stage")
    signature = "move_to(position: float, *, speed: float = 1.0) -> float"
    assert signature in await notebook.run("stage.move_to")
    assert await notebook.run("stage.move_to(2.5)") == "2.5"


async def test_tab_completes_remote_methods_and_their_parameters(notebook):
    assert any(match.endswith("move_to") for match in await notebook.complete("stage.mo"))
    assert "speed=" in await notebook.complete("stage.move_to(1, sp")


async def test_shift_tab_shows_signature_and_documentation(notebook):
    shown = await notebook.inspect("stage.move_to")
    assert "speed" in shown
    assert "Move to a position, in millimetres." in shown


async def test_a_remote_error_is_shown_with_the_traceback_at_the_server(notebook):
    shown = await notebook.run("stage.move_to(-1.0)")
    assert "ValueError" in shown
    assert "there is a wall" in shown
    assert "Traceback at the server" in shown
    assert await notebook.run("stage.position()") == "0.0"


async def test_an_asyncio_client_is_awaited_in_a_cell(notebook):
    shown = await notebook.run(
        "async with pc_rpc.AsyncioClient() as client:\n"
        "    await client.connect_rpc('127.0.0.1', port, 'stage')\n"
        "    print(await client.move_to(4.0), await client.position())"
    )
    assert shown == "4.0 4.0\n"


async def test_after_an_interrupted_call_the_next_one_gets_its_own_answer(notebook, stage):
    shown = await notebook.run_interrupted("stage.home()", stage.homing)
    assert "KeyboardInterrupt" in shown
    stage.homed.set()
    assert await notebook.run("stage.position()") == "0.0"
