"""Durable streams: what the shared half knows, and the waits."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from stt_anyio.parking import parking_lot
from stt_anyio.session import STTSession
from stt_anyio.streams import ByteStream
from stt_backends.adapter.durable import BaseDurableReceiver, BaseDurableSender, Turn
from stt_backends.adapter.parking import ParkingLot


class DurableSender(BaseDurableSender):
    """Bytes that are kept until the peer's application has consumed them; see :class:`BaseDurableSender`."""

    def _make_parking_lot(self) -> ParkingLot:
        return parking_lot()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Return once the log has them all; wait where it is full. Cancelled, what it has is sent and the rest isn't.

        :raises StateError: after :meth:`finish`.
        """
        await anyio.lowlevel.checkpoint()
        rest = memoryview(data).cast("B")
        while rest:
            since = self._room.wakes
            left = self._append(rest)
            if len(left) == len(rest):
                await self._room.park(since)
            rest = left

    async def carry(self, session: STTSession) -> None:
        """Carry what the log has, and gets meanwhile, over ``session``; returns when it was finished and the peer's
        application has consumed everything.

        Where the session ends before, carry it over the next: the peer says where to go on.

        :raises SessionClosedError: if the session ended, ``StreamResetError`` if the peer gave up the stream or asks
            for bytes that are gone (with code ``RESUME_GAP``); ``StateError`` if another session carries it.
        """
        await anyio.lowlevel.checkpoint()
        carrying = self._begin(session)
        try:
            while True:
                since = carrying.news.wakes
                turn = self._turn(carrying)
                if turn is Turn.DONE:
                    return
                if turn is Turn.MORE:
                    await anyio.lowlevel.checkpoint()
                else:
                    await carrying.news.park(since)
        finally:
            self._end(carrying)


class DurableReceiver(BaseDurableReceiver[ByteStream]):
    """What a peer sends durably, over one session; see :class:`BaseDurableReceiver`."""

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """At least one byte, and at most ``max_bytes``, from :attr:`position` on.

        :raises anyio.EndOfStream: when all there will ever be was received. Otherwise as :meth:`ByteStream.receive`.
        """
        greeting = self._greeting()
        if greeting is not None:
            await self.stream.send(greeting)
        return self._came(await self.stream.receive(max_bytes))

    async def consumed(self, position: int | None = None) -> None:
        """Say that all up to ``position`` (by default, all that was received) is done with, and will not be asked for
        again: call it once it is kept for good. The sender lets go of it.

        :raises StateError: if it is less than said before, or more than was received.
        """
        said = self._consume(position)
        if said is None:
            await anyio.lowlevel.checkpoint()
        else:
            await self.stream.send(said)
