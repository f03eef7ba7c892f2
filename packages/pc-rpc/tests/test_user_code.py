"""Users' code that makes texts (of exceptions, defaults) blocks no other call."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pc_rpc import GenericRemoteException, _aside

pytestmark = pytest.mark.usefixtures("either_road")


class Endless:
    """Code that returns when the test is over."""

    def __init__(self):
        self.running = threading.Event()
        self.may_end = threading.Event()
        self.threads = []

    def __call__(self, *args):
        self.threads.append(threading.current_thread().name)
        self.running.set()
        self.may_end.wait(30)
        return "at last"


@pytest.fixture
def endless():
    code = Endless()
    yield code
    code.may_end.set()


def shown_by(code):
    """Return exceptions whose description runs the code."""

    class Shown:
        def __str__(self):
            return code()

        __repr__ = __str__

    class Text(Exception):
        def __str__(self):
            return code()

    class Known(KeyError):
        def __str__(self):
            return code()

    def caused():
        error = ValueError("plain")
        error.__cause__ = Text()
        return error

    return {
        "its text": Text,
        "a text of its own behind a built-in": Known,
        "an argument": lambda: ValueError(Shown()),
        "an argument in a list": lambda: ValueError([Shown()]),
        "a key": lambda: KeyError(Shown()),
        "a file name": lambda: OSError(2, "no", Shown()),
        "a syntax error": lambda: SyntaxError(Shown()),
        "its cause": caused,
        "a member": lambda: ExceptionGroup("group", [Text()]),
    }


class Driver:
    def __init__(self, make):
        self.make = make

    def fail(self):
        raise self.make()

    async def fail_later(self):
        raise self.make()

    def echo(self, x):
        return x


@pytest.mark.parametrize("method", ["fail", "fail_later"])
@pytest.mark.parametrize("worker_threads", [False, True])
@pytest.mark.parametrize("what", shown_by(None))
def test_an_exception_whose_str_never_returns_blocks_no_other_call(
    serve, connect, endless, what, method, worker_threads
):
    make = shown_by(endless)[what]
    driver = Driver(make)
    targets = {"main": driver, "other": driver}
    thread = serve(targets, worker_threads=worker_threads)
    client, other = connect(thread.port, "main"), connect(thread.port, "other")
    with ThreadPoolExecutor() as pool:
        failing = pool.submit(getattr(client, method))
        assert endless.running.wait(30)
        other.ping_rpc()
        client.ping_rpc()
        connect(thread.port, "other")
        if worker_threads:
            assert other.echo(5) == 5
        endless.may_end.set()
        assert isinstance(failing.exception(30), Exception)
    in_its_thread = worker_threads and method == "fail"
    assert set(endless.threads) == {"target main" if in_its_thread else "description"}
    assert client.echo(5) == 5


@pytest.fixture
def impatient(monkeypatch):
    """No text may take longer than an instant."""
    monkeypatch.setattr(_aside, "TIME_LIMIT", 0.01)


def test_the_caller_is_not_kept_waiting_for_a_text_that_is_never_made(
    serve, connect, endless, impatient
):
    client = connect(serve({"main": Driver(shown_by(endless)["its text"])}).port)
    for _ in range(_aside.MAX_THREADS + 2):  # more than may be made at a time
        with pytest.raises(GenericRemoteException, match="Text: <its text took too long to make>"):
            client.fail()
    assert client.echo(5) == 5
    assert len(endless.threads) == _aside.MAX_THREADS


@pytest.mark.parametrize("worker_threads", [False, True])
def test_a_system_exit_whose_str_never_returns_ends_the_server(
    serve, connect, endless, impatient, worker_threads
):
    class Exit(SystemExit):
        def __str__(self):
            return endless() if not worker_threads else "text"

    thread = serve({"main": Driver(Exit)}, worker_threads=worker_threads)
    with pytest.raises(GenericRemoteException, match="Exit"):
        connect(thread.port).fail()
    thread.join()


# Exceptions that run code when they are described.


def raising(error):
    def code(self):
        raise error

    return code


def trapped(error):
    """Return exceptions that raise another one when an attribute is read."""
    code = raising(error)
    names = ["args", "__traceback__", "__cause__", "__context__", "__suppress_context__",
             "__notes__", "__dict__", "__class__"]  # fmt: skip
    classes = {name: type("Trap", (ValueError,), {name: property(code)}) for name in names}
    for name in ("__str__", "__repr__", "__getattribute__", "__hash__"):
        classes[name] = type("Trap", (ValueError,), {name: lambda self, *args: code(self)})
    meta = type("Meta", (type,), {name: property(code) for name in ("__module__", "__name__")})
    classes["metaclass"] = meta("Trap", (ValueError,), {})
    hashed = type("Meta", (type,), {"__hash__": code, "__mro__": property(code)})
    classes["hash of the class"] = hashed("Trap", (ValueError,), {})
    for name in ("filename", "errno"):
        classes[name] = type("Trap", (OSError,), {name: property(code)})
    return classes


@pytest.mark.parametrize("what", trapped(None))
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), RuntimeError("x")])
@pytest.mark.parametrize("options", [{}, {"worker_threads": True}])
async def test_an_exception_whose_attributes_raise_arrives_as_any_other(
    serve, asyncio_client, what, error, options
):
    thread = serve({"main": Driver(lambda: trapped(error)[what](2, "two"))}, **options)
    async with asyncio_client(thread.port) as client:
        for method in (client.fail, client.fail_later):
            with pytest.raises(GenericRemoteException, match="Trap"):
                await method()
        assert await client.echo(5) == 5
    assert not thread.do(lambda: thread.server._shared.terminated.is_set())


class Label(str):
    """A text with code of its own."""

    __slots__ = ()

    def __str__(self):
        return Label("label")


def test_a_text_of_a_subclass_of_str_arrives(serve, connect):
    class Odd(Exception):
        def __str__(self):
            return Label("what it says")

    client = connect(serve({"main": Driver(Odd)}).port)
    with pytest.raises(GenericRemoteException, match="Odd: what it says"):
        client.fail()


@pytest.mark.parametrize("error", [ValueError, OSError, KeyError, RuntimeError])
def test_numbers_too_long_to_be_shown_arrive_as_an_error(serve, connect, error):
    client = connect(serve({"main": Driver(lambda: error(10**60_000, "x"))}).port)
    with pytest.raises(Exception, match=r"str\(\) failed"):
        client.fail()
    assert client.echo(5) == 5


# Method lists.


def listing(code):
    class Shown:
        def __repr__(self):
            return code()

    class Signed:
        def __call__(self): ...

        @property
        def __signature__(self):
            return code()

    class Documented:
        def __call__(self): ...

        @property
        def __doc__(self):
            return code()

    class Listing:
        def default(self, x=Shown()): ...  # noqa: B008

        def annotated(self, x): ...

        annotated.__annotations__["x"] = Shown()
        signed = Signed()
        documented = Documented()

        def echo(self, x):
            return x

    return Listing()


@pytest.mark.parametrize("name", ["default", "annotated", "signed", "documented"])
def test_a_default_whose_repr_never_returns_blocks_no_other_call(
    serve, connect, endless, impatient, name
):
    target = listing(endless)
    thread = serve({"main": target}, expose={"main": [name, "echo"]})
    client, other = connect(thread.port), connect(thread.port)
    with ThreadPoolExecutor() as pool:
        listed = pool.submit(client.get_rpc_method_list)
        assert endless.running.wait(30)
        assert other.echo(5) == 5
        assert isinstance(listed.exception(30), TimeoutError)
    assert client.echo(6) == 6


@pytest.mark.parametrize("name", ["default", "annotated", "signed", "documented"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, RuntimeError])
def test_a_default_whose_repr_raises_is_harmless(serve, connect, name, error):
    target = listing(lambda: raising(error)(None))
    client = connect(serve({"main": target}, expose={"main": [name, "echo"]}).port)
    assert name in client.get_rpc_method_list()["methods"]
    assert client.echo(5) == 5


async def test_the_method_list_of_a_target_is_made_once(serve, asyncio_client):
    shown = []
    thread = serve({"main": listing(lambda: shown.append(1) or "shown")})
    async with asyncio_client(thread.port) as first, asyncio_client(thread.port) as second:
        assert await first.get_rpc_method_list() == await second.get_rpc_method_list()
        count = len(shown)
        await asyncio.gather(*(first.get_rpc_method_list() for _ in range(100)))
    assert len(shown) == count


# Results.


@pytest.mark.parametrize("worker_threads", [False, True])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, RuntimeError])
def test_a_result_whose_encoding_raises_is_an_error_of_its_caller(
    serve, connect, worker_threads, error
):
    class Shown:
        __repr__ = raising(error)

    class Returning(Driver):
        def shown(self):
            return [Shown()]

        async def shown_later(self):
            return [Shown()]

    thread = serve({"main": Returning(None)}, worker_threads=worker_threads)
    client = connect(thread.port)
    for method in (client.shown, client.shown_later):
        with pytest.raises((TypeError, RuntimeError), match="the result cannot be encoded"):
            method()
    assert client.echo(5) == 5


def test_a_result_whose_encoding_never_returns_blocks_its_worker_thread_only(
    serve, connect, endless
):
    class Shown:
        def __repr__(self):
            return endless()

    class Returning(Driver):
        def shown(self):
            return Shown()

    targets = {"main": Returning(None), "other": Driver(None)}
    thread = serve(targets, worker_threads=True)
    client, other = connect(thread.port, "main"), connect(thread.port, "other")
    with ThreadPoolExecutor() as pool:
        shown = pool.submit(client.shown)
        assert endless.running.wait(30)
        assert other.echo(5) == 5
        client.ping_rpc()
        endless.may_end.set()
        assert isinstance(shown.exception(30), TypeError)
    assert endless.threads == ["target main"]
