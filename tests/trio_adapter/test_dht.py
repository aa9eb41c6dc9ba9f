"""KademliaDHT on trio; what doesn't wait is tested with the anyio adapter, which shares it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from stt_core.dht import Outcome
from stt_trio import DHTNode, KademliaDHT, StateError
from tests.trio_adapter.net import make_node, on_trio

CONTENT = b"c" * 32
HERE = "127.0.0.1"


def make_dht(node_id: bytes | None = None, **settings: Any) -> KademliaDHT:
    return KademliaDHT(node_id, **{"port": 0, "bind_address": HERE, **settings})


@on_trio
async def test_peers_are_found_and_connected_to_without_knowing_where_they_are() -> None:
    async with make_node(node_id=b"Bob") as bob, make_node() as node, make_dht() as first:
        friends = [(HERE, first.port)]
        async with (
            make_dht(b"Bob", announced_port=bob.port, bootstrap=friends) as dht,
            make_dht(bootstrap=friends) as seeker,
        ):
            assert await dht.announce(CONTENT) == 2
            (peer,) = await seeker.find_providers(CONTENT)
            assert peer == DHTNode(b"Bob", HERE, bob.port)
            session = await node.connect((peer.host, peer.port), peer.node_id)
            assert session.peer_node_id == b"Bob"
            target = await seeker.put(b"value")
            record = await dht.get(target)
            assert record is not None
            assert record.value == b"value"
            assert (await seeker.find_node(dht.dht_id))[0].node_id == dht.dht_id


@on_trio
async def test_bootstrap_tells_of_each_address() -> None:
    async with make_dht() as gone:
        dead = (HERE, gone.port)
    async with make_dht() as first, make_dht(rpc_timeout=0.01) as newcomer:
        outcomes = await newcomer.bootstrap([("localhost", first.port), dead])
        assert outcomes == {(HERE, first.port): Outcome.ANSWERED, dead: Outcome.NO_ANSWER}


@on_trio
async def test_stopping_ends_what_waits() -> None:
    async with make_dht() as gone:
        address = (HERE, gone.port)
    dht = make_dht(rpc_timeout=60.0)
    await dht.start()
    async with trio.open_nursery() as nursery:

        async def join() -> None:
            with pytest.raises(StateError, match="stopped"):
                await dht.bootstrap([address])

        nursery.start_soon(join)
        await trio.testing.wait_all_tasks_blocked()
        await dht.stop()
    await dht.stop()


@on_trio
async def test_a_start_that_is_cancelled_closes_the_socket() -> None:
    async with make_dht() as gone:
        port = gone.port
    dht = make_dht(rpc_timeout=60.0, bootstrap=[(HERE, port)])
    with trio.move_on_after(0.001):
        await dht.start()
    assert dht._stopped
