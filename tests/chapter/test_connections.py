"""The chapter's programs on nodes, connecting and what can go wrong with it."""

from __future__ import annotations

import hashlib
import logging
import os
import socket

import pytest

from stt_core.handshake.transcript import session_id
from tests.chapter.world import SEED, World, everywhere


@everywhere
async def test_connection_types(world: World) -> None:
    """UDP Connections; WebSocket Connections."""
    node = world.node(node_id=b"Alice", port=0, transport=world.transport)
    node.start()
    assert node.port


@everywhere
async def test_udp_is_the_default_transport(world: World) -> None:
    node = world.stt.STTNode(node_id=b"Alice", shared_seed=SEED, bind_address="127.0.0.1")
    async with node:
        session = await node.connect(("127.0.0.1", (await world.started(transport="udp")).port))
        assert session.path.transport == "udp"


@everywhere
async def test_connection_parameters(world: World) -> None:
    """Connection Parameters: two processes may share the port, here two nodes."""
    settings = {"bind_address": "127.0.0.1", "reuse_port": True, "recv_buffer_size": 2097152}
    node = world.node(node_id=b"Alice", port=0, **settings)
    node.start()
    other = world.node(node_id=b"Bob", port=node.port, **settings)
    other.start()
    assert other.port == node.port


@everywhere
async def test_initialization_and_handshake(world: World) -> None:
    """Phase 1: Initialization; Phase 2: Handshake."""
    alice_node = world.node(node_id=b"Alice-12345", port=0, shared_seed=b"correct-horse-battery-staple")
    alice_node.start()  # starts listening
    bob_node = world.node(node_id=b"Bob-67890", port=0, shared_seed=b"correct-horse-battery-staple")
    bob_node.start()
    session = await alice_node.connect(peer_address=world.address_of(bob_node), peer_node_id=b"Bob-67890")
    assert session.peer_node_id == b"Bob-67890"
    assert (await bob_node.accept()).peer_node_id == b"Alice-12345"


@everywhere
async def test_a_printed_seed_works_with_a_warning(world: World) -> None:
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("stt.node")
    logger.addHandler(handler)
    try:
        world.node(shared_seed=b"correct-horse-battery-staple").start()
    finally:
        logger.removeHandler(handler)
    assert any("weak" in record for record in records)
    assert not any("correct-horse" in record for record in records)


@everywhere
async def test_multiple_sessions(world: World) -> None:
    """Multiple Sessions: both sessions active concurrently, with keys of their own."""
    alice_node = world.node(node_id=b"Alice", port=0)
    alice_node.start()
    bob_node, carol_node = await world.started(node_id=b"Bob"), await world.started(node_id=b"Carol")

    session_bob = await alice_node.connect(world.address_of(bob_node), b"Bob")
    session_carol = await alice_node.connect(world.address_of(carol_node), b"Carol")

    assert session_bob.session_id != session_carol.session_id
    assert {session_bob, session_carol} == set(alice_node.get_active_sessions())
    for session, node in ((session_bob, bob_node), (session_carol, carol_node)):
        await session.open_stream().send(node.address[0].encode())
        stream = await (await node.accept()).accept_stream()
        assert await stream.receive() == b"127.0.0.1"
    await session_bob.close()
    assert alice_node.get_active_sessions() == [session_carol], "independent lifecycles"


@everywhere
async def test_session_identification(world: World) -> None:
    """Session Identification: 8 bytes, the same for both peers, another for each handshake."""
    async with world.alice_and_bob() as (session, theirs):
        assert len(bytes.fromhex(session.session_id.hex())) == 8
        assert session.session_id == theirs.session_id
    async with world.alice_and_bob() as (again, _):
        assert again.session_id != session.session_id


def test_the_session_id_mixes_nonces_and_node_ids() -> None:
    """``session_id = (nonce_xor + node_xor)[:8]``, with XOR for the plus: see docs/chapter.md."""
    nonces = os.urandom(32), os.urandom(32)
    ids = b"Alice", b"Bob"
    hashes = [hashlib.sha256(node_id).digest() for node_id in ids]
    mixed = [a ^ b ^ c ^ d for a, b, c, d in zip(*nonces, *hashes, strict=True)]
    assert session_id(*nonces, *ids) == bytes(mixed[:8])


@everywhere
async def test_handshake_timeout(world: World) -> None:
    """Timeout Handling: a peer that never answers, such as one that only connects to others."""
    silent = world.node(node_id=b"Bob")
    await silent.start(server_mode=False)
    alice_node = await world.started(node_id=b"Alice")
    with pytest.raises(TimeoutError):
        await alice_node.connect(peer_address=world.address_of(silent), peer_node_id=b"Bob", timeout=0.05)


@everywhere
async def test_connection_errors(world: World) -> None:
    """Connection Errors: each failure by the name the chapter gives it."""
    stt = world.stt
    seen = []

    async def attempt(address: object, **settings: object) -> None:
        node = await world.started(node_id=b"Alice", **settings)
        try:
            await node.connect(address, b"Bob", timeout=5)
        except stt.ConnectionRefusedError:
            seen.append("Peer not listening (wrong IP or port)")
        except stt.ConnectionTimeoutError:
            seen.append("Handshake timeout (peer slow/dead/wrong seed)")
        except stt.AuthenticationError:
            seen.append("Wrong shared_seed (authentication failed)")

    bob_node = await world.started(node_id=b"Bob")
    gone = await world.started()
    await gone.stop()
    await attempt(world.address(gone.port))
    await attempt(world.address_of(bob_node), shared_seed=b"another seed")
    await attempt(world.address_of(bob_node))
    assert seen == ["Peer not listening (wrong IP or port)", "Wrong shared_seed (authentication failed)"]


@everywhere
async def test_the_builtin_names_catch_them_too(world: World) -> None:
    """The chapter's ``except ConnectionRefusedError`` names the builtin, and ``TimeoutError`` a timeout."""
    assert issubclass(world.stt.ConnectionRefusedError, ConnectionRefusedError)
    assert issubclass(world.stt.ConnectionTimeoutError, TimeoutError)
    for name in ("AuthenticationError", "ConnectionTimeoutError", "SessionClosedError", "StreamClosedError"):
        assert issubclass(getattr(world.stt, name), ConnectionError)


@everywhere
async def test_retry_logic_and_exponential_backoff(world: World) -> None:
    """Retry logic; Exponential Backoff: the chapter's own loop, until the peer is there."""
    stt = world.stt
    gone = await world.started()
    port = gone.port
    await gone.stop()
    node = await world.started(node_id=b"Alice")
    slept = []

    async def connect_with_retry(peer_address: object, peer_node_id: bytes) -> object:
        delay = 0.01
        max_delay = 0.04
        while True:
            try:
                return await node.connect(peer_address, peer_node_id, timeout=10.0)
            except (stt.ConnectionTimeoutError, stt.ConnectionRefusedError):
                slept.append(delay)
                if len(slept) == 3:
                    await world.started(node_id=b"Bob", port=port)
                await world.loop.sleep(delay)
                delay = min(delay * 2, max_delay)

    session = await connect_with_retry(world.address(port), b"Bob")
    assert session.state == stt.SessionState.ESTABLISHED  # type: ignore[attr-defined]
    assert slept == [0.01, 0.02, 0.04]


@everywhere
async def test_buffer_sizes(world: World) -> None:
    """Buffer Sizes: the system's sockets have them, and what it granted can be read."""
    sizes = {"recv_buffer_size": 65536, "send_buffer_size": 32768}
    server = await world.started(node_id=b"Bob", **sizes)
    client = await world.started(node_id=b"Alice", **sizes)
    await client.connect(world.address_of(server))
    await server.accept()
    for node in (server, client):
        if world.transport == "udp":
            assert 65536 <= node.endpoint.config.receive_buffer_hint <= 4 * 65536, (
                "Linux grants twice what is asked for"
            )
            sockets = [node.socket]
        else:
            sockets = [*node._driver.hub.sources]
        for sock in sockets:
            with socket.socket(fileno=os.dup(sock.fileno())) as same:
                granted = [same.getsockopt(socket.SOL_SOCKET, what) for what in (socket.SO_RCVBUF, socket.SO_SNDBUF)]
            assert granted == [2 * 65536, 2 * 32768]


@everywhere
async def test_concurrent_sessions(world: World) -> None:
    """Concurrent Sessions: a server with many, each handled by itself."""
    node = world.node(node_id=b"Server", port=0, rate_limits=None)
    node.start()
    client = await world.started(node_id=b"Client")
    sessions = await world.loop.gather(*(client.connect(world.address_of(node)) for _ in range(30)))
    accepted = [await node.accept() for _ in sessions]
    assert {session.session_id for session in accepted} == {session.session_id for session in sessions}
    assert len(node.get_active_sessions()) == 30


@everywhere
async def test_frame_size_optimization(world: World) -> None:
    """Frame Size Optimization: what goes over a stream is the same whatever its frames."""
    data = bytes(range(256)) * 1024
    async with world.alice_and_bob() as (session, bob):
        for number, size in enumerate((65536, 16384, 4096), 1):
            stream = session.open_stream(stream_id=number, max_frame_size=size)
            await stream.send(data)
            assert await (await bob.accept_stream()).receive() == data
        with pytest.raises(ValueError, match="max_frame_size"):
            session.open_stream(max_frame_size=65537)
        stream = await session.open_stream_when_possible(mode="bytes", max_frame_size=4096)
        await stream.send(data)
        await stream.send_eof()
        other = await bob.accept_stream()
        assert b"".join([part async for part in other]) == data
