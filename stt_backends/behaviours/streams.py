"""How streams behave, of messages and of bytes, by the calls that both adapters have: ``send``, ``receive``,
``send_eof``, ``aclose``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from stt_backends.behaviours.stack import Behaviour, Expect, Stack, block


class CheckedStream(Protocol):
    """What is called of a stream."""

    def send(self, data: bytes, /) -> Awaitable[None]:
        """Send one message, or all these bytes."""
        ...

    def receive(self) -> Awaitable[bytes]:
        """The next message, or some bytes."""
        ...

    def send_eof(self) -> Awaitable[None]:
        """End the sending half."""
        ...

    def aclose(self) -> Awaitable[None]:
        """End both halves."""
        ...


MakePair = Callable[[], AbstractAsyncContextManager[tuple[CheckedStream, CheckedStream]]]
"""Gives both ends of a new stream; what it takes to make them ends with the block."""


async def _receive_all(stack: Stack, stream: CheckedStream) -> bytes:
    received = bytearray()
    while True:
        try:
            received += await stream.receive()
        except stack.end:
            return bytes(received)


async def what_is_sent_arrives_both_ways(stack: Stack, make: MakePair) -> None:
    """Small and large, in both directions at once."""

    async def send(stream: CheckedStream, data: bytes) -> None:
        await stream.send(data)
        await stream.send_eof()

    async def receive(stream: CheckedStream, expected: bytes) -> None:
        assert await _receive_all(stack, stream) == expected

    for size in (1, 1000, 1_000_000):
        there, back = bytes(range(1, 252)) * (size // 251 + 1), bytes(range(251, 0, -1)) * (size // 251 + 1)
        async with make() as (ours, theirs), stack.open_group() as group:
            group.start_soon(send, ours, there)
            group.start_soon(send, theirs, back)
            group.start_soon(receive, ours, back)
            group.start_soon(receive, theirs, there)


async def the_end_is_told_as_often_as_it_is_asked_for(stack: Stack, make: MakePair) -> None:
    """After everything that was sent before it."""
    async with make() as (ours, theirs):
        await ours.send(b"last words")
        await ours.send_eof()
        assert await theirs.receive() == b"last words"
        for _ in range(3):
            with Expect(stack.end):
                await theirs.receive()


async def each_half_ends_for_itself(stack: Stack, make: MakePair) -> None:
    """After ``send_eof`` nothing more is sent, a second one is nothing, and the other direction goes on."""
    async with make() as (ours, theirs):
        await ours.send_eof()
        await ours.send_eof()
        with Expect(stack.closed):
            await ours.send(b"late")
        with Expect(stack.end):
            await theirs.receive()
        await theirs.send(b"still here")
        assert await ours.receive() == b"still here"


async def a_stream_that_is_closed_takes_and_gives_nothing(stack: Stack, make: MakePair) -> None:
    """And may be closed again."""
    async with make() as (ours, _):
        for _ in range(2):
            await ours.aclose()
        with Expect(stack.closed):
            await ours.send(b"x")
        with Expect(stack.closed):
            await ours.receive()


async def closing_delivers_what_was_sent(stack: Stack, make: MakePair) -> None:
    """``aclose`` is no abort."""
    async with make() as (ours, theirs):
        await ours.send(bytes(100_000))
        await ours.aclose()
        assert await _receive_all(stack, theirs) == bytes(100_000)


async def a_cancelled_close_has_closed(stack: Stack, make: MakePair) -> None:
    """Nothing waits for the peer."""
    async with make() as (ours, _):
        with stack.cancel_scope() as scope:
            scope.cancel()
            await ours.aclose()
        with Expect(stack.closed):
            await ours.receive()


async def closing_ends_what_waits_on_the_stream(stack: Stack, make: MakePair) -> None:
    """A ``receive`` under way hears that its own side closed."""

    async def receive(stream: CheckedStream) -> None:
        with Expect(stack.closed):
            await stream.receive()

    async with make() as (ours, _), stack.open_group() as group:
        await block(stack, group, receive, ours)
        await ours.aclose()


async def a_peer_that_reads_no_more_breaks_sending(stack: Stack, make: MakePair) -> None:
    """Sooner or later, and then for good."""
    async with make() as (ours, theirs):
        await theirs.aclose()
        with Expect(stack.broken):
            while True:
                await ours.send(bytes(1000))
        with Expect(stack.broken):
            await ours.send(b"x")


async def a_second_reader_is_turned_away(stack: Stack, make: MakePair) -> None:
    """At once, and the first is not disturbed."""

    async def receive(stream: CheckedStream) -> None:
        assert await stream.receive() == b"for the first"

    async with make() as (ours, theirs), stack.open_group() as group:
        await block(stack, group, receive, theirs)
        with Expect(stack.busy):
            await theirs.receive()
        await ours.send(b"for the first")


async def a_cancelled_receive_loses_nothing(stack: Stack, make: MakePair) -> None:
    """Whether it is cancelled before or while it waits."""

    async def receive(stream: CheckedStream) -> None:
        await stream.receive()

    async with make() as (ours, theirs):
        with stack.cancel_scope() as scope:
            scope.cancel()
            await theirs.receive()
        assert scope.cancelled_caught
        async with stack.open_group() as group:
            await block(stack, group, receive, theirs)
            group.cancel_scope.cancel()
        await ours.send(b"kept")
        assert await theirs.receive() == b"kept"


async def a_cancelled_send_sends_nothing(stack: Stack, make: MakePair) -> None:
    """Where there was room, too: what was cancelled before it began does not begin."""
    async with make() as (ours, theirs):
        with stack.cancel_scope() as scope:
            scope.cancel()
            await ours.send(b"not this")
        assert scope.cancelled_caught
        await ours.send(b"but this")
        assert await theirs.receive() == b"but this"


async def who_never_waits_lets_others_have_their_turn(stack: Stack, make: MakePair) -> None:
    """Whether there is always room for what it sends, or it is always told the same."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await stack.checkpoint()

    async with make() as (ours, theirs), stack.open_group() as group:
        group.start_soon(count_turns)
        before = turns
        for _ in range(500):
            await ours.send(b"piece")
        assert turns >= before + 3, "500 pieces were sent without a pause"
        await ours.aclose()
        await _receive_all(stack, theirs)
        for forbidden, stream in ((stack.closed, ours), (stack.end, theirs)):
            before = turns
            for _ in range(500):
                with Expect(forbidden):
                    await (stream.send(b"late") if stream is ours else stream.receive())
            assert turns >= before + 3, f"{forbidden.__name__} was raised 500 times without a pause"
        group.cancel_scope.cancel()


async def a_reader_that_stops_stops_the_sender(stack: Stack, make: MakePair) -> None:
    """Memory is bounded: a sender waits for its reader, and goes on when that does."""
    sent = 0

    async def send(stream: CheckedStream) -> None:
        nonlocal sent
        while sent < 200:
            await stream.send(bytes(500_000))
            sent += 1
        await stream.send_eof()

    async with make() as (ours, theirs), stack.open_group() as group:
        group.start_soon(send, ours)
        await theirs.receive()
        before = -1
        while before != sent:  # until a whole round of turns has moved nothing
            before = sent
            await stack.wait_all_tasks_blocked()
        assert sent < 200, "100 MB were accepted of which nobody had read more than a piece"
        group.start_soon(_receive_all, stack, theirs)


async def a_message_is_received_as_it_was_sent(stack: Stack, make: MakePair) -> None:
    """Whole, by itself, in order; the empty one, too."""
    messages = [b"", b"a", bytes(70_000), b"", *(b"%d" % number for number in range(300)), bytes(300_000)]

    async def send(stream: CheckedStream) -> None:
        for message in messages:
            await stream.send(message)
        await stream.send_eof()

    async with make() as (ours, theirs), stack.open_group() as group:
        group.start_soon(send, ours)
        for message in messages:
            assert await theirs.receive() == message
        with Expect(stack.end):
            await theirs.receive()


async def bytes_are_never_nothing_and_no_more_than_asked_for(stack: Stack, make: MakePair) -> None:
    """Nothing sent is nothing received, whatever kind of buffer it was."""
    async with make() as (ours, theirs):
        for data in (b"", b"one", bytearray(b"two"), memoryview(b"three")):
            await ours.send(data)  # type: ignore[arg-type]
        await ours.send_eof()
        received = b""
        while True:
            try:
                part = await theirs.receive(2)  # type: ignore[call-arg]
            except stack.end:
                break
            assert 1 <= len(part) <= 2
            received += part
        assert received == b"onetwothree"
        with Expect(ValueError):
            await theirs.receive(0)  # type: ignore[call-arg]


OF_BOTH: Final[tuple[Behaviour[MakePair], ...]] = (
    what_is_sent_arrives_both_ways,
    the_end_is_told_as_often_as_it_is_asked_for,
    each_half_ends_for_itself,
    a_stream_that_is_closed_takes_and_gives_nothing,
    closing_delivers_what_was_sent,
    a_cancelled_close_has_closed,
    closing_ends_what_waits_on_the_stream,
    a_peer_that_reads_no_more_breaks_sending,
    a_second_reader_is_turned_away,
    a_cancelled_receive_loses_nothing,
    a_cancelled_send_sends_nothing,
    who_never_waits_lets_others_have_their_turn,
    a_reader_that_stops_stops_the_sender,
)
MESSAGE_STREAMS: Final = (*OF_BOTH, a_message_is_received_as_it_was_sent)
"""What streams of messages do."""
BYTE_STREAMS: Final = (*OF_BOTH, bytes_are_never_nothing_and_no_more_than_asked_for)
"""What streams of bytes do."""
