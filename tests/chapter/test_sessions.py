"""The chapter's programs on sessions and streams, and how they end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chapter.world import World, everywhere


@everywhere
async def test_active_session_and_teardown(world: World) -> None:
    """Phase 3: Active Session; Phase 4: Teardown."""
    async with world.alice_and_bob() as (session, theirs):
        stream = session.open_stream(purpose="file_transfer")
        await stream.send(b"Hello Bob!")

        accepted = await theirs.accept_stream()
        assert accepted.purpose == "file_transfer"
        assert await accepted.receive() == b"Hello Bob!"
        await accepted.send(b"Hello Alice!")
        data = await stream.receive()
        assert data == b"Hello Alice!"

        await stream.close()
        await session.close()
        await session.node.stop()
        await theirs.wait_closed()
        assert theirs.state == world.stt.SessionState.CLOSED


@everywhere
async def test_session_state(world: World) -> None:
    """Check state: ESTABLISHED until it is closed, CLOSED from then on."""
    SessionState = world.stt.SessionState
    async with world.alice_and_bob() as (session, theirs):
        stream = session.open_stream()
        if session.state == SessionState.ESTABLISHED:
            await stream.send(b"safe to send")
        assert await (await theirs.accept_stream()).receive() == b"safe to send"
        await session.close()
        assert session.state == SessionState.CLOSED
        assert {"INIT", "HANDSHAKING", "ESTABLISHED", "CLOSING", "CLOSED"} <= {state.name for state in SessionState}


@everywhere
async def test_content_affinity_session_pooling(world: World) -> None:
    """Content-Affinity Session Pooling: related content is asked of the same session, else there is a miss."""
    stt = world.stt
    node = await world.started()
    peer = await world.started(node_id=b"peer")
    pool = stt.ContentAffinityPool(dht=node.dht, max_pool_size=100)
    initial_content, related_content = b"chapter one " * 100, b"chapter one " * 101
    session = await node.connect(world.address_of(peer), b"peer")
    pool.add_session(session, stt.affinity_hash(initial_content))
    related_hash = stt.affinity_hash(related_content)
    assert pool.get_session_for_content(related_hash) is session

    pool.remove(session)
    try:
        session = pool.get_session_for_content(related_hash)
        pytest.fail("there is no session in it")
    except stt.PoolMissError:
        session = await node.connect(world.address_of(peer), b"peer")
        pool.add_session(session, related_hash)
    assert pool.get_session_for_content(related_hash) is session


@everywhere
async def test_dht_based_discovery(world: World) -> None:
    """DHT-Based Discovery: peers that serve content are found, and connected to, without knowing where they are."""
    stt = world.stt
    node, server = await world.started(), await world.started(node_id=b"Bob")
    my_file_data = b"what Bob has" * 1000
    here = {"port": 0, "bind_address": "127.0.0.1"}
    first = stt.KademliaDHT(**here)
    await first.start()
    friends = [("127.0.0.1", first.port)]
    dht = stt.KademliaDHT(bootstrap=friends, **here)
    await dht.start()
    async with stt.KademliaDHT(node_id=b"Bob", bootstrap=friends, announced_port=server.port, **here) as bob:
        content_dist = stt.ContentDistribution(dht=bob, node_id=b"Bob")
        content_id = await content_dist.publish_content(my_file_data)
        peers = await dht.find_providers(content_id)
        assert peers == [stt.DHTNode(node_id=b"Bob", host="127.0.0.1", port=server.port)]
        for peer in peers:
            try:
                session = await node.connect(world.address(peer.port), peer.node_id)
                break
            except ConnectionError:
                continue
        assert session.peer_node_id == b"Bob"
        await content_dist.aclose()
    await dht.stop()
    await first.stop()


@everywhere
async def test_content_distribution(world: World) -> None:
    """ "This enables Seigr ecosystem content distribution": what one publishes another fetches, by its name alone."""
    stt = world.stt
    both = {"transport": "both"}  # providers are found at UDP addresses
    bob, alice = await world.started(node_id=b"Bob", **both), await world.started(node_id=b"Alice", **both)
    friends = [("127.0.0.1", bob.port)]
    async with world.loop.stack.open_group() as group:
        dhts = stt.KademliaDHT(node=bob), stt.KademliaDHT(node=alice, bootstrap=friends)
        async with dhts[0], dhts[1], stt.ContentDistribution(dhts[0], b"Bob", node=bob) as content_dist:
            group.start_soon(bob.serve, content_dist.serve)
            content_id = await content_dist.publish_content(b"what Bob has" * 1000)
            async with stt.ContentDistribution(dhts[1], b"Alice", node=alice) as mine:
                fetched = [part async for part in mine.fetch(content_id)]
                assert b"".join(fetched) == b"what Bob has" * 1000
                assert [peer.address for peer in await mine.find_providers(content_id)] == friends
        group.cancel_scope.cancel()


@everywhere
async def test_keep_alive(world: World) -> None:
    """Keep-Alive Mechanism: configured at the node, and the session outlives what would be silence."""
    async with world.alice_and_bob(keep_alive_interval=0.02, keep_alive_timeout=0.2) as (session, theirs):
        while theirs.statistics().packets_received < 10:  # nobody sends anything else
            await world.loop.sleep(0.01)
        assert session.alive
        assert theirs.alive


@everywhere
async def test_keep_alive_defaults(world: World) -> None:
    """10 seconds between keep-alives, 30 until a silent peer is given up."""
    node = await world.started()
    assert (node.endpoint.config.keep_alive_interval, node.endpoint.config.keep_alive_timeout) == (10.0, 30.0)


@everywhere
async def test_stream_send_timeout(world: World) -> None:
    """Stream send timeout: acknowledged in time, or TimeoutError."""
    async with world.alice_and_bob(stream_window=16_384) as (session, theirs):
        stream = session.open_stream()
        await stream.send(b"data", timeout=10.0)
        with pytest.raises(TimeoutError):
            await stream.send(bytes(1_000_000), timeout=0.05)  # nobody reads it
        assert await (await theirs.accept_stream()).receive() == b"data"


@everywhere
async def test_session_errors(world: World) -> None:
    """Session Errors: by the names of the chapter."""
    stt = world.stt
    async with world.alice_and_bob() as (session, theirs):
        seen = []
        stream, other = session.open_stream(), session.open_stream()
        await other.close()
        await theirs.close()
        await session.wait_closed()
        for attempt in (other, stream):
            try:
                await attempt.send(b"large data")
            except stt.SessionClosedError:
                seen.append("Session closed while sending (peer disconnected)")
            except stt.StreamClosedError:
                seen.append("Stream closed (application-level close)")
        assert seen == [
            "Stream closed (application-level close)",
            "Session closed while sending (peer disconnected)",
        ]


@everywhere
async def test_reconnecting_after_a_lost_session(world: World) -> None:
    """Handle gracefully: a new session, and the send once more on it."""
    stt = world.stt
    node = await world.started(node_id=b"Alice")
    peer = await world.started(node_id=b"Bob")
    session = await node.connect(world.address_of(peer), b"Bob")
    stream = session.open_stream()
    await (await peer.accept()).close()
    await session.wait_closed()
    try:
        await stream.send(b"data")
        pytest.fail("it was sent on a session that is over")
    except stt.SessionClosedError:
        session = await node.connect(world.address_of(peer), b"Bob")
        await session.open_stream().send(b"data")
    assert await (await (await peer.accept()).accept_stream()).receive() == b"data"


@everywhere
async def test_detecting_disconnection(world: World) -> None:
    """Detecting Disconnection: the callback, sync or async, with the session's id and the reason."""
    seen = []

    def on_session_closed(session_id: bytes, reason: str) -> None:
        seen.append((session_id.hex(), reason))

    async def on_session_closed_async(session_id: bytes, reason: str) -> None:
        await world.loop.sleep(0)
        seen.append((session_id.hex(), reason))

    node = await world.started(node_id=b"Alice")
    node.on_session_closed(on_session_closed)
    node.on_session_closed(on_session_closed_async)
    peer = await world.started(node_id=b"Bob")
    session = await node.connect(world.address_of(peer))
    await session.close()
    while len(seen) < 2:
        await world.loop.sleep(0)
    assert seen == [(session.session_id.hex(), "graceful")] * 2


@everywhere
async def test_server_mode(world: World) -> None:
    """Server Mode: to all, and to some."""
    server = world.node(node_seed=bytes(range(32)), port=0)
    await server.start(server_mode=True)
    clients = [await world.started() for _ in range(3)]
    viewers = [await client.connect(world.address_of(server)) for client in clients]
    while len(server.get_active_sessions()) < 3:
        await server.accept()
    streams = [viewer.open_stream(stream_id=1) for viewer in viewers]

    await server.send_to_all(b"Broadcast message", stream_id=1)
    session_ids = [session.session_id for session in server.get_active_sessions()]
    await server.send_to_sessions(session_ids[:2], b"Targeted message")

    assert [await stream.receive() for stream in streams] == [b"Broadcast message"] * 3
    targeted = [stream for stream, viewer in zip(streams, viewers, strict=True) if viewer.session_id in session_ids[:2]]
    assert [await stream.receive() for stream in targeted] == [b"Targeted message"] * 2


@everywhere
async def test_request_response(world: World) -> None:
    """Request-Response."""
    async with world.alice_and_bob() as (session, theirs):

        async def client() -> None:
            stream = session.open_stream()
            await stream.send(b"GET /resource")
            response = await stream.receive()
            await stream.close()
            assert response == b"the resource"

        async def server() -> None:
            stream = await theirs.accept_stream()
            assert await stream.receive() == b"GET /resource"
            await stream.send(b"the resource")

        await world.loop.gather(client(), server())


@everywhere
async def test_bidirectional_streaming(world: World) -> None:
    """Bidirectional Streaming: a loop each way on one stream, at once."""
    async with world.alice_and_bob() as (session, theirs):

        async def send_loop(stream: Any, name: bytes) -> None:
            for number in range(50):
                await stream.send(b"%s %d" % (name, number))
                await world.loop.sleep(0)

        async def receive_loop(stream: Any, name: bytes) -> None:
            for number in range(50):
                assert await stream.receive() == b"%s %d" % (name, number)

        ours, other = session.open_stream(stream_id=1), theirs.open_stream(stream_id=1)
        await world.loop.gather(
            send_loop(ours, b"alice"),
            receive_loop(ours, b"bob"),
            send_loop(other, b"bob"),
            receive_loop(other, b"alice"),
        )


@everywhere
async def test_multiplexed_streams(world: World) -> None:
    """Multiplexed Streams: each by the number and the purpose both know it by."""
    async with world.alice_and_bob() as (session, theirs):
        stream_video = session.open_stream(stream_id=1, purpose="video")
        stream_audio = session.open_stream(stream_id=2, purpose="audio")
        stream_chat = session.open_stream(stream_id=3, purpose="chat")
        await stream_video.send(b"frame" * 20_000)
        await stream_audio.send(b"sample")
        await stream_chat.send(b"message")
        for _ in range(3):
            stream = await theirs.accept_stream()
            assert theirs.get_stream(stream.stream_id) is stream
        assert [theirs.get_stream(n).purpose for n in (1, 2, 3)] == ["video", "audio", "chat"]
        assert await theirs.get_stream(3).receive() == b"message"
        assert await theirs.get_stream(2).receive() == b"sample"
        assert await theirs.get_stream(1).receive() == b"frame" * 20_000


@everywhere
async def test_no_data_loss_for_confirmed_sends(world: World) -> None:
    """Ungraceful shutdown: what was acknowledged can be read, also once the session is gone."""
    async with world.alice_and_bob() as (session, theirs):
        stream = session.open_stream()
        for number in range(20):
            await stream.send(b"%d" % number, timeout=5)
        accepted = await theirs.accept_stream()
        await session.close()
        await theirs.wait_closed()
        assert [await accepted.receive() for _ in range(20)] == [b"%d" % number for number in range(20)]
