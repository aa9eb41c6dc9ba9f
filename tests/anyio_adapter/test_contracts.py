"""What anyio's interfaces promise: attributes, listeners, connectables, datagrams."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.abc import SocketAttribute

from stt_anyio import ByteStream, MessageStream, STTAttribute, STTNode, STTSession
from tests.anyio_adapter.net import address_of, make_node, two_nodes, two_sessions

pytestmark = pytest.mark.anyio


async def test_sessions_and_streams_tell_their_attributes_through_whatever_wraps_them() -> None:
    async with two_sessions({"node_id": b"Alice"}, {"node_id": b"Bob", "node_seed": b"0123456789abcdef"}) as both:
        here, there = both
        stream = here.open_byte_stream(purpose="video")
        await stream.send(b"x")
        theirs = await there.accept_stream()
        assert {stream.extra(STTAttribute.session_id), theirs.extra(STTAttribute.session_id)} == {here.session_id}
        assert stream.extra(STTAttribute.peer_node_id) == b"Bob"
        assert theirs.extra(STTAttribute.peer_node_id) == b"Alice"
        assert stream.extra(STTAttribute.peer_identity_key) == here.peer_identity_key
        assert stream.extra(STTAttribute.stream_id) == stream.stream_id
        assert theirs.extra(STTAttribute.purpose) == "video"
        assert here.extra(STTAttribute.purpose, None) is None
        server = there.node
        assert isinstance(server, STTNode)
        assert stream.extra(SocketAttribute.remote_address) == address_of(server)
        assert stream.extra(SocketAttribute.remote_port) == theirs.extra(SocketAttribute.local_port) == server.port
        assert theirs.extra(SocketAttribute.local_address) == address_of(server)
        assert stream.extra(SocketAttribute.family) is socket.AF_INET
        assert here.datagrams().extra(STTAttribute.session_id) == here.session_id
        assert here.listener().extra(STTAttribute.session_id) == here.session_id


async def test_connectables_open_streams_that_a_listener_serves() -> None:
    async def echo(stream: MessageStream | ByteStream) -> None:
        async with stream:
            async for item in stream:
                await stream.send(item)

    async with two_sessions() as (here, there), anyio.create_task_group() as tasks:
        listener: anyio.abc.Listener[MessageStream | ByteStream] = there.listener()
        tasks.start_soon(listener.serve, echo)
        connectables: list[anyio.abc.ByteStreamConnectable | anyio.abc.ObjectStreamConnectable[bytes]] = [
            here.connectable(purpose="bytes"),
            here.message_connectable(purpose="messages"),
        ]
        for connectable in connectables:
            async with await connectable.connect() as stream:
                await stream.send(b"back")
                assert await stream.receive() == b"back"
        tasks.cancel_scope.cancel()


async def test_a_node_is_listened_to_in_a_task_group_of_the_callers() -> None:
    ended = anyio.Event()

    async def handle(session: STTSession) -> None:
        async with session:
            stream = await session.accept_stream()
            await stream.send(await stream.receive())
            await session.wait_closed()
        ended.set()

    async def serve() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await listener.serve(handle, handlers)

    async with two_nodes() as (client, server), anyio.create_task_group() as handlers:
        listener = server.listener()
        async with anyio.create_task_group() as serving:
            serving.start_soon(serve)
            session = await client.connect(address_of(server))
            stream = session.open_stream()
            await stream.send(b"back")
            assert await stream.receive() == b"back"
            await listener.aclose()
        assert session.alive
        await session.close()
        await ended.wait()


async def test_serve_starts_in_a_task_group() -> None:
    async def handle(session: STTSession) -> None:
        await session.wait_closed()

    async with two_nodes() as (client, server), anyio.create_task_group() as tasks:
        await tasks.start(server.serve, handle)
        await (await client.connect(address_of(server))).close()
        await server.stop()


@pytest.mark.parametrize("wait", ["accept", "incoming", "serve"])
async def test_a_node_that_was_not_started_has_nobody_to_wait_for(wait: str) -> None:
    async def iterate() -> None:
        async for _ in make_node().incoming():
            pass

    async def handle(_: STTSession) -> None:
        pass

    waits: dict[str, Callable[[], Awaitable[Any]]] = {
        "accept": lambda: make_node().accept(),
        "incoming": iterate,
        "serve": lambda: make_node().serve(handle),
    }
    with pytest.raises(RuntimeError, match="isn't started"):
        await waits[wait]()


async def test_datagrams_are_an_unreliable_stream_that_ends_with_the_session() -> None:
    async with two_sessions() as (here, there):
        ours: anyio.abc.UnreliableObjectStream[bytes] = here.datagrams()
        theirs = there.datagrams()
        await ours.send(b"whole")
        assert await theirs.receive() == b"whole"
        await here.close()
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()
        await theirs.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await theirs.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await theirs.send(b"x")


async def test_closing_the_datagrams_ends_a_receive_and_not_the_session() -> None:
    async def receive() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await datagrams.receive()

    async with two_sessions() as (here, _), here.datagrams() as datagrams:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await datagrams.receive()
            await datagrams.aclose()
        assert here.alive


async def test_ending_twice_is_fine_and_asking_for_nothing_is_not() -> None:
    async with two_sessions() as (here, _):
        stream = here.open_byte_stream()
        await stream.send_eof()
        await stream.send_eof()
        with pytest.raises(ValueError, match="max_bytes is 0"):
            await stream.receive(0)
