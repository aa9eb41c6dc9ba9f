from __future__ import annotations

import anyio
import pytest

from stt_anyio import SendTimeoutError, SessionClosedError, StreamClosedError, StreamResetError
from tests.anyio_adapter.net import cut_off, two_sessions

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["messages", "bytes"])
async def test_send_with_a_timeout_returns_once_the_peer_has_it(mode: str) -> None:
    async with two_sessions() as (here, there):
        stream = here.open_byte_stream() if mode == "bytes" else here.open_stream()
        await stream.send(b"x" * 100_000, timeout=10)
        assert here.core.stream_info(stream.stream_id).unacknowledged == 0
        assert there.statistics().bytes_received >= 100_000


@pytest.mark.parametrize("mode", ["messages", "bytes"])
async def test_a_peer_gone_silent_makes_it_a_timeout_error_and_the_stream_goes_on_later(mode: str) -> None:
    async with two_sessions() as (here, there):
        stream = here.open_byte_stream() if mode == "bytes" else here.open_stream()
        await stream.send(b"1")
        theirs = await there.accept_stream()
        assert await theirs.receive() == b"1"
        cable = cut_off(there.node)
        with pytest.raises(SendTimeoutError, match="may still arrive") as caught:
            await stream.send(b"2", timeout=0.05)
        assert isinstance(caught.value, TimeoutError)
        cable.cut = False
        assert await theirs.receive() == b"2"
        await stream.send(b"3", timeout=10)
        assert await theirs.receive() == b"3"


async def test_a_timeout_covers_the_wait_for_room_too() -> None:
    async with two_sessions(client={"send_buffer": 4096}) as (here, there):
        cable = cut_off(there.node)
        stream = here.open_stream()
        await stream.send(bytes(1_000_000))
        with pytest.raises(SendTimeoutError):
            await stream.send(b"no room", timeout=0.05)
        cable.cut = False
        theirs = await there.accept_stream()
        assert await theirs.receive() == bytes(1_000_000)


async def test_a_cancelled_wait_for_the_acknowledgement_sends_the_message_all_the_same() -> None:
    async with two_sessions() as (here, there):
        stream = here.open_stream()
        cable = cut_off(there.node)
        with anyio.move_on_after(0.05) as scope:
            await stream.send(b"1", timeout=10)
        assert scope.cancelled_caught
        cable.cut = False
        theirs = await there.accept_stream()
        assert await theirs.receive() == b"1"


async def test_everything_acknowledged_stays_so_after_the_end() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_stream()
        await ours.send(b"x")
        await ours.send_eof()
        theirs = await there.accept_stream()
        await theirs.send_eof()
        for stream in (theirs, ours):
            async for _ in stream:
                pass
            await stream.wait_acknowledged()
            await stream.wait_acknowledged()


async def test_a_peer_that_stops_the_stream_ends_the_wait_for_its_acknowledgement() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_byte_stream()
        await ours.send(b"x")
        theirs = await there.accept_stream()

        async def wait() -> None:
            with pytest.raises(StreamResetError) as caught:
                await ours.send(bytes(900_000), timeout=10)
            assert caught.value.code == 77

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            theirs.reset(77)
        with pytest.raises(StreamResetError):
            await ours.wait_acknowledged()


async def test_resetting_a_stream_ends_the_wait_for_its_acknowledgement() -> None:
    async with two_sessions() as (here, there):
        cable = cut_off(there.node)
        ours = here.open_stream()

        async def wait() -> None:
            with pytest.raises(StreamClosedError):
                await ours.send(b"x", timeout=10)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            ours.reset()
        cable.cut = False


async def test_the_end_of_the_session_ends_the_wait_for_an_acknowledgement() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_stream()
        await ours.send(b"measures the round trip", timeout=10)
        cable = cut_off(there.node)

        async def wait() -> None:
            with pytest.raises(SessionClosedError):
                await ours.send(b"x", timeout=10)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await here.close(linger=0)
        cable.cut = False
