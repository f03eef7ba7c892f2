"""The description of methods, at the server and through a client."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import pydoc
import threading
from typing import Optional

import pytest
from pc_rpc._exposure import find_methods, public_methods
from pc_rpc._method_list import method_list
from pc_rpc._signatures import signature


class Driver:
    """A dr\xeeve.

    Second line.
    """

    def nothing(self) -> None: ...
    def strings(self, a: "int", b: "list[str]") -> "Driver": ...  # noqa: UP037
    def unions(self, a: int | None, b: Optional[str] = None) -> list[int] | None: ...  # noqa: UP045
    def generics(self, a: list[dict[str, int]], *rest: int, **more: float) -> tuple[int, ...]: ...
    def keyword_only(self, *, a, b=1, c: bytes = b"x"): ...
    def odd_default(self, a=object, *, b=functools): ...
    def documented(self):
        """First line \u2603.

        Indented second.
        """

    def bare(self, x): ...

    c_function = staticmethod(dict.fromkeys)
    no_signature = staticmethod(print if False else min)
    callable_object = staticmethod(functools.partial(int, base=16))

    @classmethod
    def of_class(cls, a: int = 5): ...

    async def coroutine(self, a): ...


class Impossible:
    """Callable, and its signature cannot be read."""

    __signature__ = "not a signature"

    def __call__(self): ...


def described(target, version=2, expose=None):
    listed = method_list(
        target, find_methods(target, expose=expose), builtin_terminate=False, version=version
    )
    return listed["methods"], listed["docstring"]


@pytest.mark.parametrize("version", [1, 2])
def test_annotations_of_any_kind_are_texts(version):
    methods, doc = described(Driver(), version)
    assert doc == "A dr\xeeve.\n\nSecond line."
    notes = {name: entry[0]["annotations"] for name, entry in methods.items()}
    assert notes["nothing"] == {"return": "None"}
    assert notes["strings"] == {"return": "'Driver'", "a": "'int'", "b": "'list[str]'"} or notes[
        "strings"
    ] == {"return": "Driver", "a": "int", "b": "list[str]"}
    assert notes["generics"]["a"] == "list[dict[str, int]]"
    assert all(type(text) is str for note in notes.values() for text in note.values())


def test_defaults_that_cannot_be_encoded_are_shown_as_text():
    spec, doc = described(Driver())[0]["odd_default"]
    assert spec["defaults"] == (repr(object),)
    assert spec["kwonlydefaults"] == {"b": repr(functools)}
    assert doc is None


class Shy:
    def __repr__(self):
        raise RuntimeError("not to be shown")


SHY = Shy()


class Off:
    """A descriptor whose attribute cannot be read."""

    def __get__(self, instance, owner):
        if instance is None:
            return self
        raise OSError("the instrument is off")


class Searching:
    """A callable that computes its attributes, and fails."""

    def __call__(self): ...

    def __getattr__(self, name):
        raise KeyError(name)


class Odd:
    value = Off()

    def __init__(self):
        self.searching = Searching()

    def shown(self, a=1, b=SHY, *, c=SHY): ...

    shown.__annotations__["a"] = SHY


@pytest.mark.parametrize("version", [1, 2])
def test_a_default_whose_repr_fails_spoils_no_other_entry(version):
    methods, _ = described(Odd(), version, ["shown", "searching"])
    assert set(methods) == {"shown", "searching"}
    spec, _ = methods["shown"]
    assert spec["defaults"] == (1, "<Shy>")
    assert spec["kwonlydefaults"] == {"c": "<Shy>"}
    assert spec["annotations"] == {"a": "<Shy>"}


def test_a_target_with_odd_attributes_can_be_used(serve, connect):
    client = connect(serve({"main": Odd()}, expose={"main": ["searching"]}).port)
    assert client.searching() is None


def test_keyword_only_arguments_and_docstrings():
    methods, _ = described(Driver())
    spec = methods["keyword_only"][0]
    assert spec["kwonlyargs"] == ["a", "b", "c"]
    assert spec["kwonlydefaults"] == {"b": 1, "c": b"x"}
    assert methods["documented"][1] == "First line \u2603.\n\nIndented second."
    assert list(spec) == ["args", "varargs", "varkw", "defaults", "kwonlyargs", "kwonlydefaults",
                          "annotations"]  # fmt: skip


def test_what_has_no_signature_is_shown_to_take_anything():
    target = Driver()
    target.impossible = Impossible()
    for name in ("no_signature", "impossible"):
        spec = described(target, expose=["no_signature", "impossible"])[0][name][0]
        assert (spec["args"], spec["varargs"], spec["varkw"]) == (["self"], "args", "kwargs")


def test_an_older_servers_terminate_has_a_signature():
    spec = {"args": ["self"], "defaults": None, "varargs": None, "varkw": None,
            "kwonlyargs": [], "kwonlydefaults": []}  # fmt: skip
    assert str(signature(spec)) == "()"


@pytest.mark.parametrize("spec", [{}, {"args": ["not a name"]}, {"args": [5]}, {"args": "ab"},
                                  {"args": ["self", "x", "x"]}])  # fmt: skip
def test_a_malformed_entry_gives_no_signature_or_some(spec):
    assert signature(spec) is None or isinstance(signature(spec), inspect.Signature)


# Through a client.


@pytest.mark.parametrize("spec", [{"args": [""]}, {"args": 5}, {"kwonlyargs": ["a b"]}])
def test_an_impossible_entry_gives_no_signature(spec):
    assert signature(spec) is None


def test_signatures_and_documentation_of_remote_methods(serve, connect):
    client = connect(serve({"main": Driver()}, builtin_terminate=True).port)
    assert str(inspect.signature(client.bare)) == "(x)"
    assert str(inspect.signature(client.keyword_only)) == "(*, a, b=1, c: 'bytes' = b'x')" or (
        "a, b=1" in str(inspect.signature(client.keyword_only))
    )
    assert inspect.getdoc(client.documented) == "First line \u2603.\n\nIndented second."
    shown = pydoc.render_doc(client.documented, renderer=pydoc.plaintext)
    assert "documented()" in shown
    assert "First line \u2603." in shown
    assert repr(client.bare).startswith("<remote method bare(x) of 'main' at 127.0.0.1:")
    assert str(inspect.signature(client.terminate)) == "()"


def test_dir_and_repr_show_what_is_there(serve, connect):
    thread = serve({"main": Driver()})
    client = connect(thread.port)
    assert {"documented", "bare", "close_rpc", "with_rpc_timeout"} <= set(dir(client))
    assert dir(client.__rpc__) == sorted(public_methods(Driver()))
    assert repr(client) == f"<pc_rpc.Client of 'main' at 127.0.0.1:{thread.port}>"
    assert repr(client.__rpc__) == f"<remote methods of 'main' at 127.0.0.1:{thread.port}>"
    thread.stop()
    with pytest.raises(ConnectionError):
        client.bare(1)
    assert "connection lost" in repr(client)
    assert "bare(...)" in repr(client.bare)


async def test_an_asyncio_client_shows_signatures_once_the_list_was_fetched(serve, asyncio_client):
    async with asyncio_client(serve({"main": Driver()}).port) as client:
        assert {"documented", "close_rpc"} <= set(dir(client))
        assert "bare(...)" in repr(client.bare)
        await client.get_rpc_method_list()
        assert str(inspect.signature(client.bare)) == "(x)"


def test_a_misspelt_method_is_an_attribute_error_with_a_suggestion(serve, either_client):
    client = either_client(serve({"main": Driver()}).port)
    with pytest.raises(AttributeError, match="did you mean 'documented'") as caught:
        client.documentet
    assert caught.value.name == "documentet"


PROBES = ["__len__", "__iter__", "__array__", "_repr_html_", "_ipython_display_", "__wrapped__",
          "_ipython_canary_method_should_not_exist_", "__getstate_manages_dict__", "shape",
          "__float__", "_connection_", "__deepcopy__", "__isabstractmethod__"]  # fmt: skip


def test_probes_find_nothing(serve, connect):
    client = connect(serve({"main": Driver()}).port)
    for thing in (client, client.__rpc__, client.with_rpc_timeout(1)):
        for probe in PROBES:
            assert not hasattr(thing, probe)
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copying(client)


@pytest.mark.parametrize("name", ["Client", "AsyncioClient", "BestEffortClient"])
def test_an_object_that_was_never_initialised_does_not_recurse(name):
    import pc_rpc
    from pc_rpc._methods import RemoteMethods

    for cls in (getattr(pc_rpc, name), RemoteMethods):
        empty = cls.__new__(cls)
        with pytest.raises(AttributeError):
            empty.anything


class WithValues:
    """Has attributes that are no methods, and must not be read."""

    power = 0.1
    rate = property(lambda self: 1 / 0)

    def __init__(self):
        self.mode = "cw"
        self._lock = None

    def idn(self):
        return "a laser"


@pytest.mark.parametrize(
    ("name", "what"),
    [("rate", "it is a property of the driver, and only methods can be called"),
     ("power", "it is an attribute of the driver"), ("mode", "it is an attribute of the driver")],
)  # fmt: skip
def test_a_name_that_is_no_method_is_called_what_it_is(serve, connect, name, what):
    client = connect(serve({"laser": WithValues()}).port)
    with pytest.raises(AttributeError, match=what):
        getattr(client, name)
    with pytest.raises(AttributeError, match=what):
        getattr(client.__rpc__, name)
    gateway = connect(serve({"laser": client}).port)
    with pytest.raises(AttributeError, match=what):
        getattr(gateway, name)


def test_a_mistyped_name_waits_for_no_busy_server(serve, connect, monkeypatch):
    monkeypatch.setattr("pc_rpc._connection.DESCRIPTION_TIMEOUT", 0.1)
    started, released = threading.Event(), threading.Event()

    class Busy:
        def work(self):
            started.set()
            released.wait(30)

    port = serve({"busy": Busy()}).port
    other, client = connect(port), connect(port)
    caller = threading.Thread(target=other.work)
    caller.start()
    assert started.wait(30)
    with pytest.raises(AttributeError, match="did you mean 'work'"):
        client.wrok
    assert not released.is_set()
    released.set()
    caller.join(30)
