"""An asynchronous context in another thread, because Playwright blocks."""

import asyncio
import contextlib
import threading


@contextlib.contextmanager
def in_thread(context):
    """Enter the asynchronous context `context()` on an event loop in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    try:
        made = context()
        value = run(made.__aenter__())
        try:
            yield value
        finally:
            run(made.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
