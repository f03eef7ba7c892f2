"""The interactive prompt of the ``pc-rpc`` command: execution and completion of lines.

The one idea to keep in mind: `Prompt` takes lines and returns texts; `_cli_lines` reads the lines.
A lost connection is made again as soon as it is needed.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pc_rpc._cli_arguments import parse_arguments, split_call, split_words
from pc_rpc._errors import ConnectionLost, RpcError
from pc_rpc._methods import RemoteStreamMethod, known_names
from pc_rpc._remote_stream import RemoteStream

if TYPE_CHECKING:
    from pc_rpc._client import Client

COMMANDS = {
    ":targets": "list the targets of the server",
    ":use": "select another target: :use NAME",
    ":methods": "list the methods of the target",
    ":help": "show a method, or this: :help METHOD, METHOD?",
    ":quit": "leave (as Ctrl-D does)",
}
SYNONYMS = {":exit": ":quit", ":?": ":help"}

COMPLETION_TIMEOUT = 0.3
"""Seconds that Tab waits for a server: completion should seem immediate."""

USAGE = """\
METHOD ARGUMENT... NAME=ARGUMENT...     call a method
METHOD(ARGUMENT, ..., NAME=ARGUMENT)    the same, as Python writes it

Arguments are PYON values: 0.5, true, "text", [1, 2]. An open bracket or string
continues in the next line. Ctrl-C gives up a call.

"""


class Prompt:
    """Executes and completes the lines of a session.

    Parameters
    ----------
    connect : callable
        Makes a client for the name of a target (None: no target).
    client : Client
        The first client, with the first target.
    show : callable
        Returns the text of a result, an empty one if there is nothing to show.
    notify : callable, optional
        Called with a line of text about other events.
    timeout : float, optional
        Seconds that a call may take. None: no limit.
    say : callable, optional
        Called with the text of each item of a stream, when it arrives.
    """

    def __init__(
        self,
        connect: Callable[[str | None], Client[Any]],
        client: Client[Any],
        show: Callable[[Any], str],
        notify: Callable[[str], object] = bool,
        timeout: float | None = None,
        say: Callable[[str], object] = bool,
    ) -> None:
        self._say = say
        self._connect = connect
        self.client = client
        self._show = show
        self._notify = notify
        self._timeout = timeout
        self._news: str | None = None  # to be shown when the line is complete

    @property
    def text(self) -> str:
        """The prompt in front of the line."""
        return f"{self.client.get_selected_target() or 'no target'}> "

    def run(self, line: str) -> str | None:
        """Execute a line; return the text to show, None to end. Raises the error of the call."""
        if self._news is not None:
            self._notify(self._news)
            self._news = None
        words = split_call(line)
        if not words:
            return ""
        command = ":" + words[0].removeprefix(":")
        command = SYNONYMS.get(command, command)
        if words[0].startswith(":") or (command in COMMANDS and words[0] not in self._methods()):
            return self._command(command, words[1:])
        if words[0].endswith("?"):
            return self._command(":help", [words[0][:-1]])
        args, kwargs = parse_arguments(words[1:])
        result = self._call(words[0], args, kwargs)
        return self._show_items(result) if type(result) is RemoteStream else self._show(result)

    def _show_items(self, stream: RemoteStream) -> str:
        """Show the items of a stream as they arrive."""
        with stream:
            for item in stream:
                if text := self._show(item):
                    self._say(text)
        return ""

    # Methods. They connect again if needed.

    def _methods(self) -> list[str]:
        return sorted(known_names(self.client.__rpc__) or ())

    def _method(self, name: str) -> Any:
        """Return a method. If its name is not known, ask again: the controller may be a new one."""
        if self.client.get_selected_target() is None:
            names = ", ".join(sorted(self.client.get_rpc_id()[0]))
            raise ValueError(f"no target is selected: `:use NAME` selects one of {names}")
        if name not in self._methods():
            self.refresh()
        return getattr(self.client.with_rpc_timeout(self._timeout), name)

    def _call(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        method = self._method(name)
        if type(method) is RemoteStreamMethod:  # it would notice a lost connection too late
            self.refresh()
            method = self._method(name)
        try:
            return method(*args, **kwargs)
        except ConnectionLost as lost:
            self._notify(self._connect_again())
            if lost.sent:
                raise ConnectionLost(
                    f"{lost}; it may have been executed, so it was not repeated",
                    sent=True,
                ) from lost
        return self._method(name)(*args, **kwargs)

    def refresh(self) -> None:
        """Connect again if the connection is lost, so that the methods are up to date."""
        try:
            if self.client.get_selected_target() is not None:
                self.client.ping_rpc()
        except ConnectionLost:
            self._notify(self._connect_again())

    def _connect_again(self) -> str:
        """Replace the client, whose connection is lost; return a text about that."""
        client = self._connect(self.client.get_selected_target())
        self.client.close_rpc()
        self.client = client
        return "the connection was lost; connected again"

    # Commands.

    def _command(self, command: str, words: list[str]) -> str | None:
        if command == ":quit":
            return None
        if command == ":targets":
            self.refresh()
            return "\n".join(self.client.get_rpc_id()[0])
        if command == ":methods":
            self.refresh()
            return "\n".join(self._method_line(name) for name in self._methods())
        if command == ":help" and words:
            method = self._method(words[0])
            return f"{self._method_line(words[0])}\n{inspect.getdoc(method) or ''}".rstrip()
        if command == ":use" and words:
            client = self._connect(words[0])
            self.client.close_rpc()
            self.client = client
            return ""
        if command == ":use":
            raise ValueError("expected :use NAME; `:targets` lists the names")
        if command not in COMMANDS:
            raise ValueError(f"no command {command!r}; `:help` lists them")
        return USAGE + "\n".join(f"{name:10} {what}" for name, what in COMMANDS.items())

    def _method_line(self, name: str) -> str:
        method = getattr(self.client.__rpc__, name)
        return f"{name}{method.__signature__ or '(...)'}"

    # Completion.

    def completions(self, before: str) -> Iterator[str]:
        """Return the possible words at the end of the line."""
        words = split_words(before)
        begun = "" if not words or before[-1:].isspace() else words.pop()
        self._refresh_quickly()
        yield from (word for word in self._candidates(words) if word.startswith(begun))

    def _refresh_quickly(self) -> None:
        """Connect again if the connection is lost; do not wait for a busy server."""
        lost = threading.Event()

        def ping(client: Client[Any]) -> None:
            try:
                client.ping_rpc()
            except ConnectionLost:
                lost.set()
            except (OSError, RpcError):
                pass  # not known: keep the connection

        if self.client.get_selected_target() is not None:
            thread = threading.Thread(target=ping, args=(self.client,), daemon=True)
            thread.start()
            thread.join(COMPLETION_TIMEOUT)
        if lost.is_set():
            with contextlib.suppress(OSError, RpcError):  # no server: keep the known methods
                self._news = self._connect_again()

    def _candidates(self, words: list[str]) -> Iterable[str]:
        methods = self._methods()
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
