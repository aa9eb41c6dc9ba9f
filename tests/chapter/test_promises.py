"""What the chapter promises in its prose and no program of it shows; docs/chapter.md tells where the rest is shown."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.chapter.world import World, everywhere


async def joined(world: World, server: Any, client: Any) -> tuple[Any, Any]:
    """Both ends of a session, the client's first."""
    session = await client.connect(world.address_of(server))
    return session, await server.accept()


@everywhere
async def test_a_node_listens_on_all_interfaces_or_on_the_one_it_was_given(world: World) -> None:
    """Connection Parameters, bind_address: the whole of 127.0.0.0/8 is this machine's."""
    assert world.stt.STTNode(shared_seed=b"a seed of this test").bind_address == "0.0.0.0"
    client = await world.started()
    everywhere_node = await world.started(bind_address="0.0.0.0")
    one = await world.started()

    def elsewhere(node: Any) -> Any:
        return ("127.0.0.2", node.port) if world.transport == "udp" else f"ws://127.0.0.2:{node.port}"

    assert (await client.connect(elsewhere(everywhere_node))).alive
    with pytest.raises(world.stt.ConnectionRefusedError):
        await client.connect(elsewhere(one))


@everywhere
async def test_one_socket_serves_both_families(world: World) -> None:
    """Connection Parameters: an IPv6 address as bind_address carries IPv4 as well."""
    server = await world.started(bind_address="::")
    client = await world.started(bind_address="::")
    for host in ("127.0.0.1", "::1"):
        address = (
            (host, server.port)
            if world.transport == "udp"
            else f"ws://{'[::1]' if ':' in host else host}:{server.port}"
        )
        session = await client.connect(address)
        assert session.path.address[0] == host
        assert (await server.accept()).path.address[0] == host


@everywhere
async def test_streams_open_and_close_while_others_carry_data_both_ways(world: World) -> None:
    """During active phase: streams come and go, data flows both ways."""
    async with world.alice_and_bob() as (session, theirs):
        lasting = session.open_stream()
        await lasting.send(b"first")
        other_end = await theirs.accept_stream()
        for number in range(20):
            passing = (session, theirs)[number % 2].open_stream()
            await passing.send(b"%d" % number)
            accepted = await (theirs, session)[number % 2].accept_stream()
            assert await accepted.receive() == b"%d" % number
            await passing.close()
            await accepted.close()
            await other_end.send(b"still here")
            assert await lasting.receive() == b"still here"
        assert await other_end.receive() == b"first"


@everywhere
async def test_each_session_has_streams_and_a_life_of_its_own(world: World) -> None:
    """Multiple Sessions: independent encryption, streams and lifecycle."""
    alice = await world.started(node_id=b"Alice")
    bob, carol = await world.started(node_id=b"Bob"), await world.started(node_id=b"Carol")
    with_bob, bobs = await joined(world, bob, alice)
    with_carol, carols = await joined(world, carol, alice)
    assert with_bob.session_id != with_carol.session_id
    for session, text in ((with_bob, b"for Bob"), (with_carol, b"for Carol")):
        await session.open_stream(stream_id=1).send(text)
    assert await bobs.open_stream(stream_id=1).receive() == b"for Bob"
    assert await carols.open_stream(stream_id=1).receive() == b"for Carol"
    await with_bob.close()
    assert alice.get_active_sessions() == [with_carol]
    await with_carol.open_stream().send(b"as before", timeout=5)
    assert await (await carols.accept_stream()).receive() == b"as before"


@everywhere
async def test_the_session_id_is_another_for_each_handshake(world: World) -> None:
    """Session Identification: 8 bytes, unique per handshake, the same for both peers."""
    server, client = await world.started(), await world.started()
    ids = set()
    for _ in range(5):
        here, there = await joined(world, server, client)
        assert here.session_id == there.session_id
        assert len(here.session_id) == 8
        ids.add(here.session_id)
    assert len(ids) == 5


@everywhere
async def test_closing_frees_what_a_session_held_on_both_sides(world: World) -> None:
    """Orderly teardown: acknowledged, resources cleaned up, connection closed."""
    server, client = await world.started(), await world.started()
    here, there = await joined(world, server, client)
    await here.open_stream().send(b"words")
    await here.close()
    await there.wait_closed()
    assert (here.state, there.state) == (world.stt.SessionState.CLOSED, world.stt.SessionState.CLOSED)
    for node in (client, server):
        assert node.get_active_sessions() == []
        while node._driver.hub._links:
            await world.loop.sleep(0)


@everywhere
async def test_each_way_a_session_ends_has_its_reason(world: World) -> None:
    """Detecting Disconnection, reasons: timeout is in test_endurance, superseded in test_continuity. With a wrong seed
    there is no session, and nothing is tried again."""
    seen: list[str] = []
    server = await world.started()
    server.on_session_closed(lambda session_id, reason: seen.append(reason))
    client, stranger = await world.started(), await world.started(shared_seed=b"another seed entirely")
    for code, reason in ((0, "graceful"), (0x100, "graceful"), (2, "error")):
        here, there = await joined(world, server, client)
        await here.close(code)
        await there.wait_closed()
        assert seen.pop() == reason
    with pytest.raises(world.stt.AuthenticationError):
        await anext(aiter(stranger.reconnecting(world.address_of(server), first_delay=0.01)))
    while not seen:
        await world.loop.sleep(0)
    assert seen == ["auth_failure"]
    assert server.get_active_sessions() == stranger.get_active_sessions() == []


@everywhere
async def test_no_session_has_a_thread(world: World) -> None:
    """Concurrent Sessions: no thread-per-session overhead."""
    server, client = await world.started(), await world.started()
    before = threading.active_count()
    sessions = [await joined(world, server, client) for _ in range(20)]
    for here, there in sessions:
        await here.open_stream().send(b"hello")
        assert await (await there.accept_stream()).receive() == b"hello"
    assert threading.active_count() == before


@everywhere
async def test_a_server_accepts_without_being_asked_and_a_client_alone_does_not(world: World) -> None:
    """Server Mode: incoming connections are accepted automatically."""
    server = world.node()
    await server.start(server_mode=True)
    caller = world.node()
    await caller.start(server_mode=False)
    session = await caller.connect(world.address_of(server))
    while not server.get_active_sessions():  # nobody calls accept()
        await world.loop.sleep(0)
    assert [there.session_id for there in server.get_active_sessions()] == [session.session_id]
    with pytest.raises(ConnectionError):
        await server.connect(world.address_of(caller), timeout=0.05)


@everywhere
async def test_what_the_application_does_wrong_raises_at_once_and_ends_nothing(world: World) -> None:
    """What STT does NOT auto-recover: programming errors are the application's."""
    async with world.alice_and_bob() as (session, theirs):
        stream = session.open_stream()
        for wrong in ("text", 7, None):
            with pytest.raises(TypeError):
                await stream.send(wrong)
        with pytest.raises(ValueError, match="priority"):
            session.open_stream(priority=8)
        await stream.send(b"bytes", timeout=5)
        assert await (await theirs.accept_stream()).receive() == b"bytes"
