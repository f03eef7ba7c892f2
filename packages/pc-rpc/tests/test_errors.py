"""Exceptions on their way from a method to its caller, without a network."""

from __future__ import annotations

import dataclasses
import traceback

import pytest
from pc_rpc import (
    ConnectionLost,
    GenericRemoteException,
    IncompatibleServer,
    ProtocolError,
    RpcError,
    register_exception,
)
from pc_rpc._errors import MAX_REBUILT, rebuild_exception
from pc_rpc._failures import MAX_CHAIN, describe, pack_exception
from pc_rpc._outcome import Outcome


def raised(error, cause=None):
    """Raise an exception and return it, with its traceback."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def travel(error, *, details=True):
    return rebuild_exception(pack_exception(raised(error), details=details))


@pytest.mark.parametrize(
    ("error", "parents"),
    [
        (RpcError, {Exception}),
        (ConnectionLost, {RpcError, ConnectionError}),
        (ProtocolError, {RpcError}),
        (IncompatibleServer, {RpcError}),
        (GenericRemoteException, {RpcError}),
    ],
)
def test_errors_derive_from_the_expected_builtins(error, parents):
    assert set(error.__bases__) == parents


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        ValueError("one"),
        ValueError("one", 2, 3.5, None, b"x", (1, ["y"])),
        KeyError("missing"),
        KeyError(3),
        OSError(5, "Input/output error"),
        FileNotFoundError(2, "No such file", "/nope"),
        OSError(18, "Cross-device link", "/a", None, "/b"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        UnicodeEncodeError("ascii", "\xe9", 0, 1, "ordinal not in range(128)"),
        StopIteration("value"),
        SyntaxError("bad", ("file", 1, 2, "text", 1, 3)),
        TimeoutError("slow"),
        UserWarning("careful"),
        ZeroDivisionError("division by zero"),
    ],
)
def test_a_built_in_exception_comes_back_as_its_class_with_its_arguments(error):
    rebuilt = travel(error)
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == str(error)
    assert rebuilt.args == error.args
    for attribute in ("errno", "strerror", "filename", "filename2", "reason", "value"):
        assert getattr(rebuilt, attribute, None) == getattr(error, attribute, None)


@pytest.mark.parametrize(
    "error", [ValueError("one"), KeyError("one"), FileNotFoundError(2, "No such", "/nope")]
)
def test_an_older_client_gets_class_and_message(error):
    assert set(pack_exception(raised(error))) == {"class", "message", "traceback"}
    rebuilt = travel(error, details=False)
    assert type(rebuilt) is type(error)
    assert str(rebuilt) == str(error)


@pytest.mark.parametrize("details", [False, True])
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt("x"), GeneratorExit("x"), BaseException("x")]
)
def test_a_base_exception_arrives_as_an_exception(error, details):
    rebuilt = travel(error, details=details)
    assert type(rebuilt) is GenericRemoteException
    assert str(rebuilt) == f"{type(error).__name__}: {error}"


def test_notes_and_causes_are_kept():
    cause = raised(KeyError("inner"), raised(ZeroDivisionError("innermost")))
    error = raised(ValueError("outer"), cause)
    error.add_note("look at the cable")
    rebuilt = rebuild_exception(pack_exception(error, details=True))
    assert rebuilt.__notes__[0] == "look at the cable"
    assert type(rebuilt.__cause__) is KeyError
    assert rebuilt.__cause__.args == ("inner",)
    assert type(rebuilt.__cause__.__cause__) is ZeroDivisionError


def test_the_context_is_kept_unless_it_was_suppressed():
    def fail(suppress):
        try:
            raise KeyError("inner")
        except KeyError:
            if suppress:
                raise ValueError("outer") from None
            raise ValueError("outer")  # noqa: B904

    for suppress, context in ((False, KeyError), (True, type(None))):
        with pytest.raises(ValueError, match="outer") as caught:
            fail(suppress)
        rebuilt = rebuild_exception(pack_exception(caught.value, details=True))
        assert type(rebuilt.__context__) is context


def test_a_chain_that_never_ends_is_cut():
    error = ValueError("0")
    for number in range(1, 3 * MAX_CHAIN):
        error = raised(ValueError(str(number)), error)
    pack, length = pack_exception(error, details=True), 1
    while "cause" in pack:
        pack, length = pack["cause"], length + 1
    assert length == MAX_CHAIN + 1


def test_an_exception_group_is_kept_between_our_own_ends():
    group = ExceptionGroup("two", [ValueError("a"), ExceptionGroup("more", [OSError(5, "b")])])
    rebuilt = travel(group)
    assert type(rebuilt) is ExceptionGroup
    assert rebuilt.message == "two"
    assert rebuilt.exceptions[0].args == ("a",)
    assert rebuilt.exceptions[1].exceptions[0].errno == 5


def test_a_group_with_a_base_exception_arrives_as_an_exception():
    rebuilt = travel(BaseExceptionGroup("two", [KeyboardInterrupt(), ValueError("a")]))
    assert type(rebuilt) is ExceptionGroup
    assert [type(e) for e in rebuilt.exceptions] == [GenericRemoteException, ValueError]


def test_an_older_client_sees_the_members_of_a_group_in_the_traceback():
    rebuilt = travel(ExceptionGroup("two", [ValueError("a"), OSError(5, "b")]), details=False)
    assert type(rebuilt) is GenericRemoteException
    assert str(rebuilt) == "ExceptionGroup: two (2 sub-exceptions)"
    assert "ValueError: a" in "".join(rebuilt.parent_traceback)


class Custom(Exception):
    pass


Custom.__module__ = "values"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "values.Custom"),
        (("boom",), "values.Custom: boom"),
        (("a\nb ",), "values.Custom: a\nb"),
    ],
)
def test_any_other_exception_arrives_as_a_generic_one(args, message):
    for details in (False, True):
        rebuilt = travel(Custom(*args), details=details)
        assert type(rebuilt) is GenericRemoteException
        assert str(rebuilt) == message


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def test_an_exception_whose_str_raises_arrives():
    for details in (False, True):
        rebuilt = travel(Unprintable(), details=details)
        assert str(rebuilt).endswith("Unprintable: <exception str() failed>")
        assert type(travel(ValueError(Unprintable()), details=details)) is ValueError


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr("pc_rpc._errors._registered", {})


def test_a_registered_exception_comes_back_as_its_class(registry):
    assert register_exception(Custom) is Custom

    class Lost(Exception):
        def __init__(self, axis, *, more=None):
            super().__init__(axis)

    register_exception(Lost, name="driver.Unlocked")
    rebuilt = travel(Custom("boom", 3))
    assert type(rebuilt) is Custom
    assert rebuilt.args == ("boom", 3)
    Lost.__module__, Lost.__qualname__ = "driver", "Unlocked"
    assert type(travel(Lost("x"))) is Lost


@dataclasses.dataclass(frozen=True)
class Unlocked(Exception):
    power: float


class Faults(ExceptionGroup):
    pass


def test_a_registered_exception_may_forbid_assignment(registry):
    register_exception(Unlocked)
    error = Unlocked(0.5)
    rebuilt = travel(error)
    assert rebuilt == error
    assert "Traceback at the server" in rebuilt.__notes__[0]
    rebuilt = rebuild_exception(pack_exception(raised(Unlocked(1.0), KeyError("k")), details=True))
    assert rebuilt.__cause__.args == ("k",)


def test_a_registered_group_comes_back_as_its_class(registry):
    error = Faults("two", [ValueError("a"), OSError(5, "b")])
    assert type(travel(error)) is ExceptionGroup
    assert str(travel(error)).startswith(f"{__name__}.Faults: two")
    register_exception(Faults)
    rebuilt = travel(error)
    assert type(rebuilt) is Faults
    assert rebuilt.message == "two"
    assert rebuilt.exceptions[1].errno == 5


def test_a_class_of_the_main_module_is_not_taken_for_a_built_in_one():
    own = type("TimeoutError", (Exception,), {"__module__": "__main__"})
    rebuilt = travel(own("the stage's own"))
    assert type(rebuilt) is GenericRemoteException
    assert str(rebuilt) == "__main__.TimeoutError: the stage's own"


def test_a_registered_class_that_makes_something_else_gives_the_text(registry):
    class Odd(Exception):
        def __new__(cls, *args):
            return 5

    register_exception(Odd, name="driver.Odd")
    pack = pack_exception(ValueError("text"), details=True) | {"type": "driver.Odd"}
    rebuilt = rebuild_exception(pack)
    assert str(rebuilt) == "driver.Odd: text"


def test_frames_of_ours_are_not_in_the_traceback_nor_in_those_it_leads_to():
    def broken(attempts):
        try:
            if attempts:
                outcome.run(lambda: broken(attempts - 1))
                raise outcome.error
        except ValueError as error:
            raise TypeError("again") from error
        raise ValueError("first")

    outcome = Outcome()
    outcome.run(lambda: broken(1))
    pack = describe(outcome.error, details=True).pack
    for frames in (pack["traceback"], pack["cause"]["traceback"]):
        assert "_outcome.py" not in frames[0]
    assert "in broken" in pack["traceback"][-1]


def test_an_exception_that_is_linked_many_times_is_sent_once():
    def stop_all(attempts):
        errors = []
        for number in range(10):
            try:
                if attempts:
                    stop_all(attempts - 1)
                raise ValueError(number)
            except Exception as error:
                errors.append(error)
        raise ExceptionGroup("stopping", errors)

    with pytest.raises(ExceptionGroup) as caught:
        stop_all(1)
    shared = ExceptionGroup("first", caught.value.exceptions)
    try:
        raise shared
    except ExceptionGroup:
        errors = []
        for number in range(10):
            try:
                raise KeyError(number)
            except KeyError as error:  # its context is `shared`
                errors.append(error)
        again = raised(ExceptionGroup("again", errors))

    def count(pack):
        linked = [*pack.get("exceptions", ())]
        linked += [pack[key] for key in ("cause", "context") if key in pack]
        return 1 + sum(map(count, linked))

    # Each of the ten has the first group, with its own ten, as its context.
    assert count(pack_exception(again, details=True)) < 200


def test_a_registered_exception_that_cannot_be_rebuilt_keeps_its_text(registry):
    class Picky(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} {two}")

    register_exception(Picky, name="driver.Picky")
    Picky.__module__, Picky.__qualname__ = "driver", "Picky"
    rebuilt = travel(Picky(1, 2))
    assert type(rebuilt) is GenericRemoteException
    assert "driver.Picky: 1 2" in str(rebuilt)


def test_only_exceptions_can_be_registered():
    for cls in (int, KeyboardInterrupt, "ValueError"):
        with pytest.raises(TypeError, match="expected a subclass of Exception"):
            register_exception(cls)


@pytest.mark.parametrize(
    "name",
    ["eval", "open", "SystemExit", "KeyboardInterrupt", "object", "print", "os.system",
     "__import__", "BaseException", "", "pc_rpc.Client", "ValueError.mro"],
)  # fmt: skip
@pytest.mark.parametrize("key", ["class", "type"])
def test_nothing_but_exceptions_is_looked_up(name, key, capsys):
    pack = {"class": "X", "message": "m", "traceback": [], "args": ["touch /tmp/x"], key: name}
    rebuilt = rebuild_exception(pack)
    assert type(rebuilt) is GenericRemoteException
    assert str(rebuilt).endswith(": m")
    assert capsys.readouterr() == ("", "")  # nor is it called


@pytest.mark.parametrize(
    "pack",
    [None, 5, "text", [], {}, {"class": ["x"]}, {"class": "ValueError"},
     {"class": "ValueError", "message": 7, "traceback": "abc"},
     {"class": "ValueError", "message": "m", "traceback": [1, None]},
     {"class": "ValueError", "message": "m", "notes": 7, "cause": 8, "context": 9, "args": 3},
     {"class": "ExceptionGroup", "type": "ExceptionGroup", "message": "m", "exceptions": [],
      "args": ["m"]}],
)  # fmt: skip
def test_a_malformed_description_of_an_error_gives_an_exception_all_the_same(pack):
    assert isinstance(rebuild_exception(pack), Exception)


def test_python_prints_the_remote_traceback_with_the_local_one():
    def driver_method():
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        driver_method()
    rebuilt = rebuild_exception(pack_exception(caught.value))
    assert any("driver_method" in frame for frame in rebuilt.parent_traceback)
    with pytest.raises(ValueError, match="boom") as caught:
        raise rebuilt
    printed = "".join(traceback.format_exception(caught.value))
    assert "Traceback at the server (most recent call last):" in printed
    assert "in driver_method" in printed


def nested(depth, key):
    """Return the pack of an exception with a chain of a given depth."""
    pack = {"class": "ValueError", "message": "the first", "traceback": [], "type": "ValueError"}
    for _ in range(depth):
        outer = {"class": "ValueError", "message": "outer", "traceback": []}
        if key == "exceptions":
            outer |= {"type": "ExceptionGroup", "args": ["outer"], key: [pack]}
        else:
            outer |= {key: pack}
        pack = outer
    return pack


@pytest.mark.parametrize("key", ["cause", "context", "exceptions"])
@pytest.mark.parametrize("depth", [MAX_REBUILT + 1, 400, 100_000])
def test_a_chain_that_is_too_deep_is_a_generic_exception(key, depth):
    error = rebuild_exception(nested(depth, key))
    assert type(error) is GenericRemoteException
    assert "more than 64 exceptions behind each other" in str(error)
    assert "".join(traceback.format_exception(error))


@pytest.mark.parametrize("key", ["cause", "context", "exceptions"])
def test_the_deepest_chain_that_is_rebuilt_can_be_printed(key):
    error = rebuild_exception(nested(MAX_REBUILT, key))
    assert type(error) is (ExceptionGroup if key == "exceptions" else ValueError)
    printed = "outer" if key == "exceptions" else "the first"  # of groups only the outer ones
    assert printed in "".join(traceback.format_exception(error))


HUGE = 10**6000


@pytest.mark.parametrize(
    "pack",
    [HUGE, [HUGE], {"class": HUGE}, {"class": "ValueError", "message": HUGE, "traceback": [HUGE]},
     {"class": "ValueError", "message": "x", "notes": [HUGE], "type": HUGE, "args": HUGE},
     {"class": "E", "message": "x", "exceptions": [HUGE], "args": [HUGE], "traceback": 5},
     {"class": "ValueError", "message": "x", "cause": 5, "context": [1]}, {}, None],
    ids=lambda pack: type(pack).__name__,
)  # fmt: skip
def test_a_pack_of_any_shape_is_an_exception(pack):
    assert isinstance(rebuild_exception(pack), Exception)
