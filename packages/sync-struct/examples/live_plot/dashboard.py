import asyncio

from sync_struct import Subscriber


async def main():
    enough = asyncio.Event()
    scan = {}

    def build(received):
        scan.clear()
        scan.update(received)
        return scan

    def show(mod):
        print(f"{len(scan['x'])} points, the last one at x = {scan['x'][-1]:.1f}")
        if len(scan["x"]) > 40:
            enough.set()

    subscriber = Subscriber("datasets", build, show, path=["scan"], max_rate=5)
    async with subscriber.following("127.0.0.1", 3250):  # reconnects for ever
        await enough.wait()


asyncio.run(main())
