"""Where the lines of the interactive prompt come from: a terminal, or a pipe.

The one idea to keep in mind: what is read is one line to the prompt, however many it took to type:
as long as a bracket or a string is open, it goes on. With prompt_toolkit a terminal has completion
and a history that is kept; with the `readline` of Python too, a little plainer; else neither.
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
"""Stands in front of a line that goes on."""


def pipe_reader() -> str:
    """Read a line from a pipe or a file; raise EOFError at the end."""
    return _whole(lambda _: input(), "")


def _whole(read: Callable[[str], str], text: str) -> str:
    """Read a line, and further ones while something is open; `text` stands in front of it."""
    line = read(text)
    while is_open(line):
        try:
            line += "\n" + read(CONTINUED)
        except EOFError:  # what there is shows what is missing
            break
    return line


def terminal_reader(prompt: Prompt) -> Callable[[], str]:
    """Return a function that reads a line from the terminal; it raises EOFError at the end.

    Where the history cannot be kept, it lasts as long as the session.
    """
    with contextlib.suppress(ImportError):
        return _toolkit_reader(prompt)
    with contextlib.suppress(ImportError):
        _use_readline(prompt)
    return lambda: _whole(_typed, prompt.text)


def _typed(text: str) -> str:
    """Read a line with `input`; leave the cursor on a new line, also after Ctrl-D or Ctrl-C."""
    try:
        return input(text)
    except (EOFError, KeyboardInterrupt):
        emit("\n")
        raise


def missing_toolkit() -> str | None:
    """Return what to do for a better prompt, None if there is nothing to do."""
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
        complete_while_typing=False,  # what is typed fast, or pasted, is taken as it is
        multiline=Condition(lambda: is_open(get_app().current_buffer.text)),
        prompt_continuation=CONTINUED,
    )
    return lambda: session.prompt(prompt.text)


def _ready(word: str) -> str:
    """Return a completed word, ready for the next one."""
    return word if word.endswith("=") else f"{word} "


def _use_readline(prompt: Prompt) -> None:
    """Have `input` complete words, and keep what was typed."""
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

        with contextlib.suppress(OSError):  # another program's, or none yet
            readline.read_history_file(file)
        atexit.register(_keep_history, file)


def _keep_history(file: Path) -> None:
    import readline

    with contextlib.suppress(OSError):
        readline.write_history_file(file)


def history_file(name: str) -> Path | None:
    """Return a file for what is typed, None if there can be none."""
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        file = Path(base) / "pc-rpc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a+b").close()  # it can be read and written
    except (OSError, RuntimeError):  # the latter if there is no home
        return None
    return file
