"""Code and calls, over real sockets."""

import linecache
import os
import subprocess
import sys

import numpy as np
import pytest
from pc_rpc import GenericRemoteException

pytestmark = pytest.mark.usefixtures("either_road")


def test_the_targets_are_the_driver_and_its_rexec(controller):
    client = controller.connect("main")
    assert client.get_rpc_id() == (["main", "main_rexec"], "for the tests")
    assert client.identify() == "driver of the test"


def test_any_rpc_client_can_add_code_and_call_it(controller):
    client = controller.connect()
    client.add_code("def double(x, *, offset=0):\n    return 2 * x + offset\n")
    assert client.call("double", 21) == 42
    assert client.call("double", 1, offset=3) == 5


def test_the_target_has_exactly_these_methods(controller):
    methods = controller.connect().get_rpc_method_list()["methods"]
    assert set(methods) - {"close", "terminate"} == {
        "add_code",
        "call",
        "call_within",
        "keep_output",
        "read_output",
    }


def test_arguments_named_like_our_own_reach_the_function(controller):
    client = controller.connect()
    client.add_code("def f(**kwargs):\n    return kwargs\n")
    kwargs = {"function": 1, "deadline": 2, "self": 3, "args": 4, "name": 5}
    assert client.call("f", **kwargs) == kwargs
    assert client.call_within(30, "f", **kwargs) == kwargs


CODE = """
import functools, math

def logged(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        calls.append(f.__name__)
        return f(*args, **kwargs)
    return wrapper

calls = []

@logged
def area(r, *, scale=1):
    return scale * math.pi * r**2

def make_adder(n):
    def add(x):
        return x + n
    return add

add_five = make_adder(5)

async def later(x):
    import asyncio
    await asyncio.sleep(0)
    return x

@logged
async def decorated_later(x):
    return await later(x)

def history():
    return list(calls)
"""


def test_closures_decorators_imports_keyword_arguments_and_coroutines_work(controller):
    client = controller.connect()
    client.add_code(CODE)
    assert client.call("area", 1, scale=2) == pytest.approx(6.283185)
    assert client.call("add_five", 1) == 6
    assert client.call("later", [1, 2]) == [1, 2]
    assert client.call("decorated_later", "x") == "x"
    assert client.call("history") == ["area", "decorated_later"]


def test_code_uses_the_driver_and_only_the_result_travels(controller):
    client = controller.connect()
    client.add_code("def total():\n    return sum(controller_driver.frames)\n")
    assert client.call("total") == 499500


def test_arrays_travel(controller):
    client = controller.connect()
    client.add_code("def double(a):\n    return 2 * a\n")
    result = client.call("double", np.arange(6.0).reshape(2, 3))
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, [[0, 2, 4], [6, 8, 10]])


# Namespaces


def test_each_connection_has_a_namespace_of_its_own(controller):
    first, second = controller.connect(), controller.connect()
    for client, value in [(first, 1), (second, 2)]:
        client.add_code(f"value = {value}\ndef get():\n    return value\n")
    assert (first.call("get"), second.call("get")) == (1, 2)


def test_the_global_names_are_there(controller):
    client = controller.connect()
    client.add_code(
        "def look():\n"
        "    return (controller_driver.identify(), sorted(controller_initial_namespace),\n"
        "            controller_initial_namespace['controller_driver'] is controller_driver)\n"
    )
    assert client.call("look") == ("driver of the test", ["controller_driver"], True)


def test_a_change_of_the_controller_wide_dictionary_reaches_later_connections_only(controller):
    get = "def get():\n    return globals().get('shared')\n"
    earlier, changing = controller.connect(), controller.connect()
    for client in earlier, changing:
        client.add_code(get)
    changing.add_code("controller_initial_namespace['shared'] = 42\n")
    later = controller.connect()
    later.add_code(get)
    assert [client.call("get") for client in (earlier, changing, later)] == [None, None, 42]


def test_a_closed_connection_leaves_no_module_and_no_source(controller):
    def left():
        names = [name for name in linecache.cache if name.startswith("<code")]
        return names + [name for name in sys.modules if name.startswith("remote_code")]

    assert left() == []
    client = controller.connect()
    client.add_code("x = 1\n")
    assert len(left()) == 2
    client.close_rpc()
    other = controller.connect("main")
    while left():  # until the test's time-out
        other.identify()


def test_names_that_code_defines_do_not_leak_into_the_controller(controller):
    controller.connect().add_code("leaked = 1\n")
    client = controller.connect()
    client.add_code("def look():\n    return 'leaked' in globals()\n")
    assert client.call("look") is False


def test_dataclasses_pickle_and_typing_find_the_module(controller):
    client = controller.connect()
    client.add_code(
        "from __future__ import annotations\n"
        "import dataclasses, pickle, sys, typing\n"
        "@dataclasses.dataclass\n"
        "class Spot:\n"
        "    x: float\n"
        "def check():\n"
        "    module = sys.modules[__name__]\n"
        "    assert module.Spot is Spot\n"
        "    assert typing.get_type_hints(Spot) == {'x': float}\n"
        "    return pickle.loads(pickle.dumps(Spot(1.5))).x\n"
    )
    assert client.call("check") == 1.5


def test_the_future_imports_of_one_piece_of_code_do_not_reach_the_next(controller):
    client = controller.connect()
    client.add_code("from __future__ import annotations\n")
    client.add_code(
        "def f(x: int):\n    pass\ndef get():\n    return f.__annotations__['x'] is int"
    )
    assert client.call("get") is True


def test_thread_bound_objects_survive_from_call_to_call(controller):
    client = controller.connect()
    client.add_code(
        "import sqlite3\n"
        "notes = sqlite3.connect(':memory:')\n"
        "def count():\n"
        "    return notes.execute('select 6 * 7').fetchone()[0]\n"
        "def close():\n"
        "    notes.close()\n"
    )
    assert client.call("count") == 42
    client.call("close")


# Errors


def test_an_unknown_function_is_named(controller):
    with pytest.raises(NameError, match="name 'nope' is not defined in the namespace"):
        controller.connect().call("nope")


def test_calling_a_name_that_is_not_callable_is_a_type_error(controller):
    client = controller.connect()
    client.add_code("x = 3")
    with pytest.raises(TypeError, match="'int' object is not callable"):
        client.call("x")


def test_code_that_is_not_a_string_is_a_type_error(controller):
    with pytest.raises(TypeError, match="code must be a str, not bytes"):
        controller.connect().add_code(b"x = 1")


def test_an_error_arrives_with_the_remote_source_line(controller):
    client = controller.connect()
    client.add_code("def f(x):\n    y = x - 1\n    return 1 / y  # the culprit\n")
    with pytest.raises(ZeroDivisionError) as caught:
        client.call("f", 1)
    remote = "".join(caught.value.parent_traceback)
    assert "line 3, in f\n    return 1 / y  # the culprit" in remote
    assert "the culprit" in "".join(caught.value.__notes__)
    assert "_running.py" not in remote  # frames of the package are removed


CIRCLE = """
def f():
    error = IndexError("lost")
    raise error from error
"""
FROZEN = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Unlocked(Exception):
    power: float

def f():
    raise Unlocked(0.5) from ValueError("no light")
"""


@pytest.mark.parametrize(
    ("code", "text"), [(CIRCLE, "IndexError: lost"), (FROZEN, "Unlocked: 0.5")], ids=repr
)
def test_circular_and_frozen_exceptions_arrive_unchanged(controller, code, text):
    client = controller.connect()
    client.add_code(code)
    with pytest.raises((IndexError, GenericRemoteException)) as caught:
        client.call("f")
    assert text in f"{type(caught.value).__name__}: {caught.value}"
    assert "_running.py" not in "".join(caught.value.parent_traceback)


def test_an_error_in_a_coroutine_arrives_with_the_remote_source_line(controller):
    client = controller.connect()
    client.add_code("async def f():\n    raise ValueError('oops')  # here\n")
    with pytest.raises(ValueError, match="oops") as caught:
        client.call("f")
    assert "# here" in "".join(caught.value.parent_traceback)


def test_a_syntax_error_arrives_with_its_line(controller):
    client = controller.connect()
    with pytest.raises(SyntaxError) as caught:
        client.add_code("x = 1\ny = = 2\n")
    assert "line 2" in str(caught.value)
    client.add_code("x = 1")


def test_an_error_of_a_class_of_the_code_is_named(controller):
    client = controller.connect()
    client.add_code(
        "class Unlocked(Exception):\n    pass\ndef f():\n    raise Unlocked('laser 3')\n"
    )
    with pytest.raises(Exception, match=r"remote_code_\d+\.Unlocked: laser 3"):
        client.call("f")


def test_a_value_that_cannot_be_encoded_is_a_clear_error_and_the_connection_lives(controller):
    client = controller.connect()
    client.add_code("def f():\n    return object()\ndef g():\n    return 1\n")
    with pytest.raises(TypeError):
        client.call("f")
    assert client.call("g") == 1


@pytest.mark.parametrize("error", ["StopIteration(1)", "KeyboardInterrupt()", "GeneratorExit()"])
def test_no_exception_of_code_ends_the_connection(controller, error):
    client = controller.connect()
    client.add_code(f"def f():\n    raise {error}\ndef g():\n    return 1\n")
    with pytest.raises(Exception):  # noqa: B017  # pc_rpc decides which
        client.call("f")
    assert client.call("g") == 1


@pytest.mark.parametrize("error", ["SystemExit('no beam')", "asyncio.CancelledError('no beam')"])
@pytest.mark.parametrize("define", ["def", "async def"])
def test_code_that_exits_or_cancels_ends_itself_and_not_the_controller(controller, define, error):
    client = controller.connect()
    client.add_code(f"import asyncio\n{define} f():\n    raise {error}\n")
    name = error.partition("(")[0].rpartition(".")[2]
    with pytest.raises(RuntimeError, match=f"the code raised {name}: no beam"):
        client.call("f")
    assert controller.connect("main").identify() == "driver of the test"


def test_tracebacks_and_their_causes_have_no_frames_of_the_package(controller):
    client = controller.connect()
    client.add_code(
        "def inner():\n"
        "    raise KeyError('first')\n"
        "def f():\n"
        "    try:\n"
        "        inner()\n"
        "    except KeyError as error:\n"
        "        raise ExceptionGroup('group', [error, ValueError('second')])\n"
        "async def g():\n"
        "    f()\n"
    )
    for name in ("f", "g"):
        with pytest.raises(ExceptionGroup) as caught:
            client.call(name)
        there = "".join(caught.value.parent_traceback)
        assert f"in {name}\n" in there
        assert "remote_exec" not in there.replace("remote_code", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
def test_a_process_that_code_forks_ends_with_the_code_and_the_controller_goes_on():
    # In another process: a fork of the tests' process would run pytest twice.
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["in the child", "status 0", "still there"]


FORKING = """
import threading
from concurrent.futures import Future
from pc_rpc import Client
from remote_exec import RemoteExec, simple_rexec_server_loop

CODE = '''
import os
def fork():
    child = os.fork()
    if child == 0:
        print("in the child")
        return 0
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
def answer():
    return "still there"
'''
ready = Future()
loop = threading.Thread(
    target=simple_rexec_server_loop, args=("main", object(), "127.0.0.1", 0),
    kwargs={"ready_cb": ready.set_result})
loop.start()
client = Client("127.0.0.1", ready.result(60).port, "main_rexec")
rexec = RemoteExec(client)
rexec.add_code(CODE)
print("status", rexec.call("fork"), flush=True)
print(rexec.call("answer"), flush=True)
client.terminate()
client.close_rpc()
loop.join(60)
"""


def test_code_may_remove_the_driver_from_the_namespaces_of_later_connections(start_controller):
    controller = start_controller()
    controller.connect().add_code("controller_initial_namespace.clear()")
    controller.stop()  # an error in the thread of the loop fails the test


def test_a_warning_points_at_the_line_of_the_code(controller, recwarn):
    client = controller.connect()
    client.add_code(
        "import warnings\n"
        "def f():\n"
        "    with warnings.catch_warnings(record=True) as caught:\n"
        "        warnings.simplefilter('always')\n"
        "        warnings.warn('too warm')  # here\n"
        "    return warnings.formatwarning(caught[0].message, caught[0].category,\n"
        "                                  caught[0].filename, caught[0].lineno)\n"
    )
    text = client.call("f")
    assert ":5: UserWarning: too warm" in text
    assert "warnings.warn('too warm')  # here" in text
