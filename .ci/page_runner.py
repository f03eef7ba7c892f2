"""Runs the code blocks of a page of the documentation, in their order, as a reader would.

The language of a block determines how it is run:

* ``console``: lines that begin with ``$`` are commands, run in a terminal of 80 columns; the lines
  after a command are its expected output. ``^C`` interrupts the command before it.
* ``pycon``: a doctest. ``python`` without a caption: executed; on a page with the line
  ``% notebook``, as a cell, by a real kernel. All blocks of a page share one namespace.
* any language with a caption: a file of that name. A ``literalinclude`` with a caption: a copy of
  the included file.

A line above a block may modify this: ``% stays`` (the command runs until the end of the page; only
its expected output is awaited) or ``% not run: REASON``. Ports are replaced by free ones, and
``~/protocols`` is the repository. ``pip install`` runs if the page has made an environment;
otherwise the packages must be installed already.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.metadata
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import NamedTuple, Self

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 60.0
"""Seconds within which a command must print its expected output, or end."""

MOST_SHOWN = 2000
"""Characters of unexpected output that an error shows."""

FENCE = re.compile(
    r"^```+ *(?:\{code-block\} *)?([\w-]+|\{literalinclude\} *\S+) *\n(.*?)^```+ *$",
    re.MULTILINE | re.DOTALL,
)
OPTION = re.compile(r"^:(\w+): *(.*)\n", re.MULTILINE)
MARKER = re.compile(r"^% *(stays|not run): *(.*)\n+\Z|^% *(stays)\n+\Z", re.MULTILINE)
NOTEBOOK = re.compile(r"^% *notebook$", re.MULTILINE)
PORT = re.compile(r"\b32\d\d\b")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x07]*\x07|\x1b[=>]")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
NO_CODE = {"text", "eval-rst", "toctree", "image", "include"}


class Block(NamedTuple):
    """A code block of a page."""

    language: str
    text: str
    caption: str
    line: int
    stays: bool
    not_run: str


def blocks(text: str) -> list[Block]:
    """Return the code blocks of a page."""
    found = []
    for match in FENCE.finditer(text):
        language, body = match[1], match[2]
        options = {}
        while option := OPTION.match(body):
            options[option[1]] = option[2]
            body = body[option.end() :]
        if language.startswith("{literalinclude}"):
            if "caption" not in options:
                continue
            path = language.removeprefix("{literalinclude}").strip().replace("../", "")
            language, body = options["language"], (ROOT / path).read_text(encoding="utf-8")
        marker = MARKER.search(text[: match.start()])
        found.append(
            Block(
                language,
                body.lstrip("\n") if options else body,
                options.get("caption", ""),
                text.count("\n", 0, match.start()) + 1,
                bool(marker and "stays" in (marker[1], marker[3])),
                marker[2] if marker and marker[1] == "not run" else "",
            )
        )
    return found


class Page:
    """A page and the folder that it runs in. A context manager, which ends running commands.

    Parameters
    ----------
    text : str
        The page.
    folder : Path
        An empty folder.
    """

    def __init__(self, text: str, folder: Path) -> None:
        self._ports: dict[str, str] = {}
        self._blocks = [one for one in blocks(text) if one.language not in NO_CODE]
        self._home = folder / "home"
        self._here = folder / "here"
        self._state = folder / "state"
        self._namespace = {"__name__": "__main__"}
        self._running: list[Terminal] = []
        for one in (self._home, self._here):
            one.mkdir(parents=True)
        self._notebook = Notebook(self._here) if NOTEBOOK.search(text) else None
        (self._home / "protocols").symlink_to(ROOT)
        self._state.write_text(f"cd {shlex.quote(str(self._here))}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._notebook:
            self._notebook.end()
        for terminal in reversed(self._running):
            terminal.end(signal.SIGTERM)

    @property
    def _where(self) -> str:
        """The working directory of the reader's shell."""
        return shlex.split(self._state.read_text().splitlines()[-1])[1]

    def follow(self) -> int:
        """Run the blocks of the page; return their number."""
        run = [block for block in self._blocks if not block.not_run]
        for block in run:
            with contextlib.chdir(self._where), _first_on_path(self._where):
                try:
                    self._follow(block)
                except Exception as error:
                    error.add_note(f"in the block at line {block.line}")
                    raise
        return len(run)

    def _follow(self, block: Block) -> None:
        text = PORT.sub(self._free_port, block.text)
        if block.language == "console":
            for command, printed in dialogue(text):
                self._type(command, printed, block.stays)
        elif block.caption:
            Path(self._where, block.caption).write_text(text, encoding="utf-8")
        elif block.language == "pycon":
            self._examples(text, block.line)
        elif block.language == "python" and self._notebook:
            self._notebook.run_cell(text)
        elif block.language == "python":
            exec(compile(text, f"line {block.line}", "exec"), self._namespace)
        else:
            raise ValueError(f"no caption, and {block.language!r} cannot be run")

    def _free_port(self, match: re.Match[str]) -> str:
        if match[0] not in self._ports:
            with socket.create_server(("127.0.0.1", 0)) as sock:
                self._ports[match[0]] = str(sock.getsockname()[1])
        return self._ports[match[0]]

    def _examples(self, text: str, line: int) -> None:
        parser, messages = doctest.DocTestParser(), []
        test = parser.get_doctest(text, self._namespace, "page", "page", line)
        runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
        failed, _ = runner.run(test, out=messages.append, clear_globs=False)
        self._namespace = test.globs
        if failed:
            raise AssertionError("".join(messages))

    def _type(self, command: str, printed: str, stays: bool) -> None:
        if command == "^C":
            self._running.pop().end(signal.SIGINT)
            return
        if command.startswith("pip install") and ".venv" not in self._state.read_text():
            _check_installed(command)
            return
        terminal = Terminal(command, self._state, self._home, remember=not stays)
        if stays:
            self._running.append(terminal)
            terminal.wait_for(printed)
        else:
            status, output = terminal.finish()
            if status or not same(printed, output):
                raise AssertionError(f"{command}\nexpected:\n{printed}\ngot:\n{output}\n{status=}")


def same(wanted: str, got: str) -> bool:
    """Return whether the output of a command is the expected one; ``...`` matches anything."""
    return not wanted.strip() or doctest.OutputChecker().check_output(wanted, got, FLAGS)


def _in_order(wanted: str, got: str) -> bool:
    """Return whether the expected lines have been printed, with anything in between."""
    place = 0
    for part in re.split(r"\.\.\.|\n", wanted):
        if (found := got.find(part.strip(), place)) < 0:
            return False
        place = found + len(part.strip())
    return True


def dialogue(text: str) -> list[tuple[str, str]]:
    """Return the commands of a block, each with its expected output."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line == "^C":
            found.append((line, ""))
        elif line.startswith("$ "):
            found.append((line[2:], ""))
        elif found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (f"{found[-1][0][:-1]} {line.strip()}", "")
        else:
            command, printed = found[-1]
            found[-1] = (command, f"{printed}{line}\n")
    return found


def _check_installed(command: str) -> None:
    """Check that the packages of an install command are installed in this environment."""
    for requirement in shlex.split(command, comments=True)[2:]:
        if "/" not in requirement:
            importlib.metadata.distribution(re.split(r"[\[<>=]", requirement)[0])


@contextlib.contextmanager
def _first_on_path(folder: str):
    sys.path.insert(0, folder)
    before = set(sys.modules)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
                del sys.modules[name]


class Notebook:
    """A kernel that runs cells in a folder."""

    def __init__(self, folder: Path) -> None:
        from jupyter_client.manager import start_new_kernel

        self._manager, self._client = start_new_kernel(cwd=str(folder))

    def run_cell(self, text: str) -> None:
        """Run a cell; raise AssertionError if it fails."""
        reply = self._client.execute_interactive(text, timeout=TIMEOUT, output_hook=lambda _: None)
        if reply["content"]["status"] != "ok":
            raise AssertionError("\n".join(reply["content"]["traceback"]))

    def end(self) -> None:
        """End the kernel."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


class Terminal:
    """A command in a terminal of 80 columns; its directory and environment may be kept."""

    def __init__(self, command: str, state: Path, home: Path, *, remember: bool) -> None:
        quoted = shlex.quote(str(state))
        script = f". {quoted}\n{command}\n"
        if remember:
            script += (
                f'status=$?\n{{ export -p; echo "cd $(printf %q "$PWD")"; }} > {quoted}.new\n'
                f"mv {quoted}.new {quoted}\nexit $status\n"
            )
        own, its = pty.openpty()
        termios.tcsetwinsize(its, (24, 80))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
        }
        environment |= {"HOME": str(home), "PATH": path, "TERM": "xterm"}
        environment["QT_QPA_PLATFORM"] = "offscreen"
        self._command = command
        self._process = subprocess.Popen(
            ["bash", "-c", script],
            stdin=its,
            stdout=its,
            stderr=its,
            env=environment,
            start_new_session=True,
        )
        os.close(its)
        self._output = b""
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._drain, args=(own,))
        self._reader.start()

    def _drain(self, own: int) -> None:
        """Read the output continuously: a full terminal would block the program."""
        with os.fdopen(own, "rb", buffering=0) as terminal:
            while not self._ended:
                try:
                    data = terminal.read(2**16)
                except OSError:  # on Linux, when the other end is closed
                    data = b""
                with self._changed:
                    self._output += data or b""
                    self._ended = not data
                    self._changed.notify_all()

    @property
    def output(self) -> str:
        """The output so far, as plain text."""
        text = self._output.decode(errors="replace")
        return ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")

    def wait_for(self, printed: str) -> None:
        """Wait until the command has printed the expected output."""
        with self._changed:
            self._changed.wait_for(
                lambda: _in_order(printed, self.output) or self._ended, timeout=TIMEOUT
            )
        if not _in_order(printed, self.output):
            raise AssertionError(f"{self._command}\nhas printed:\n{self.output[-MOST_SHOWN:]}")

    def finish(self) -> tuple[int, str]:
        """Wait for the end of the command; return its exit status and output."""
        try:
            status = self._process.wait(2 * TIMEOUT)
        except subprocess.TimeoutExpired:
            self.end(signal.SIGKILL)
            raise TimeoutError(f"{self._command}\nhas printed only:\n{self.output}") from None
        self._reader.join(TIMEOUT)
        return status, self.output

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the command and its child processes; wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise
        finally:
            self._reader.join(TIMEOUT)
