"""The interactive prompt of the ``pc-rpc`` command: completion, history, and what a line means.

The one idea to keep in mind: `Prompt` takes lines and returns texts; the terminal, with or without
prompt_toolkit, is only where lines come from.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pc_rpc._cli_arguments import parse_arguments, split_words

if TYPE_CHECKING:
    from pc_rpc._client import Client

COMMANDS = {
    ":targets": "list the targets of the server",
    ":use": "go to another target: :use NAME",
    ":methods": "list the methods of the target",
    ":help": "show a method, or this: :help METHOD",
    ":quit": "leave (as Ctrl-D does)",
}


class Prompt:
    """What happens to the lines that a person types.

    Parameters
    ----------
    connect : callable
        Makes a client for a target's name (None: none yet).
    client : Client
        The first client, for whatever target.
    show : callable
        Makes a text of what a method returned, an empty one if there is nothing to show.
    """

    def __init__(
        self,
        connect: Callable[[str | None], Client[Any]],
        client: Client[Any],
        show: Callable[[Any], str],
    ) -> None:
        self._connect = connect
        self.client = client
        self._show = show

    @property
    def text(self) -> str:
        """What stands in front of the line."""
        return f"{self.client.get_selected_target() or 'no target'}> "

    def run(self, line: str) -> str | None:
        """Do what a line says; return what is to be shown, None to end.

        Whatever the call raises is raised.
        """
        words = split_words(line)
        if not words:
            return ""
        command = ":" + words[0].removeprefix(":")
        if words[0] == command or (
            command in COMMANDS and words[0] not in dir(self.client.__rpc__)  # `help`, for one
        ):
            return self._command(command, words[1:])
        method = getattr(self.client.__rpc__, words[0])
        args, kwargs = parse_arguments(words[1:])
        return self._show(method(*args, **kwargs))

    def _command(self, command: str, words: list[str]) -> str | None:
        if command == ":quit":
            return None
        if command == ":targets":
            return "\n".join(self.client.get_rpc_id()[0])
        if command == ":methods":
            return "\n".join(self._method_line(name) for name in dir(self.client.__rpc__))
        if command == ":help" and words:
            method = getattr(self.client.__rpc__, words[0])
            return f"{self._method_line(words[0])}\n{inspect.getdoc(method) or ''}".rstrip()
        if command == ":use" and words:
            client = self._connect(words[0])
            self.client.close_rpc()
            self.client = client
            return ""
        lines = [f"{name:10} {what}" for name, what in COMMANDS.items()]
        return "\n".join(["METHOD ARGUMENT... NAME=ARGUMENT...   call a method", *lines])

    def _method_line(self, name: str) -> str:
        method = getattr(self.client.__rpc__, name)
        return f"{name}{method.__signature__ or '(...)'}"

    def completions(self, before: str) -> Iterator[str]:
        """Return the words that may stand where the line ends."""
        words = split_words(before)
        begun = "" if not words or before[-1:].isspace() else words.pop()
        yield from (word for word in self._candidates(words) if word.startswith(begun))

    def _candidates(self, words: list[str]) -> Iterable[str]:
        methods = dir(self.client.__rpc__)
        if not words:
            return [*methods, *COMMANDS]
        if words[0] == ":use":
            return self.client.get_rpc_id()[0]
        if words[0] == ":help":
            return methods
        if words[0] in methods:
            signature = getattr(self.client.__rpc__, words[0]).__signature__
            given = {word.partition("=")[0] for word in words[1:]}
            names = [] if signature is None else list(signature.parameters)
            return [f"{name}=" for name in names if name not in given]
        return []


def line_reader(prompt: Prompt) -> Callable[[], str]:
    """Return a function that reads a line from the terminal; it raises EOFError at the end.

    With prompt_toolkit: history and completion. Without it: plain input. Where the history cannot
    be kept, it lasts as long as the session.
    """
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import Completer, Completion
        from prompt_toolkit.history import FileHistory
    except ImportError:
        return lambda: input(prompt.text)

    class WordCompleter(Completer):
        def get_completions(self, document: Any, complete_event: Any) -> Iterator[Completion]:
            before = document.text_before_cursor
            begun = "" if before[-1:].isspace() else (split_words(before) or [""])[-1]
            for word in prompt.completions(before):
                text = word if word.endswith("=") else f"{word} "  # ready for the next one
                yield Completion(text, -len(begun), display=word)

    file = history_file()
    session: PromptSession[str] = PromptSession(
        history=None if file is None else FileHistory(str(file)),
        completer=WordCompleter(),
        complete_while_typing=False,  # what is typed fast, or pasted, is taken as it is
    )
    return lambda: session.prompt(prompt.text)


def history_file() -> Path | None:
    """Return the file of what was typed before, None if there can be none."""
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        file = Path(base) / "pc-rpc" / "history"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a+b").close()  # it can be read and written
    except (OSError, RuntimeError):  # the latter if there is no home
        return None
    return file
