"""How nodes and sessions behave, by the names of the chapter that both adapters have."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Self

from stt_backends.behaviours.stack import Behaviour, Expect, Stack, block
from stt_core.errors import (
    AuthenticationError,
    ConnectionRefusedError,
    PeerKeyError,
    SendTimeoutError,
    SessionClosedError,
    StateError,
    StreamLimitError,
)
from stt_core.pins import MemoryPinStore

MakeNode = Callable[..., AbstractAsyncContextManager[Any]]
"""Gives a node for a free port of 127.0.0.1, which entering it starts; takes the settings of ``STTNode``."""

HOST: Final = "127.0.0.1"


@asynccontextmanager
async def _joined(make: MakeNode, **client: Any) -> AsyncIterator[tuple[Any, Any]]:
    """Both ends of a session, the caller's first."""
    async with make() as server, make(**client) as caller:
        here = await caller.connect((HOST, server.port))
        yield here, await server.accept()


class _Log(logging.Handler):
    """What nodes log while this is entered; it goes on to where it went."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)

    def count(self, kind: type[BaseException]) -> int:
        """How many records tell of such an exception."""
        return sum(record.exc_info is not None and record.exc_info[0] is kind for record in self._records)

    def __enter__(self) -> Self:
        logging.getLogger("stt.node").addHandler(self)
        return self

    def __exit__(self, *details: object) -> None:
        logging.getLogger("stt.node").removeHandler(self)


async def both_ends_of_a_session_know_each_other(stack: Stack, make: MakeNode) -> None:
    """One id, each the other's label."""
    async with make(node_id=b"Bob") as server, make(node_id=b"Alice") as client:
        here = await client.connect((HOST, server.port), b"Bob")
        there = await server.accept()
        assert here.session_id == there.session_id
        assert (here.peer_node_id, there.peer_node_id) == (b"Bob", b"Alice")
        assert client.get_active_sessions() == [here]
        assert server.get_active_sessions() == [there]


async def a_stream_says_what_it_is_for(stack: Stack, make: MakeNode) -> None:
    """Purpose and priority are visible to the peer."""
    async with _joined(make) as (here, there):
        await here.open_stream(purpose="video", priority=1).send(b"frame")
        stream = await there.accept_stream()
        assert (stream.purpose, stream.priority) == ("video", 1)
        assert there.get_stream(stream.stream_id) is stream


async def a_number_both_open_is_one_stream(stack: Stack, make: MakeNode) -> None:
    """Shared ids, 1 to 2^20."""
    async with _joined(make) as (here, there):
        ours, theirs = here.open_stream(stream_id=3), there.open_stream(stream_id=3)
        await ours.send(b"to")
        assert await theirs.receive() == b"to"
        await theirs.send(b"fro")
        assert await ours.receive() == b"fro"


async def streams_do_not_wait_for_each_other(stack: Stack, make: MakeNode) -> None:
    """One that nobody reads holds up no other."""
    async with _joined(make) as (here, there), stack.open_group() as group:
        stuck = here.open_byte_stream()
        await block(stack, group, stuck.send, bytes(50_000_000))
        lively = here.open_stream()
        await lively.send(b"past it")
        await there.accept_stream()
        assert await (await there.accept_stream()).receive() == b"past it"
        group.cancel_scope.cancel()


async def datagrams_arrive_whole(stack: Stack, make: MakeNode) -> None:
    """Sent by the session, or by what ``datagrams()`` gives."""
    async with _joined(make) as (here, there):
        assert await here.send_datagram(b"one")
        assert await there.receive_datagram() == b"one"
        await there.datagrams().send(b"two")
        assert await here.datagrams().receive() == b"two"


async def a_wrong_seed_is_an_authentication_error(stack: Stack, make: MakeNode) -> None:
    """On the side that calls, and it is a ``ConnectionError``."""
    async with make() as server, make(shared_seed=b"some other seed, as long") as client:
        with Expect(AuthenticationError) as expected:
            await client.connect((HOST, server.port))
        assert isinstance(expected.error, ConnectionError)


async def an_identity_is_pinned_on_first_use(stack: Stack, make: MakeNode) -> None:
    """Whoever comes or answers under a name that was pinned must prove the same identity; a pin stays."""
    pins = MemoryPinStore()
    async with make(node_id=b"Bob", node_seed=b"the seed of Bob alone") as bob, make(pins=pins) as caller:
        here = await caller.connect((HOST, bob.port), b"Bob")
        assert pins.pinned(b"Bob") == here.peer_identity_key is not None
    async with make(node_id=b"Bob", node_seed=b"another one's own seed") as other, make(pins=pins) as caller:
        with Expect(PeerKeyError) as expected:
            await caller.connect((HOST, other.port), b"Bob")
        assert isinstance(expected.error, AuthenticationError)
        with Expect(ConnectionRefusedError):
            await other.connect((HOST, caller.port))
    assert pins.pinned(b"Bob") == here.peer_identity_key


async def a_port_where_nobody_listens_refuses(stack: Stack, make: MakeNode) -> None:
    """As the builtin says it."""
    async with make() as gone:
        port = gone.port
    async with make() as client:
        with Expect(ConnectionRefusedError):
            await client.connect((HOST, port))


async def an_accept_that_is_cancelled_loses_no_session(stack: Stack, make: MakeNode) -> None:
    """The next one gets it."""
    async with make() as server, make() as client:
        async with stack.open_group() as group:
            await block(stack, group, server.accept)
            group.cancel_scope.cancel()
        here = await client.connect((HOST, server.port))
        assert (await server.accept()).session_id == here.session_id


async def a_connect_that_is_cancelled_leaves_nothing(stack: Stack, make: MakeNode) -> None:
    """No session on this side."""
    async with make() as server, make() as client:
        with stack.cancel_scope() as scope:
            scope.cancel()
            await client.connect((HOST, server.port))
        assert scope.cancelled_caught
        assert client.get_active_sessions() == []


async def closing_is_told_to_the_peer_and_to_callbacks(stack: Stack, make: MakeNode) -> None:
    """``graceful``, by sync and async callbacks alike; what waits for the session hears of it."""
    told: list[tuple[bytes, str]] = []

    async def later(session_id: bytes, reason: str) -> None:
        await stack.checkpoint()
        told.append((session_id, reason))

    async def receive(stream: Any) -> None:
        with Expect(SessionClosedError) as expected:
            await stream.receive()
        assert isinstance(expected.error, stack.broken)

    async with _joined(make) as (here, there):
        there.node.on_session_closed(lambda *details: told.append(details))
        there.node.on_session_closed(later)
        async with stack.open_group() as group:
            await block(stack, group, receive, there.open_stream())
            await here.close()
            await there.wait_closed()
        with Expect(SessionClosedError):
            there.open_stream()
    assert told == [(here.session_id, "graceful")] * 2


async def a_handler_that_crashes_ends_its_own_session_only(stack: Stack, make: MakeNode) -> None:
    """And is logged."""

    async def handle(session: Any) -> None:
        stream = await session.accept_stream()
        if await stream.receive() == b"crash":
            raise ZeroDivisionError
        await stream.send(b"fine")
        await session.wait_closed()

    with _Log() as log:
        async with make() as server, make() as client, stack.open_group() as group:
            group.start_soon(server.serve, handle)
            good, bad = [await client.connect((HOST, server.port)) for _ in range(2)]
            await bad.open_stream().send(b"crash")
            await bad.wait_closed()
            stream = good.open_stream()
            await stream.send(b"well?")
            assert await stream.receive() == b"fine"
            await good.close()
            await server.stop()
    assert log.count(ZeroDivisionError) == 1


async def a_limit_on_streams_is_an_error_or_a_wait(stack: Stack, make: MakeNode) -> None:
    """As the caller likes; a stream that is over makes room for another."""

    async def open_another(session: Any) -> None:
        await (await session.open_stream_when_possible()).send(b"at last")

    async with make(max_streams=1) as server, make() as client:
        here = await client.connect((HOST, server.port))
        there = await server.accept()
        first = here.open_stream()
        await first.send(b"x")
        with Expect(StreamLimitError):
            here.open_stream()
        async with stack.open_group() as group:
            await block(stack, group, open_another, here)
            await first.aclose()
            theirs = await there.accept_stream()
            assert await theirs.receive() == b"x"
            await theirs.aclose()
            assert await (await there.accept_stream()).receive() == b"at last"


async def a_timed_send_returns_when_the_peer_has_it(stack: Stack, make: MakeNode) -> None:
    """Or raises a ``TimeoutError``, where the peer has no room for it."""
    async with make(stream_window=65_536) as server, make() as client:
        stream = (await client.connect((HOST, server.port))).open_byte_stream()
        await stream.send(b"x" * 1000, timeout=20)
        await stream.wait_acknowledged()
        with Expect(SendTimeoutError) as expected:
            await stream.send(bytes(200_000), timeout=0.01)
        assert isinstance(expected.error, TimeoutError)


async def a_broadcast_reaches_every_session(stack: Stack, make: MakeNode) -> None:
    """On the stream of that number, with a result for each; of a session that isn't there, too."""

    async def hear(caller: Any, port: int) -> None:
        session = await caller.connect((HOST, port))
        stream = session.open_stream(stream_id=7)
        await stream.send(b"here")
        assert await stream.receive() == b"to all"
        assert await stream.receive() == b"to some"

    async with make() as server, make() as one, make() as other, stack.open_group() as group:
        for caller in (one, other):
            group.start_soon(hear, caller, server.port)
        sessions = [await server.accept() for _ in range(2)]
        for session in sessions:
            assert await (await session.accept_stream()).receive() == b"here"
        ids = {session.session_id for session in sessions}
        results = await server.send_to_all(b"to all", 7)
        assert results.keys() == ids
        assert all(results.values())
        results = await server.send_to_sessions([*ids, b"nobody's"], b"to some", 7)
        assert {key for key, delivery in results.items() if delivery} == ids
        assert not results[b"nobody's"]


async def a_loop_that_reconnects_makes_one_session_after_the_other(stack: Stack, make: MakeNode) -> None:
    """Until its node stops."""
    made: list[bytes] = []
    async with make() as server, make() as client:
        async for session in client.reconnecting((HOST, server.port), first_delay=0.001):
            made.append(session.session_id)
            await (await server.accept()).close()
            await session.wait_closed()
            if len(made) == 3:
                await client.stop()
    assert len(set(made)) == 3


async def callbacks_that_fail_harm_nobody(stack: Stack, make: MakeNode) -> None:
    """Sync and async: what they raise is logged, and the others are told all the same."""
    told: list[bytes] = []

    def fail(session: Any) -> None:
        raise ZeroDivisionError

    async def fail_later(session: Any) -> None:
        await stack.checkpoint()
        raise ZeroDivisionError

    with _Log() as log:
        async with make() as server, make() as client:
            for callback in (fail, fail_later, lambda session: told.append(session.session_id)):
                client.on_session_established(callback)
            here = await client.connect((HOST, server.port))
            await client.stop()
    assert told == [here.session_id]
    assert log.count(ZeroDivisionError) == 2


async def stopping_ends_every_wait(stack: Stack, make: MakeNode) -> None:
    """For sessions and on sessions; a second stop is nothing."""

    async def accept(node: Any) -> None:
        with Expect(StateError):
            await node.accept()

    async def accept_stream(session: Any) -> None:
        with Expect(SessionClosedError):
            await session.accept_stream()

    async with _joined(make) as (here, there):
        async with stack.open_group() as group:
            group.start_soon(accept, there.node)
            await block(stack, group, accept_stream, there)
            await there.node.stop()
            await there.node.stop()
        await here.wait_closed()
        with Expect(StateError):
            await there.node.accept()


NODES: Final[tuple[Behaviour[MakeNode], ...]] = (
    both_ends_of_a_session_know_each_other,
    a_stream_says_what_it_is_for,
    a_number_both_open_is_one_stream,
    streams_do_not_wait_for_each_other,
    datagrams_arrive_whole,
    a_wrong_seed_is_an_authentication_error,
    an_identity_is_pinned_on_first_use,
    a_port_where_nobody_listens_refuses,
    an_accept_that_is_cancelled_loses_no_session,
    a_connect_that_is_cancelled_leaves_nothing,
    closing_is_told_to_the_peer_and_to_callbacks,
    a_handler_that_crashes_ends_its_own_session_only,
    a_limit_on_streams_is_an_error_or_a_wait,
    a_timed_send_returns_when_the_peer_has_it,
    a_broadcast_reaches_every_session,
    a_loop_that_reconnects_makes_one_session_after_the_other,
    callbacks_that_fail_harm_nobody,
    stopping_ends_every_wait,
)
"""What nodes do."""
