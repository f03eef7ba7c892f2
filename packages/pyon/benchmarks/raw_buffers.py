"""The size from which a raw buffer is faster than base64: the reason for `RAW_BUFFER_SIZE`.

``python packages/pyon/benchmarks/raw_buffers.py`` sends a message with one array to itself, over
loopback: encoded, framed, received, decoded. It prints the ratio of the best times, which are least
affected by other processes.
"""

import socket
import time

import numpy as np
import pybase64
import pyon
from pyon import _base64, _writer, framing

ROUNDS = 31
MESSAGES = 50


def connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sender, listener.accept()[0]


def exchange(sender, socket_, receiver, x, raw):
    _writer.RAW_BUFFER_SIZE = 0 if raw else 2**40
    buffers = []
    text = pyon.encode(x, version=2, buffer_callback=buffers.append)
    sender.sendmsg(framing.frame(text, buffers))
    while (message := receiver.next_message()) is None:
        receiver.buffer_updated(socket_.recv_into(receiver.get_buffer()))
    return pyon.decode(message.line, buffers=message.buffers)


def main():
    sender, socket_ = connection()
    receiver = framing.Receiver(raw_buffers=True)
    print(f"{'bytes':>8}{'raw us':>10}{'base64 us':>12}{'ratio':>8}")
    for simd in (True, False):
        _base64.pybase64 = pybase64 if simd else None
        print("with SIMD base64" if simd else "without")
        for size in (512, 1024, 2048, 3072, 4096, 6144, 8192, 12288, 16384):
            x = {"action": "call", "args": [np.zeros(size, np.uint8)]}
            times = {True: [], False: []}
            for _ in range(ROUNDS):
                for raw, taken in times.items():
                    start = time.perf_counter()
                    for _ in range(MESSAGES):
                        exchange(sender, socket_, receiver, x, raw)
                    taken.append((time.perf_counter() - start) / MESSAGES * 1e6)
            raw, text = (min(times[kind]) for kind in (True, False))
            print(f"{size:8}{raw:10.1f}{text:12.1f}{raw / text:8.2f}")


if __name__ == "__main__":
    main()
