"""One message to many: each viewer has a queue of its own, and no slow one holds up the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from stt_anyio import ConfigurationError, Delivery, MessageStream, Outcome, STTNode, STTSession
from stt_backends.adapter.broadcast import MOST_QUEUED, MOST_QUEUED_BYTES
from tests.anyio_adapter.net import LIMIT, address_of, make_node

pytestmark = pytest.mark.anyio

FRAME = bytes(16_000)


@asynccontextmanager
async def audience(count: int) -> AsyncIterator[tuple[STTNode, list[STTSession]]]:
    """A server, and the clients' ends of ``count`` sessions with it."""
    async with AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(LIMIT))
        server = await stack.enter_async_context(make_node())
        viewers = []
        for _ in range(count):
            node = await stack.enter_async_context(make_node(stream_window=32_768))
            viewers.append(await node.connect(address_of(server)))
            await server.accept()
        yield server, viewers


def watch(viewer: STTSession) -> MessageStream:
    stream = viewer.open_stream(stream_id=1)
    assert isinstance(stream, MessageStream)
    return stream


async def test_everybody_gets_it() -> None:
    async with audience(3) as (server, viewers):
        results = await server.send_to_all(b"Broadcast message", stream_id=1)
        assert set(results) == {viewer.session_id for viewer in viewers}
        assert all(results.values())
        for viewer in viewers:
            assert await watch(viewer).receive() == b"Broadcast message"


async def test_it_goes_to_those_that_are_named() -> None:
    async with audience(3) as (server, viewers):
        ids = [viewer.session_id for viewer in viewers[:2]]
        results = await server.send_to_sessions([*ids, ids[0], b"nobody--"], b"Targeted message")
        assert [results[session_id].outcome for session_id in ids] == [Outcome.SENT] * 2
        assert not results[b"nobody--"]
        assert "no session" in str(results[b"nobody--"].error)
        await server.send_to_all(b"to all")
        assert [await watch(viewer).receive() for viewer in viewers] == [b"Targeted message"] * 2 + [b"to all"]


@pytest.mark.parametrize(("size", "queued"), [(16_000, MOST_QUEUED), (200_000, MOST_QUEUED_BYTES // 200_000)])
async def test_a_viewer_who_does_not_read_misses_messages_and_the_others_none(size: int, queued: int) -> None:
    async with audience(2) as (server, (quick, slow)):
        stream = watch(quick)
        outcomes = [Outcome.SENT]
        while outcomes[-1] is not Outcome.DROPPED:
            frame = len(outcomes).to_bytes(size, "big")
            results = await server.send_to_all(frame)
            assert results[quick.session_id]
            assert await stream.receive() == frame
            outcomes.append(results[slow.session_id].outcome)
        assert outcomes.count(Outcome.QUEUED) == queued


async def test_what_was_queued_arrives_in_order_once_the_viewer_reads() -> None:
    async with audience(1) as (server, (viewer,)):
        accepted: list[bytes] = []
        frame = FRAME
        while (await server.send_to_all(frame))[viewer.session_id]:
            accepted.append(frame)
            frame = len(accepted).to_bytes(4, "big") + FRAME
        stream = watch(viewer)
        assert [await stream.receive() for _ in accepted] == accepted


async def test_a_slow_viewer_can_be_closed_instead() -> None:
    async with audience(2) as (server, (quick, slow)):
        stream = watch(quick)
        outcome = Outcome.SENT
        while outcome in (Outcome.SENT, Outcome.QUEUED):
            results = await server.send_to_all(FRAME, policy="close")
            outcome = results[slow.session_id].outcome
            assert await stream.receive() == FRAME
        assert outcome is Outcome.CLOSED
        await slow.wait_closed()
        assert set(await server.send_to_all(b"on we go")) == {quick.session_id}
        assert await stream.receive() == b"on we go"


async def test_a_sender_who_waits_for_the_slow_has_served_the_others() -> None:
    async with audience(2) as (server, (quick, slow)):
        stream = watch(quick)
        outcome = Outcome.SENT
        while outcome is not Outcome.DROPPED:
            outcome = (await server.send_to_all(FRAME))[slow.session_id].outcome
            assert await stream.receive() == FRAME
        results: dict[bytes, Delivery] = {}

        async def send() -> None:
            results.update(await server.send_to_all(b"last", policy="wait"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            assert await stream.receive() == b"last"
            assert not results, "it waits, and the quick one has the message already"
            backlog = watch(slow)
            while await backlog.receive() != b"last":
                continue
        assert all(results.values())


async def test_a_message_too_large_or_a_stream_of_bytes_fails_there_alone() -> None:
    async with audience(2) as (server, (one, other)):
        (here,) = [session for session in server.get_active_sessions() if session.session_id == one.session_id]
        here.open_byte_stream(stream_id=7)
        results = await server.send_to_all(b"words", stream_id=7)
        assert results[one.session_id].outcome is Outcome.FAILED
        assert "carries bytes" in str(results[one.session_id].error)
        assert results[other.session_id].outcome is Outcome.SENT


async def test_a_session_that_ends_while_something_waits_for_it_holds_up_nobody() -> None:
    async with audience(1) as (server, (viewer,)):
        while (await server.send_to_all(FRAME))[viewer.session_id].outcome is not Outcome.DROPPED:
            continue
        async with anyio.create_task_group() as tasks:
            results = {}

            async def send() -> None:
                results.update(await server.send_to_all(FRAME, policy="wait"))

            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            await viewer.close(linger=0)
        assert results[viewer.session_id].outcome is Outcome.FAILED


async def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    async with audience(0) as (server, _):
        with pytest.raises(ConfigurationError, match="drop, close, wait"):
            await server.send_to_all(b"", policy="hurry")
