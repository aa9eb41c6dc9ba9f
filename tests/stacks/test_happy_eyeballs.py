"""A name with several addresses (RFC 8305): whichever answers is it, and nobody waits for those that don't."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from stt_backends.adapter.racing import ATTEMPT_DELAY, Found, interleaved
from stt_core.errors import AuthenticationError, ConnectionRefusedError, ConnectionTimeoutError
from tests.anyio_adapter.net import Cable
from tests.chapter.world import STACKS, Stack, World, everywhere

SOON = 0.005
"""Seconds until the next address is tried."""
NEVER = 3600.0
FAMILIES = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


def resolve_to(node: Any, *addresses: tuple[str, int], delay: float = SOON) -> None:
    """Every name has these addresses, as far as ``node`` knows."""
    found: Found = [(FAMILIES[host], 0, 0, "", (host, port)) for host, port in addresses]

    async def resolve(_: object) -> Found:
        return found

    node.resolve = resolve
    node._dialer.attempt_delay = delay


def name(world: World) -> Any:
    return ("peer.example", 1) if world.transport == "udp" else "ws://peer.example:1/"


@contextmanager
def nobody(world: World, host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """An address where whatever comes is never read."""
    kind = socket.SOCK_DGRAM if world.transport == "udp" else socket.SOCK_STREAM
    with socket.socket(FAMILIES[host], kind) as sock:
        sock.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield sock.getsockname()[:2]


def nothing(world: World) -> tuple[str, int]:
    """An address where nothing listens."""
    with nobody(world) as address:
        return address


def is_at_rest(node: Any) -> bool:
    """Whether no connect is under way: no handshake, no connection that is to be opened, no alarm."""
    hub, dialer = node._driver.hub, node._dialer
    return not (hub._waiters or hub._alarms or dialer._by_key or dialer._all)


@everywhere
async def test_an_address_that_does_not_answer_is_not_waited_for(world: World) -> None:
    server = await world.started()
    client = await world.started(transport="udp", bind_address="::")
    with nobody(world, "::1") as silent:
        resolve_to(client, silent, ("127.0.0.1", server.port))
        session = await client.connect(name(world))
    assert session.session_id == (await server.accept()).session_id
    assert session.path.address[:2] == ("127.0.0.1", server.port)
    await session.close()
    assert is_at_rest(client)


@everywhere
async def test_where_nothing_listens_the_next_is_tried_at_once(world: World) -> None:
    server = await world.started()
    client = await world.started(transport="udp")
    resolve_to(client, nothing(world), ("127.0.0.1", server.port), delay=NEVER)
    session = await client.connect(name(world))
    assert session.session_id == (await server.accept()).session_id


@everywhere
async def test_where_none_answers_it_says_why(world: World) -> None:
    client = await world.started(transport="udp")
    resolve_to(client, nothing(world), nothing(world))
    with pytest.raises(ConnectionRefusedError):
        await client.connect(name(world))
    with nobody(world) as silent:
        resolve_to(client, silent, silent[::1])
        with pytest.raises(ConnectionTimeoutError):
            await client.connect(name(world), timeout=4 * SOON)
    assert is_at_rest(client)


@everywhere
async def test_one_session_comes_of_addresses_that_all_answer(world: World) -> None:
    servers = [await world.started(), await world.started()]
    client = await world.started(transport="udp")
    resolve_to(client, *(("127.0.0.1", server.port) for server in servers), delay=0.0)
    established: list[Any] = []
    client.on_session_established(established.append)
    for number in range(1, 6):
        session = await client.connect(name(world))
        assert len(established) == number
        assert client.get_active_sessions() == [session]
        await session.open_stream().send(b"hello", timeout=5.0)
        assert sum(len(server.get_active_sessions()) for server in servers) == 1
        await session.close()


@everywhere
async def test_a_wrong_seed_is_not_tried_on_the_next_address(world: World) -> None:
    stranger, server = await world.started(shared_seed=b"another seed entirely"), await world.started()
    client = await world.started(transport="udp")
    resolve_to(client, ("127.0.0.1", stranger.port), ("127.0.0.1", server.port), delay=NEVER)
    with pytest.raises(AuthenticationError):
        await client.connect(name(world))
    assert server.statistics()["received"] == 0
    assert is_at_rest(client)


@pytest.mark.parametrize("stack", STACKS, ids=[stack.name for stack in STACKS])
def test_whoever_has_answered_is_not_raced(stack: Stack) -> None:
    async def program(world: World) -> None:
        slow, other = await world.started(), await world.started()
        Cable(slow).answers = 1  # its CHALLENGE; and then no more
        client = await world.started()
        resolve_to(client, ("127.0.0.1", slow.port), ("127.0.0.1", other.port), delay=NEVER)

        async def connect() -> None:
            await client.connect(name(world))

        async with world.loop.stack.open_group() as group:
            group.start_soon(connect)
            while not any(client.endpoint.session(key).challenged for key in client._dialer._by_key):
                await world.loop.sleep(0)
            (connecting,) = client._dialer._all
            client._dialer._try_another(connecting)  # as if the delay were over
            assert (len(connecting.keys), len(connecting.addresses)) == (1, 1)
            assert connecting.alarm in client._driver.hub._alarms
            group.cancel_scope.cancel()
        assert is_at_rest(client)

    stack.run(program, "udp")


@everywhere
async def test_cancelling_ends_whatever_was_tried(world: World) -> None:
    client = await world.started(transport="udp")
    with nobody(world) as one, nobody(world) as other:
        resolve_to(client, one, other, delay=0.0)

        async def connect() -> None:
            await client.connect(name(world))

        await world.loop.cut(connect, turns=10)
    assert is_at_rest(client)
    assert client.statistics()["sessions"] == 0
    assert not client._driver.hub._links


@everywhere
async def test_stopping_ends_whatever_was_tried(world: World) -> None:
    client = await world.started(transport="udp")
    with nobody(world) as one, nobody(world) as other:
        resolve_to(client, one, other, delay=SOON)

        async def connect() -> None:
            with pytest.raises(ConnectionError, match="stopped"):
                await client.connect(name(world))

        async with world.loop.stack.open_group() as group:
            group.start_soon(connect)
            while not client._dialer._all:
                await world.loop.sleep(0)
            await client.stop()


def test_families_take_turns_and_the_systems_first_choice_is_the_first() -> None:
    found: Found = [
        (socket.AF_INET6, 0, 0, "", ("2001:db8::1", 1, 0, 0)),
        (socket.AF_INET6, 0, 0, "", ("2001:db8::2", 1, 0, 0)),
        (socket.AF_INET6, 0, 0, "", ("2001:db8::1", 1, 0, 0)),
        (socket.AF_INET6, 0, 0, "", ("2001:db8::3", 1, 0, 0)),
        (socket.AF_INET, 0, 0, "", ("192.0.2.1", 1)),
    ]
    assert [address[0] for _, address in interleaved(found)] == [
        "2001:db8::1",
        "192.0.2.1",
        "2001:db8::2",
        "2001:db8::3",
    ]
    assert interleaved([]) == []


def test_the_delay_is_what_the_rfc_recommends() -> None:
    assert ATTEMPT_DELAY == 0.25  # RFC 8305 section 8
