"""A loop that reconnects: ever more slowly, never with the wrong seed, and not beyond the node's own end."""

from __future__ import annotations

import anyio
import pytest

from stt_anyio import (
    AuthenticationError,
    ConfigurationError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    PeerBusyError,
    StateError,
    STTSession,
)
from stt_anyio.reconnecting import Reconnecting
from tests.anyio_adapter.net import SEED, address_of, make_node, two_nodes

pytestmark = pytest.mark.anyio

SOON = 0.001


async def test_each_session_is_made_when_the_last_is_over() -> None:
    async with two_nodes() as (calling, listening):
        seen = []
        async for session in calling.reconnecting(address_of(listening), first_delay=SOON):
            seen.append(session.session_id)
            if len(seen) == 3:
                break
            await (await listening.accept()).close()
            await session.wait_closed()
        assert len(set(seen)) == 3
        assert session.alive, "the caller's own, once the loop is left"


async def test_a_session_that_is_left_open_is_closed_when_the_loop_comes_round() -> None:
    async with two_nodes() as (calling, listening):
        last = None
        async for session in calling.reconnecting(address_of(listening), first_delay=SOON):
            if last is not None:
                assert not last.alive
                break
            last = session


async def test_a_server_that_comes_late_is_found() -> None:
    """Refused, timed out, declined: none of these ends the loop."""
    failures: list[Exception] = [
        ConnectionRefusedError("nothing listens there"),
        ConnectionTimeoutError("no answer"),
        PeerBusyError("not now"),
    ]
    async with two_nodes() as (calling, listening):

        async def connect() -> STTSession:
            if failures:
                raise failures.pop()
            return await calling.connect(address_of(listening))

        async for session in Reconnecting(calling, connect, "there", SOON, SOON):
            assert session.alive
            break
        assert not failures


async def test_a_wrong_seed_is_never_tried_again() -> None:
    async with two_nodes(client={"shared_seed": SEED + b"?"}) as (calling, listening):
        attempts = listening.statistics()["sessions_refused"]
        sessions = calling.reconnecting(address_of(listening), timeout=5, first_delay=SOON)
        with pytest.raises(AuthenticationError):
            await anext(sessions)
        assert listening.statistics()["sessions_refused"] == attempts + 1


async def test_the_loop_ends_with_the_node() -> None:
    async with two_nodes() as (calling, listening):
        async for _ in calling.reconnecting(address_of(listening), first_delay=SOON):
            await calling.stop()


async def test_stopping_the_node_ends_a_long_wait() -> None:
    async with two_nodes() as (calling, listening), anyio.create_task_group() as tasks:
        async for session in calling.reconnecting(address_of(listening), first_delay=60):
            await session.close()
            tasks.start_soon(calling.stop)


async def test_delays_that_make_no_sense_and_a_node_that_was_not_started_are_told_at_once() -> None:
    node = make_node()
    with pytest.raises(ConfigurationError, match="first_delay"):
        node.reconnecting(("127.0.0.1", 1), first_delay=0)
    with pytest.raises(StateError):
        await anext(node.reconnecting(("127.0.0.1", 1)))
