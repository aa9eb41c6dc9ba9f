"""Ungraceful shutdown: "No data loss for confirmed sends". What an application has confirmed is not asked for again,
and what it hasn't is sent again, whatever became of sessions and processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stt_backends.durable_log import FileLog
from stt_core.durable import MemoryLog
from stt_core.errors import ConfigurationError, ErrorCode, SessionClosedError, StateError, StreamResetError
from tests.chapter.world import World, everywhere, on

WHOLE = bytes(range(256)) * 4000
"""About a megabyte."""


class Keeper:
    """A receiving application: what it has kept survives it, and it may be gone at any time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept = bytearray()
        self.ended = False

    async def listen(self, session: Any, until: int) -> None:
        """Receive over this session until so many bytes are kept, or the end."""
        stt = self.world.stt
        stream = await session.accept_stream()
        assert stt.durable_name(stream) == "letters"
        receiver = stt.DurableReceiver(stream, position=len(self.kept))
        while len(self.kept) < until:
            try:
                self.kept += await receiver.receive()
            except self.world.loop.stack.end:
                self.ended = True
                break
            await receiver.consumed()
        if self.ended:
            await stream.close()


async def carry(sender: Any, session: Any) -> None:
    """Until the session ends, or all is consumed."""
    try:
        await sender.carry(session)
    except SessionClosedError:
        return


@everywhere
async def test_a_durable_stream_goes_on_after_each_lost_session(world: World) -> None:
    """The receiver's node is stopped twice with bytes under way; nothing is lost and nothing comes twice."""
    sender = world.stt.DurableSender(MemoryLog(limit=300_000), "letters")
    keeper = Keeper(world)
    node = await world.started()

    async def write() -> None:
        await sender.send(WHOLE)
        sender.finish()

    async with world.loop.stack.open_group() as group:
        group.start_soon(write)
        for until in (200_000, 500_000, len(WHOLE) + 1):
            peer = await world.started()
            session = await node.connect(world.address_of(peer))
            group.start_soon(carry, sender, session)
            await keeper.listen(await peer.accept(), until)
            if not keeper.ended:
                await peer.stop()
                await session.wait_closed()
    assert keeper.kept == WHOLE
    assert sender.log.base == sender.log.end == len(WHOLE)


def file_log_story(world: World, path: Path) -> Any:
    """The sender is restarted: what it had appended is there."""

    async def story() -> None:
        keeper = Keeper(world)
        peer = await world.started()
        log = FileLog(path)
        sender = world.stt.DurableSender(log, "letters")
        await sender.send(WHOLE[:600_000])
        first = await world.started()
        async with world.loop.stack.open_group() as group:
            session = await first.connect(world.address_of(peer))
            group.start_soon(carry, sender, session)
            await keeper.listen(await peer.accept(), 300_000)
            await first.stop()
        log.close()

        log = FileLog(path)
        assert log.end == 600_000
        assert log.base <= len(keeper.kept)
        sender = world.stt.DurableSender(log, "letters")
        await sender.send(WHOLE[log.end :])
        sender.finish()
        second = await world.started()
        async with world.loop.stack.open_group() as group:
            group.start_soon(carry, sender, await second.connect(world.address_of(peer)))
            await keeper.listen(await peer.accept(), len(WHOLE) + 1)
        log.close()
        assert keeper.kept == WHOLE

    return story()


@on("asyncio", "trio")
async def test_a_durable_stream_in_a_file_outlives_its_sender(world: World) -> None:
    """A new object over the same file goes on where the old one was."""
    import tempfile  # noqa: PLC0415 - fixtures don't reach the programs of this package

    with tempfile.TemporaryDirectory() as place:
        await file_log_story(world, Path(place) / "letters")


@everywhere
async def test_what_cannot_go_on_is_refused_at_both_ends(world: World) -> None:
    """A gap is an error and not silent; misuse is the caller's mistake."""
    stt = world.stt
    async with world.alice_and_bob() as (ours, theirs):
        log = MemoryLog()
        log.append(b"0123456789")
        log.release(4)
        sender = stt.DurableSender(log, "letters")
        outcome: list[int] = []

        async def carrying() -> None:
            try:
                await sender.carry(ours)
            except StreamResetError as error:
                outcome.append(error.code)

        async with world.loop.stack.open_group() as group:
            group.start_soon(carrying)
            receiver = stt.DurableReceiver(await theirs.accept_stream(), position=3)
            with pytest.raises(StateError, match="carries the durable stream"):
                await sender.carry(ours)
            with pytest.raises(StreamResetError):
                await receiver.receive()
        assert outcome == [ErrorCode.RESUME_GAP]
        assert log.base == 4

        async with world.loop.stack.open_group() as group:
            group.start_soon(carrying)
            receiver = stt.DurableReceiver(await theirs.accept_stream(), position=4)
            assert await receiver.receive(3) == b"456"
            assert receiver.position == 7
            with pytest.raises(StateError, match="position"):
                await receiver.consumed(8)
            await receiver.consumed(5)
            await receiver.consumed(5)
            await receiver.stream.close()
        assert outcome == [ErrorCode.RESUME_GAP, ErrorCode.CANCELLED]
        assert log.base == 5

        plain = ours.open_stream()
        assert stt.durable_name(plain) is None
        with pytest.raises(ConfigurationError, match="carries no durable"):
            stt.DurableReceiver(plain)
        with pytest.raises(ConfigurationError, match="name"):
            stt.DurableSender(log, "")
        sender.finish()
        with pytest.raises(StateError, match="finished"):
            await sender.send(b"more")
