"""KademliaDHT on real sockets: join, announce, find, connect; and how it starts and stops."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from stt_anyio import (
    ConfigurationError,
    ContentAffinityPool,
    DHTNode,
    KademliaDHT,
    PoolMissError,
    StateError,
    STTSession,
)
from stt_core.dht import Outcome
from tests.anyio_adapter.net import LIMIT, make_node

pytestmark = pytest.mark.anyio

CONTENT = b"c" * 32
HERE = "127.0.0.1"


def make_dht(node_id: bytes | None = None, **settings: Any) -> KademliaDHT:
    return KademliaDHT(node_id, **{"port": 0, "bind_address": HERE, **settings})


@asynccontextmanager
async def town(count: int, **settings: Any) -> AsyncIterator[list[KademliaDHT]]:
    """Nodes that joined by way of the first. What happens in the block has ``LIMIT`` seconds."""
    with anyio.fail_after(LIMIT):
        async with AsyncExitStack() as stack:
            nodes: list[KademliaDHT] = []
            for _ in range(count):
                friends = [(HERE, node.port) for node in nodes[:1]]
                nodes.append(await stack.enter_async_context(make_dht(bootstrap=friends, **settings)))
            yield nodes


async def test_peers_are_found_and_connected_to_without_knowing_where_they_are() -> None:
    """The chapter's "Find peers without knowing IP addresses"."""
    async with make_node(node_id=b"Bob") as bob, make_node() as node, town(3) as friends:
        with_content = make_dht(b"Bob", announced_port=bob.port, bootstrap=[(HERE, friends[0].port)])
        async with with_content as dht:
            assert await dht.announce(CONTENT) == 3
            peers = await friends[2].find_providers(CONTENT)
            assert peers == [DHTNode(b"Bob", HERE, bob.port)]
            for peer in peers:
                session = await node.connect((peer.host, peer.port), peer.node_id)
                assert session.peer_node_id == b"Bob"


async def test_records_are_put_and_got() -> None:
    async with town(4) as nodes:
        target = await nodes[1].put(b"value", salt=b"name")
        record = await nodes[3].get(target)
        assert record is not None
        assert record.value == b"value"
        assert await nodes[3].get(CONTENT) is None


async def test_nodes_are_found_by_their_ids() -> None:
    async with town(5) as nodes:
        found = await nodes[4].find_node(nodes[2].dht_id)
        assert found[0] == DHTNode(nodes[2].dht_id, HERE, nodes[2].port)
        assert len(found) == 4


async def test_a_pool_that_misses_names_whom_the_dht_knows() -> None:
    async with town(2) as (alice, bob):
        await alice.announce(CONTENT)
        pool: ContentAffinityPool[STTSession] = ContentAffinityPool(dht=bob)
        with pytest.raises(PoolMissError) as caught:
            pool.get_session_for_content(CONTENT)
        assert caught.value.providers == (DHTNode(alice.node_id, HERE, alice.port),)


async def test_bootstrap_tells_of_each_address() -> None:
    async with town(2) as (first, _), make_dht(rpc_timeout=0.01) as newcomer:
        gone = make_dht()
        async with gone:
            dead = (HERE, gone.port)
        outcomes = await newcomer.bootstrap([("localhost", first.port), dead])
        assert outcomes == {(HERE, first.port): Outcome.ANSWERED, dead: Outcome.NO_ANSWER}


async def test_a_saved_table_is_the_way_back_and_a_node_seed_the_same_id() -> None:
    async with town(4) as nodes:
        async with make_dht(node_seed=b"sixteen bytes, or more", bootstrap=[(HERE, nodes[0].port)]) as dht:
            saved, dht_id = dht.saved_table(), dht.dht_id
        async with make_dht(node_seed=b"sixteen bytes, or more", saved_table=saved) as again:
            assert again.dht_id == dht_id
            assert again.statistics()["contacts"] == 4


async def test_a_table_in_a_file_is_the_way_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "contacts"
    async with town(3) as nodes:
        async with make_dht(table_path=path, bootstrap=[(HERE, nodes[0].port)]):
            assert not path.exists()
        assert os.listdir(tmp_path) == ["contacts"]
        async with make_dht(table_path=path) as again:
            assert again.statistics()["contacts"] == 3
        path.write_bytes(b"something else")
        async with make_dht(table_path=path) as lost:
            assert lost.statistics()["contacts"] == 0
        assert path.read_bytes() == b"something else", "who found nobody has nothing to save"
        assert "are of no use" in caplog.text
        async with make_dht(table_path=tmp_path / "nowhere" / "contacts", bootstrap=[(HERE, nodes[0].port)]):
            pass
        assert "can't be saved" in caplog.text


async def test_stopping_ends_what_waits() -> None:
    async with make_dht() as silent_friend:
        address = (HERE, silent_friend.port)
    dht = make_dht(rpc_timeout=60.0)
    await dht.start()
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:

            async def join() -> None:
                with pytest.raises(StateError, match="stopped"):
                    await dht.bootstrap([address])

            tasks.start_soon(join)
            await anyio.wait_all_tasks_blocked()
            await dht.stop()
    await dht.stop()
    with pytest.raises(StateError, match="stopped"):
        await dht.announce(CONTENT)


async def test_a_command_that_was_cancelled_leaves_nothing_behind() -> None:
    async with make_dht() as gone:
        address = (HERE, gone.port)
    async with make_dht(rpc_timeout=60.0) as dht:
        with anyio.move_on_after(0.001):
            await dht.bootstrap([address])
        assert dht._waiting == {}


async def test_a_start_that_is_cancelled_closes_the_socket() -> None:
    async with make_dht() as gone:
        port = gone.port
    dht = make_dht(rpc_timeout=60.0, bootstrap=[(HERE, port)])
    with anyio.move_on_after(0.001):
        await dht.start()
    assert dht._stopped


async def test_what_is_wrong_is_told_of() -> None:
    with pytest.raises(ConfigurationError, match="node_id is 65 bytes"):
        make_dht(bytes(65))
    with pytest.raises(ConfigurationError, match="alpha is 0"):
        make_dht(alpha=0)
    with pytest.raises(ConfigurationError, match="take one"):
        make_dht(saved_table=b"", table_path="contacts")
    with pytest.raises(TypeError, match="carrier is said by"):
        make_dht(carrier="session")
    with pytest.raises(StateError, match="not started"):
        make_dht().dht_id  # noqa: B018 - the property raises
    async with make_dht() as dht:
        with pytest.raises(StateError, match="started already"):
            await dht.start()
        with pytest.raises(ConfigurationError, match="bootstrap holds 'here'"):
            await dht.bootstrap(["here"])  # type: ignore[list-item]
        with pytest.raises(ConfigurationError, match="expected a port from 1 to 65535"):
            await dht.bootstrap([(HERE, 0)])
        assert repr(dht) == f"<KademliaDHT {HERE}:{dht.port}>"
