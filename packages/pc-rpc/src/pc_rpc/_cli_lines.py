"""Where the lines of the interactive prompt come from: a terminal, or a pipe.

The one idea to keep in mind: a line with an open bracket or string continues in the next line; the
prompt gets all of it as one. With prompt_toolkit, and with Python's `readline`, a terminal has
completion and a history in a file; without both, it has neither.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyon.terminal import emit

from pc_rpc._cli_arguments import is_open, split_words

if TYPE_CHECKING:
    from pc_rpc._cli_prompt import Prompt

CONTINUED = "... "
"""The prompt in front of a continued line."""


def pipe_reader() -> str:
    """Read a line from a pipe or a file; raise EOFError at the end."""
    return _whole(lambda _: input(), "")


def _whole(read: Callable[[str], str], text: str) -> str:
    """Read a line, and further ones while a bracket or string is open; `text` is the prompt."""
    line = read(text)
    while is_open(line):
        try:
            line += "\n" + read(CONTINUED)
        except EOFError:  # the error of the incomplete line says what is missing
            break
    return line


def terminal_reader(prompt: Prompt) -> Callable[[], str]:
    """Return a function that reads a line from the terminal; it raises EOFError at the end.

    If the history cannot be written to a file, it lasts as long as the session.
    """
    with contextlib.suppress(ImportError):
        return _toolkit_reader(prompt)
    with contextlib.suppress(ImportError):
        _use_readline(prompt)
    return lambda: _whole(_typed, prompt.text)


def _typed(text: str) -> str:
    """Read a line with `input`; begin a new line after Ctrl-D or Ctrl-C."""
    try:
        return input(text)
    except (EOFError, KeyboardInterrupt):
        emit("\n")
        raise


def missing_toolkit() -> str | None:
    """Return how to get a better prompt, None if prompt_toolkit is installed."""
    if importlib.util.find_spec("prompt_toolkit") is not None:
        return None
    if importlib.util.find_spec("pip") is not None:
        how = f"{sys.executable} -m pip install prompt-toolkit"
    else:
        how = f"install the package prompt-toolkit into {sys.prefix}"
    return f"This is a plain prompt. For a better one:\n    {how}"


def _toolkit_reader(prompt: Prompt) -> Callable[[], str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.application import get_app
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.history import FileHistory

    class WordCompleter(Completer):
        def get_completions(self, document: Any, complete_event: Any) -> Iterator[Completion]:
            before = document.text_before_cursor
            begun = "" if before[-1:].isspace() else (split_words(before) or [""])[-1]
            for word in prompt.completions(before):
                yield Completion(_ready(word), -len(begun), display=word)

    file = history_file("history")
    session: PromptSession[str] = PromptSession(
        history=None if file is None else FileHistory(str(file)),
        completer=WordCompleter(),
        complete_while_typing=False,  # text that is typed fast, or pasted, stays as it is
        multiline=Condition(lambda: is_open(get_app().current_buffer.text)),
        prompt_continuation=CONTINUED,
    )
    return lambda: session.prompt(prompt.text)


def _ready(word: str) -> str:
    """Return a completed word, ready for the next one."""
    return word if word.endswith("=") else f"{word} "


def _use_readline(prompt: Prompt) -> None:
    """Give `input` completion and a history."""
    import readline

    found: list[str] = []

    def complete(begun: str, state: int) -> str | None:
        if state == 0:
            found[:] = map(_ready, prompt.completions(readline.get_line_buffer()))
        return found[state] if state < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n")
    editline = "libedit" in (readline.__doc__ or "")  # macOS
    readline.parse_and_bind("bind ^I rl_complete" if editline else "tab: complete")
    file = history_file("history-readline")
    if file is not None:
        import atexit

        with contextlib.suppress(OSError):  # there is none yet, or it has another format
            readline.read_history_file(file)
        atexit.register(_keep_history, file)


def _keep_history(file: Path) -> None:
    import readline

    with contextlib.suppress(OSError):
        readline.write_history_file(file)


def history_file(name: str) -> Path | None:
    """Return the file for the history, None if it cannot be made."""
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        file = Path(base) / "pc-rpc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a+b").close()  # raises if it cannot be read and written
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return None
    return file
