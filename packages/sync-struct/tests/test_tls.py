"""Publisher and subscribers over TLS, each pinning the certificate of the other."""

import asyncio

import pytest
import trustme
from pyon.tcp import client_context, server_context
from sync_struct import Notifier, Publisher, Subscriber, mirror


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """Return the contexts of a publisher, of its subscriber and of an unknown client."""
    folder = tmp_path_factory.mktemp("certificates")
    files = {}
    for name in ("publisher", "subscriber", "stranger"):
        leaf = trustme.CA().issue_cert(f"{name}.example")
        files[name] = folder / f"{name}.pem", folder / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(files[name][0])
        leaf.private_key_pem.write_to_path(files[name][1])
    return (
        server_context(*files["publisher"], files["subscriber"][0]),
        client_context(*files["subscriber"], files["publisher"][0]),
        client_context(*files["stranger"], files["publisher"][0]),
    )


async def test_a_structure_is_followed_over_tls(contexts, until):
    serving, subscribing, _ = contexts
    notifier = Notifier({"x": list(range(100_000))})
    async with Publisher({"d": notifier}) as publisher:
        await publisher.start("127.0.0.1", 0, ssl=serving)
        subscriber = Subscriber("d", lambda received: received)
        await subscriber.connect("127.0.0.1", publisher.port, ssl=subscribing)
        notifier["y"] = 1
        await until(lambda: subscriber.target == notifier.read)
        await subscriber.close()


async def test_a_mirror_follows_over_tls(contexts):
    serving, subscribing, _ = contexts
    async with Publisher({"d": Notifier({"x": 1})}) as publisher:
        await publisher.start("127.0.0.1", 0, ssl=serving)

        def look():
            with mirror("127.0.0.1", publisher.port, "d", ssl=subscribing) as view:
                return view.read

        assert await asyncio.to_thread(look) == {"x": 1}


@pytest.mark.parametrize("plain", [False, True])
async def test_a_client_without_the_right_certificate_gets_nothing(contexts, plain):
    serving, _, strange = contexts
    async with Publisher({"d": Notifier({"x": 1})}) as publisher:
        await publisher.start("127.0.0.1", 0, ssl=serving)
        subscriber = Subscriber("d", lambda received: received)
        with pytest.raises(OSError, match=r"\S"):
            await subscriber.connect("127.0.0.1", publisher.port, ssl=None if plain else strange)
        assert subscriber.target is None
