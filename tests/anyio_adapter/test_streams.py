from __future__ import annotations

import anyio
import pytest

from stt_anyio import (
    ByteStream,
    MessageStream,
    MessageTooLargeError,
    SessionClosedError,
    StreamClosedError,
    StreamLimitError,
    StreamResetError,
    STTSession,
)
from tests.anyio_adapter.net import TICK, two_sessions

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def receive_all(stream: ByteStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def send_forever(stream: MessageStream | ByteStream) -> None:
    while True:
        await stream.send(b"anyone?", timeout=10)


async def test_messages_keep_their_boundaries_in_both_directions_at_once() -> None:
    messages = [bytes([size % 256]) * size for size in (0, 1, 5_000, 0, 100_000, 3)]
    async with two_sessions() as (here, there):
        ours = here.open_stream(purpose="both ways")
        received: dict[str, list[bytes]] = {}

        async def send(stream: MessageStream | ByteStream) -> None:
            for message in messages:
                await stream.send(message)
            await stream.send_eof()

        async def receive(name: str, stream: MessageStream | ByteStream) -> None:
            received[name] = [message async for message in stream]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, ours)
            theirs = await there.accept_stream()
            assert isinstance(theirs, MessageStream)
            assert theirs.purpose == "both ways"
            tasks.start_soon(send, theirs)
            tasks.start_soon(receive, "there", theirs)
            tasks.start_soon(receive, "here", ours)
        assert received == {"here": messages, "there": messages}


async def test_bytes_arrive_in_order_and_whole_both_ways_at_once() -> None:
    data = bytes(range(256)) * 8 * 1024
    async with two_sessions() as (here, there):
        ours = here.open_byte_stream(priority=1)
        received: dict[str, bytes] = {}

        async def send(stream: ByteStream) -> None:
            await stream.send(data)
            await stream.send_eof()

        async def receive(name: str, stream: ByteStream) -> None:
            received[name] = await receive_all(stream)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, ours)
            theirs = await there.accept_stream()
            assert isinstance(theirs, ByteStream)
            tasks.start_soon(send, theirs)
            tasks.start_soon(receive, "there", theirs)
            tasks.start_soon(receive, "here", ours)
        assert received["there"] == received["here"] == data


async def test_a_message_much_larger_than_every_window_arrives() -> None:
    message = b"0123456789abcdef" * (5 * MIB // 16)
    async with two_sessions() as (here, there), anyio.create_task_group() as tasks:
        tasks.start_soon(here.open_stream().send, message)
        assert await (await there.accept_stream()).receive() == message


async def test_bytes_may_come_in_any_buffer() -> None:
    async with two_sessions(client={"send_buffer": 4096}) as (here, there), anyio.create_task_group() as tasks:
        stream = here.open_byte_stream()
        numbers = memoryview(bytes(range(256)) * 400).cast("I")

        async def send() -> None:
            await stream.send(numbers)
            await stream.send(bytearray(b"end"))
            await stream.send_eof()

        tasks.start_soon(send)
        theirs = await there.accept_stream()
        assert isinstance(theirs, ByteStream)
        assert await receive_all(theirs) == numbers.tobytes() + b"end"


async def test_receive_gives_at_most_what_was_asked_for() -> None:
    async with two_sessions() as (here, there):
        await here.open_byte_stream().send(b"abcdef")
        theirs = await there.accept_stream()
        assert isinstance(theirs, ByteStream)
        pieces = b""
        while len(pieces) < 6:
            piece = await theirs.receive(4)
            assert 0 < len(piece) <= 4
            pieces += piece
        assert pieces == b"abcdef"


async def test_a_message_above_the_peers_limit_is_turned_down_and_the_stream_lives_on() -> None:
    async with two_sessions(server={"max_message": 1000}) as (here, there):
        stream = here.open_stream()
        with pytest.raises(MessageTooLargeError):
            await stream.send(bytes(1001))
        await stream.send(bytes(1000))
        assert await (await there.accept_stream()).receive() == bytes(1000)


async def test_both_ends_open_a_shared_id_and_hold_the_same_stream() -> None:
    async with two_sessions() as (here, there):
        ours, theirs = here.open_stream(stream_id=1, purpose="chat"), there.open_stream(stream_id=1, purpose="talk")
        await ours.send(b"from here")
        await theirs.send(b"from there")
        assert await ours.receive() == b"from there"
        assert await theirs.receive() == b"from here"
        assert here.get_stream(1) is ours
        assert there.get_stream(1) is theirs


async def test_of_two_purposes_the_initiators_is_seen_by_both() -> None:
    async with two_sessions() as (here, there):
        ours, theirs = here.open_stream(stream_id=1, purpose="chat"), there.open_stream(stream_id=1, purpose="talk")
        await ours.send(b"x")
        assert await theirs.receive() == b"x"
        assert (ours.purpose, theirs.purpose) == ("chat", "chat")


async def test_joining_what_the_peer_opened_takes_it_out_of_the_queue_and_takes_its_purpose() -> None:
    async with two_sessions() as (here, there):
        await here.open_stream(stream_id=7, purpose="the initiator's").send(b"x", timeout=10)
        joined = there.open_stream(stream_id=7, purpose="the responder's")
        assert joined.purpose == "the initiator's"
        assert await joined.receive() == b"x"
        await here.open_stream(purpose="next").send(b"y")
        assert (await there.accept_stream()).purpose == "next"


async def test_get_stream_of_an_id_nobody_opened_is_a_key_error() -> None:
    async with two_sessions() as (here, _):
        with pytest.raises(KeyError):
            here.get_stream(99)


async def test_half_close_ends_one_direction_only() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_stream()
        await ours.send(b"question")
        await ours.send_eof()
        await ours.send_eof()
        with pytest.raises(anyio.ClosedResourceError):
            await ours.send(b"more")
        theirs = await there.accept_stream()
        assert await theirs.receive() == b"question"
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await theirs.receive()
        await theirs.send(b"answer")
        await theirs.send_eof()
        assert await ours.receive() == b"answer"
        for stream in (ours, theirs, ours):
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


async def test_an_unread_end_is_an_end_of_stream_even_where_both_halves_are_done() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_byte_stream()
        await ours.send(b"")
        await ours.send_eof()
        theirs = await there.accept_stream()
        await theirs.send_eof()
        for stream in (ours, theirs) * 2:
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


async def test_a_reset_reaches_both_the_peers_reader_and_its_writer() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_stream()
        await ours.send(b"hello")
        theirs = await there.accept_stream()
        assert await theirs.receive() == b"hello"
        ours.reset(42)
        ours.reset(43)
        for _ in range(2):
            with pytest.raises(StreamResetError) as reading:
                await theirs.receive()
            assert reading.value.code == 42
            assert isinstance(reading.value, anyio.BrokenResourceError)
        with pytest.raises(StreamResetError) as writing:
            await send_forever(theirs)
        assert writing.value.code == 42
        with pytest.raises(StreamClosedError):
            await ours.send(b"x")
        await theirs.aclose()
        assert here.alive
        assert there.alive


async def test_a_closed_stream_refuses_both_directions_with_anyios_error() -> None:
    async with two_sessions() as (here, _):
        stream = here.open_stream()
        async with stream:
            await stream.send(b"x")
        await stream.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send_eof()


async def test_what_was_sent_before_close_still_arrives() -> None:
    async with two_sessions() as (here, there):
        async with here.open_stream() as stream:
            await stream.send(bytes(300_000))
        theirs = await there.accept_stream()
        assert await theirs.receive() == bytes(300_000)
        with pytest.raises(anyio.EndOfStream):
            await theirs.receive()


async def test_closing_wakes_a_task_that_waits_in_receive() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_stream()
        waiting = anyio.Event()

        async def receive() -> None:
            waiting.set()
            with pytest.raises(anyio.ClosedResourceError):
                await ours.receive()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive)
            await waiting.wait()
            await anyio.lowlevel.checkpoint()
            await ours.aclose()
        assert there.alive


async def test_two_receivers_or_two_senders_are_one_too_many() -> None:
    async with two_sessions(client={"send_buffer": 4096}) as (here, there):
        stream = here.open_byte_stream()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.send, bytes(4 * MIB))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await stream.send(b"x")
            tasks.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.receive)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await stream.receive()
            tasks.cancel_scope.cancel()
        assert there.alive


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_stream()
        await ours.send(b"1")
        theirs = await there.accept_stream()
        assert await theirs.receive() == b"1"
        with anyio.move_on_after(TICK) as scope:
            await theirs.receive()
        assert scope.cancelled_caught
        await ours.send(b"2")
        assert await theirs.receive() == b"2"


async def test_a_cancelled_send_leaves_whole_messages_and_a_usable_stream() -> None:
    async with two_sessions(client={"send_buffer": 4096}) as (here, there):
        ours = here.open_stream()
        sent = 0
        with anyio.move_on_after(0.05) as scope:
            while True:
                await ours.send(bytes(100_000))
                sent += 1
        assert scope.cancelled_caught
        theirs = await there.accept_stream()
        for _ in range(sent):
            assert await theirs.receive() == bytes(100_000)
        await ours.send(b"the next")
        assert await theirs.receive() == b"the next"


async def test_a_cancelled_send_of_bytes_sends_a_prefix() -> None:
    data = bytes(range(256)) * 16 * 1024
    async with two_sessions(client={"send_buffer": 4096}) as (here, there):
        ours = here.open_byte_stream()
        with anyio.move_on_after(0.05) as scope:
            await ours.send(data)
        assert scope.cancelled_caught
        theirs = await there.accept_stream()
        assert isinstance(theirs, ByteStream)
        await ours.send_eof()
        received = await receive_all(theirs)
        assert 0 < len(received) < len(data)
        assert data.startswith(received)


async def test_a_cancelled_accept_stream_leaves_the_stream_for_the_next() -> None:
    async with two_sessions() as (here, there):
        with anyio.move_on_after(TICK) as scope:
            await there.accept_stream()
        assert scope.cancelled_caught
        await here.open_stream(purpose="p").send(b"")
        stream = await there.accept_stream()
        assert stream.purpose == "p"
        assert await stream.receive() == b""


async def test_open_stream_at_the_peers_limit_fails_and_the_patient_variant_waits() -> None:
    async with two_sessions(server={"max_streams": 2}) as (here, there):
        streams = [here.open_stream(), here.open_stream()]
        with pytest.raises(StreamLimitError):
            here.open_stream()
        opened: list[MessageStream | ByteStream] = []

        async def open_one() -> None:
            opened.append(await here.open_stream_when_possible(purpose="third"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_one)
            await anyio.wait_all_tasks_blocked()
            assert opened == []
            await streams[0].aclose()
            await (await there.accept_stream()).aclose()
        await opened[0].send(b"at last")
        while (stream := await there.accept_stream()).purpose != "third":
            pass
        assert await stream.receive() == b"at last"


async def test_a_wrong_mode_is_named() -> None:
    async with two_sessions() as (here, _):
        with pytest.raises(ValueError, match="'messages' or 'bytes'"):
            here.open_stream(mode="datagrams")  # type: ignore[arg-type]
        here.open_stream(stream_id=1)


async def test_everything_on_a_session_that_was_closed_says_so() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_stream()
        await ours.send(b"x")
        theirs = await there.accept_stream()
        await here.close()
        await there.wait_closed()
        for session, stream in ((here, ours), (there, theirs)):
            with pytest.raises(SessionClosedError):
                session.open_stream()
            with pytest.raises(SessionClosedError):
                session.open_stream(stream_id=5)
            with pytest.raises(SessionClosedError):
                await session.open_stream_when_possible()
            with pytest.raises(SessionClosedError):
                await session.accept_stream()
            with pytest.raises(SessionClosedError):
                await session.send_datagram(b"x")
            with pytest.raises(SessionClosedError):
                await session.receive_datagram()
            with pytest.raises(SessionClosedError) as sending:
                await stream.send(b"x")
            assert isinstance(sending.value, anyio.BrokenResourceError)
            with pytest.raises(SessionClosedError):
                await stream.send(b"x", timeout=1)
            with pytest.raises(SessionClosedError):
                await stream.send_eof()
            with pytest.raises(SessionClosedError):
                await stream.wait_acknowledged()
            await session.wait_closed()
            await session.close()
        assert await theirs.receive() == b"x"
        with pytest.raises(SessionClosedError):
            await theirs.receive()
        theirs.reset()
        await ours.aclose()


async def until_quiet(*sessions: STTSession) -> None:
    """Everything is acknowledged: nothing but a keep-alive is left to happen."""
    channels = [session.core._require_channel() for session in sessions]
    while any(channel.recovery.packets_in_flight or channel.acks.pending for channel in channels):
        await anyio.lowlevel.checkpoint()


async def test_what_the_read_that_finds_the_end_gives_back_leaves_at_once() -> None:
    """It raises, and yet the peer may open another stream: with nothing else under way it would hear of that with the
    next keep-alive, ten seconds later."""
    async with two_sessions(server={"max_streams": 1}) as (here, there):
        driver = there.node._driver
        assert driver is not None
        for _ in range(3):
            ours = await here.open_stream_when_possible()
            await ours.send(b"all of it")
            theirs = await there.accept_stream()
            await theirs.send_eof()
            await ours.send_eof()
            assert await theirs.receive() == b"all of it"
            with pytest.raises(anyio.EndOfStream):
                await ours.receive()
            await until_quiet(here, there)
            with pytest.raises(anyio.EndOfStream):
                await theirs.receive()
            assert not driver.endpoint.has_work or driver.join(), "it has left, or will without another call"
