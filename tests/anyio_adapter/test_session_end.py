from __future__ import annotations

import anyio
import pytest

from stt_anyio import CloseReason, ErrorCode, MessageTooLargeError, SessionClosedError, SessionState
from tests.anyio_adapter.net import TICK, cut_off, two_sessions

pytestmark = pytest.mark.anyio

IMPATIENT = {"keep_alive_interval": 0.05, "keep_alive_timeout": 0.2}


async def test_a_peer_that_vanished_is_found_out_by_both_sides() -> None:
    ended: list[tuple[bytes, str]] = []
    async with two_sessions(IMPATIENT, IMPATIENT) as (here, there):
        for session in (here, there):
            session.node.on_session_closed(lambda session_id, reason: ended.append((session_id, reason)))
        waiting = here.open_stream()
        cut_off(here.node)
        with anyio.fail_after(3), pytest.raises(SessionClosedError, match="nothing heard from the peer") as caught:
            await waiting.receive()
        assert caught.value.reason is CloseReason.TIMEOUT
        with anyio.fail_after(3):
            await there.wait_closed()
        assert here.state is there.state is SessionState.CLOSED
        with pytest.raises(SessionClosedError, match=r"keep_alive_timeout is 0\.2 s"):
            there.open_stream()
    assert ended == [(here.session_id, "timeout")] * 2


async def test_keep_alives_carry_an_idle_session_past_its_timeout() -> None:
    async with two_sessions(IMPATIENT, IMPATIENT) as (here, there):
        with anyio.move_on_after(0.6) as scope:
            await there.wait_closed()
        assert scope.cancelled_caught
        assert here.alive


async def test_the_code_and_the_reason_reach_the_peer() -> None:
    async with two_sessions() as (here, there):
        await here.close(ErrorCode.LIMIT_EXCEEDED, "enough for today")
        with pytest.raises(SessionClosedError, match="enough for today") as caught:
            await there.accept_stream()
        assert caught.value.code == ErrorCode.LIMIT_EXCEEDED
        assert caught.value.reason is CloseReason.ERROR


async def test_both_close_at_once() -> None:
    async with two_sessions() as (here, there), anyio.create_task_group() as tasks:
        tasks.start_soon(here.close)
        tasks.start_soon(there.close)


async def test_close_waits_until_what_was_sent_is_with_the_peer() -> None:
    async with two_sessions() as (here, there):
        stream = here.open_stream()
        await stream.send(bytes(200_000))
        await here.close()
        assert await (await there.accept_stream()).receive() == bytes(200_000)


async def test_a_cancelled_close_hurries() -> None:
    async with two_sessions() as (here, there):
        cable = cut_off(there.node)
        await here.open_stream().send(b"x")
        with anyio.move_on_after(TICK) as scope:
            await here.close()
        assert scope.cancelled_caught
        assert not here.alive
        cable.cut = False
        await there.wait_closed()
        await here.wait_closed()


async def test_leaving_the_block_closes_and_an_exception_in_it_does_not_wait() -> None:
    async with two_sessions() as (here, there):
        with pytest.raises(ZeroDivisionError):
            async with here:
                raise ZeroDivisionError
        await there.wait_closed()
        with pytest.raises(SessionClosedError, match="the application failed"):
            there.open_stream()


async def test_states_as_the_session_lives_and_dies() -> None:
    async with two_sessions() as (here, there):
        states = [here.state, there.state]
        await here.close()
        assert [*states, here.state] == [SessionState.ESTABLISHED, SessionState.ESTABLISHED, SessionState.CLOSED]
        assert here.node.get_active_sessions() == []


async def test_datagrams_go_both_ways() -> None:
    async with two_sessions() as (here, there):
        assert await here.send_datagram(b"ping")
        assert await there.receive_datagram() == b"ping"
        longest = bytes(there.max_datagram_size)
        assert await there.send_datagram(longest)
        assert await here.receive_datagram() == longest
        with pytest.raises(MessageTooLargeError):
            await there.send_datagram(bytes(there.max_datagram_size + 1))
        with anyio.move_on_after(TICK) as scope:
            await here.receive_datagram()
        assert scope.cancelled_caught


async def test_a_datagram_that_had_arrived_can_be_read_after_the_end() -> None:
    async with two_sessions() as (here, there):
        await here.send_datagram(b"last words")
        await here.close()
        await there.wait_closed()
        assert await there.receive_datagram() == b"last words"
        with pytest.raises(SessionClosedError):
            await there.receive_datagram()


async def test_statistics_count_what_went_over_the_wire() -> None:
    async with two_sessions() as (here, there):
        await here.open_stream().send(bytes(50_000), timeout=10)
        ours, theirs = here.statistics(), there.statistics()
        assert ours.bytes_sent > 50_000
        assert theirs.bytes_received > 50_000
        assert ours.rtt > 0
        assert here.node.statistics()["sessions"] == 1
        assert there.node.statistics()["sessions_opened"] == 1
        assert here.node.statistics()["sent"] > 0
