"""The same echo in other packages. As a program: ``peers.py NAME`` serves one on a free port.

Each has a server and a blocking client that returns a function to call with a value.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, __file__.rpartition("/")[0])


class Driver:
    def echo(self, x):
        return x

    async def later(self, x):
        return x

    def block(self, seconds):
        time.sleep(seconds)


def say(port: int) -> None:
    print(port, flush=True)


def serve_pc_rpc() -> None:
    from pc_rpc import simple_server_loop

    simple_server_loop(
        {"main": Driver()}, "127.0.0.1", 0, allow_parallel=True, ready_cb=lambda s: say(s.port)
    )


def serve_uvloop() -> None:
    import uvloop
    from pc_rpc import Server, serve

    server = Server({"main": Driver()}, allow_parallel=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(server, "127.0.0.1", 0, ready_cb=lambda s: say(s.port)))


def serve_two_targets() -> None:
    from pc_rpc import simple_server_loop

    simple_server_loop(
        {"slow": Driver(), "fast": Driver()},
        "127.0.0.1",
        0,
        worker_threads=True,
        ready_cb=lambda s: say(s.port),
    )


def pc_rpc(port: int) -> Callable[[Any], Any]:
    from pc_rpc import Client

    return Client("127.0.0.1", port).echo


def serve_managers() -> None:
    from multiprocessing.managers import BaseManager

    driver = Driver()

    class Manager(BaseManager):
        pass

    Manager.register("driver", callable=lambda: driver)
    server = Manager(("127.0.0.1", 0), authkey=b"benchmark").get_server()
    say(server.address[1])
    server.serve_forever()


def managers(port: int) -> Callable[[Any], Any]:
    from multiprocessing.managers import BaseManager

    class Manager(BaseManager):
        pass

    Manager.register("driver")
    manager = Manager(("127.0.0.1", port), authkey=b"benchmark")
    manager.connect()
    return manager.driver().echo


def serve_rpyc() -> None:
    import rpyc
    from rpyc.utils.server import ThreadedServer

    class Service(rpyc.Service):
        def exposed_echo(self, x):
            return x

        def exposed_echo_array(self, x):
            return rpyc.classic.obtain(x)

    server = ThreadedServer(
        Service, hostname="127.0.0.1", port=0, protocol_config={"allow_pickle": True}
    )
    server._listen()  # as `start` does, which does not return
    say(server.port)
    server.start()


def rpyc(port: int) -> Callable[[Any], Any]:
    import rpyc

    connection = rpyc.connect("127.0.0.1", port, config={"allow_pickle": True})
    return connection.root.echo


def serve_pyro5() -> None:
    import Pyro5.api

    daemon = Pyro5.api.Daemon("127.0.0.1", 0)
    daemon.register(Pyro5.api.expose(Driver), "driver")
    say(int(daemon.locationStr.rpartition(":")[2]))
    daemon.requestLoop()


def pyro5(port: int) -> Callable[[Any], Any]:
    import Pyro5.api

    return Pyro5.api.Proxy(f"PYRO:driver@127.0.0.1:{port}").echo


def serve_zerorpc() -> None:
    import zerorpc

    server = zerorpc.Server(Driver())
    server.bind("tcp://127.0.0.1:*")
    say(int(server._events._socket.getsockopt_string(32).rpartition(":")[2]))
    server.run()


def zerorpc(port: int) -> Callable[[Any], Any]:
    import zerorpc

    client = zerorpc.Client(f"tcp://127.0.0.1:{port}", timeout=30)
    return client.echo


LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def serve_grpc() -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    handler = grpc.method_handlers_generic_handler(
        "driver", {"echo": grpc.unary_unary_rpc_method_handler(lambda request, context: request)}
    )
    server = grpc.server(ThreadPoolExecutor(4), options=LARGE)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(port)
    server.wait_for_termination()


def grpc(port: int) -> Callable[[Any], Any]:
    import grpc

    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=LARGE)
    # With pickle on both sides: the cheapest encoding of arrays there.
    return channel.unary_unary("/driver/echo", lambda x: pickle.dumps(x, protocol=5), pickle.loads)


NAMES = ["managers", "rpyc", "pyro5", "zerorpc", "grpc"]


def rpyc_arrays(port: int) -> Callable[[Any], Any]:
    import rpyc

    connection = rpyc.connect("127.0.0.1", port, config={"allow_pickle": True})
    # By reference first: both ends have to ask for the array itself.
    return lambda x: rpyc.classic.obtain(connection.root.echo_array(x))


def pyro5_arrays(port: int) -> Callable[[Any], Any]:
    import Pyro5.api

    Pyro5.config.SERIALIZER = "marshal"  # the default one sends bytes as base64
    return as_bytes(pyro5(port))


def zerorpc_arrays(port: int) -> Callable[[Any], Any]:
    return as_bytes(zerorpc(port))


def as_bytes(echo: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Send the bytes of an array through a package without arrays; make an array of the reply."""
    import numpy as np

    return lambda x: np.frombuffer(echo(x.tobytes()), x.dtype)


ARRAYS = {"rpyc": rpyc_arrays, "pyro5": pyro5_arrays, "zerorpc": zerorpc_arrays}
"""The packages with other code for arrays than for numbers."""

if __name__ == "__main__":
    globals()[f"serve_{sys.argv[1]}"]()
