"""How a DHT behaves on a node: beside its sessions, or inside them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple

from stt_backends.behaviours.nodes import HOST, MakeNode
from stt_backends.behaviours.stack import Behaviour, Expect, Stack
from stt_core.affinity import ContentAffinityPool
from stt_core.dht import DHTNode, Outcome
from stt_core.errors import ConfigurationError, PoolMissError, SessionClosedError, StateError

CONTENT: Final = b"c" * 32
HASTE: Final = 0.1
"""Seconds a query has that nobody will answer."""


class Makers(NamedTuple):
    """What makes the subjects."""

    node: MakeNode
    """Gives a node for a free port of 127.0.0.1, which entering it starts; takes the settings of ``STTNode``."""
    dht: Callable[..., AbstractAsyncContextManager[Any]]
    """``KademliaDHT``."""


async def peers_are_found_inside_sessions(stack: Stack, make: Makers) -> None:
    """Private mode is the default of a DHT on a node; what was found is what ``connect`` takes; and the sessions that
    the DHT made for itself are nobody else's."""
    told: list[Any] = []
    async with make.node(node_id=b"Alice") as alice, make.node(node_id=b"Bob") as bob, make.node() as carol:
        for node in (alice, bob, carol):
            node.on_session_established(told.append)
        friends = [(HOST, alice.port)]
        async with (
            make.dht(node=alice) as first,
            make.dht(node=bob, bootstrap=friends) as serving,
            make.dht(node=carol, bootstrap=friends) as seeking,
        ):
            assert await serving.announce(CONTENT) == 2
            (peer,) = await seeking.find_providers(CONTENT)
            assert peer == DHTNode(b"Bob", HOST, bob.port)
            record = await first.get(await seeking.put(b"value", salt=b"name"))
            assert record.value == b"value"
            assert not told
            assert not any(node.get_active_sessions() for node in (alice, bob, carol))
            assert first.statistics()["outsiders"] == 0
            session = await carol.connect((peer.host, peer.port), peer.node_id)
            assert (await bob.accept()).session_id == session.session_id
            assert len(told) == 2


async def a_session_that_is_there_is_used(stack: Stack, make: Makers) -> None:
    """Messages travel with the application's own session, and leave it open."""
    async with make.node() as alice, make.node() as bob:
        async with make.dht(node=alice) as one, make.dht(node=bob) as other:
            session = await bob.connect((HOST, alice.port))
            theirs = await alice.accept()
            assert await other.bootstrap([(HOST, alice.port)]) == {(HOST, alice.port): Outcome.ANSWERED}
            assert (one.statistics()["contacts"], other.statistics()["contacts"]) == (1, 1)
            assert one.statistics()["sessions_made"] == other.statistics()["sessions_made"] == 0
        await session.open_stream(stream_id=1).send(b"still here")
        assert await (await theirs.accept_stream()).receive() == b"still here"


async def whoever_holds_another_seed_has_no_part_in_it(stack: Stack, make: Makers) -> None:
    """Not by datagrams of its own, nor by a session, which it can't make."""
    foreign = make.node(shared_seed=b"quite another seed than theirs")
    async with make.node() as alice, foreign as mallory, make.dht(node=alice) as hidden:
        address = (HOST, alice.port)
        for private in (True, False):
            async with make.dht(node=mallory, private=private, rpc_timeout=HASTE) as outsider:
                assert await outsider.bootstrap([address]) == {address: Outcome.NO_ANSWER}
                assert outsider.statistics()["contacts"] == 0
        assert hidden.statistics()["contacts"] == 0
        assert hidden.statistics()["answered"] == 0
        assert hidden.statistics()["outsiders"] > 0


async def one_socket_serves_sessions_and_an_open_dht(stack: Stack, make: Makers) -> None:
    """Without private mode, messages are datagrams beside the packets of sessions; others need no node."""
    async with (
        make.node(node_id=b"Bob") as bob,
        make.node() as carol,
        make.dht(node=bob, private=False) as serving,
        make.dht(port=0, bind_address=HOST, bootstrap=[(HOST, bob.port)]) as alone,
    ):
        assert serving.port == bob.port
        assert (bob.dht, carol.dht) == (serving, None)
        session = await carol.connect((HOST, bob.port))
        assert await serving.announce(CONTENT) == 1
        (peer,) = await alone.find_providers(CONTENT)
        assert peer == DHTNode(b"Bob", HOST, bob.port)
        assert session.alive


async def a_pool_learns_of_providers_and_of_ends(stack: Stack, make: Makers) -> None:
    """A miss names whom the DHT has found; a session that ends has left the pool when its end is told."""
    async with make.node(node_id=b"Bob") as bob, make.node() as carol:
        async with (
            make.dht(node=bob) as serving,
            make.dht(node=carol, bootstrap=[(HOST, bob.port)]) as seeking,
        ):
            await serving.announce(CONTENT)
            pool: ContentAffinityPool[Any] = ContentAffinityPool(dht=carol.dht)
            with Expect(PoolMissError):
                pool.get_session_for_content(CONTENT)
            assert await seeking.find_providers(CONTENT)
            with Expect(PoolMissError) as missed:
                pool.get_session_for_content(CONTENT)
            assert isinstance(missed.error, PoolMissError)
            peer: Any = missed.error.providers[0]
            session = await carol.connect((peer.host, peer.port), peer.node_id)
        pool.add_session(session, CONTENT)
        theirs = await bob.accept()
        assert pool.get_session_for_content(CONTENT) is session
        sizes: list[int] = []
        carol.on_session_closed(lambda session_id, reason: sizes.append(len(pool)))
        await theirs.close()
        while not sizes:
            await stack.checkpoint()
        assert sizes == [0]
        assert pool.statistics().departed == 1


async def either_can_stop_first(stack: Stack, make: Makers) -> None:
    """The node goes on without its DHT, and may get another; the DHT ends with its node, and so does what waits."""
    async with make.node() as friend, make.node() as node:
        async with make.dht(node=node) as dht:
            with Expect(StateError) as refused:
                async with make.dht(node=node):
                    pass
            assert "already" in str(refused.error)
        with Expect(StateError):
            await dht.announce(CONTENT)
        session = await node.connect((HOST, friend.port))
        async with make.dht(node=node, rpc_timeout=60.0) as dht, stack.open_group() as group:

            async def wait() -> None:
                with Expect(StateError):
                    await dht.bootstrap([(HOST, friend.port)])  # which has no DHT

            group.start_soon(wait)
            await stack.wait_all_tasks_blocked()
            await node.stop()
        with Expect(SessionClosedError):
            await session.open_stream().send(b"over")
        with Expect(StateError):
            await make.dht(node=node).__aenter__()


async def a_dht_needs_udp(stack: Stack, make: Makers) -> None:
    """Where others are told to find it."""
    async with make.node(transport="websocket") as node:
        with Expect(ConfigurationError):
            await make.dht(node=node).__aenter__()
        with Expect(ConfigurationError):
            make.dht(node=node, port=1)
    with Expect(ConfigurationError):
        make.dht(private=True)


DHTS: Final[tuple[Behaviour[Makers], ...]] = (
    peers_are_found_inside_sessions,
    a_session_that_is_there_is_used,
    whoever_holds_another_seed_has_no_part_in_it,
    one_socket_serves_sessions_and_an_open_dht,
    a_pool_learns_of_providers_and_of_ends,
    either_can_stop_first,
    a_dht_needs_udp,
)
"""What a DHT on a node does."""
