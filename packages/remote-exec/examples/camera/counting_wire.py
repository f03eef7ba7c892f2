"""A TCP relay that counts the bytes between a client and a server."""

import socket
import threading


class CountingWire:
    """Relays connections to `port` to a server; `moved` counts the bytes in both directions."""

    def __init__(self, host, port):
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.port = self._listener.getsockname()[1]
        self.moved = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            server = socket.create_connection(self._server)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._relay, args=ends, daemon=True).start()

    def _relay(self, source, destination):
        with destination:
            while data := _received(source):
                with self._lock:
                    self.moved += len(data)
                destination.sendall(data)


def _received(source):
    try:
        return source.recv(2**18)
    except OSError:
        return b""  # the other direction has ended
