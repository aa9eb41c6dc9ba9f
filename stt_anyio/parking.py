"""The parking lots of each event loop, see :mod:`stt_backends.adapter.parking`."""

from __future__ import annotations

import asyncio
import sys

import anyio
import anyio.lowlevel

from stt_backends.adapter.parking import ParkingLot


class AsyncioParkingLot:
    """A future per waiting task: a fifth of what an ``anyio.Event`` costs."""

    __slots__ = ("_parked", "wakes")

    def __init__(self) -> None:
        self.wakes = 0
        self._parked: list[asyncio.Future[None]] = []

    async def park(self, since: int | None = None) -> None:
        """See :class:`ParkingLot`."""
        if since is not None and self.wakes != since:
            await anyio.lowlevel.checkpoint()
            return
        future = asyncio.get_running_loop().create_future()
        self._parked.append(future)
        try:
            await future
        except BaseException:
            if future in self._parked:  # else whoever woke it has taken it out
                self._parked.remove(future)
            raise

    def wake_all(self) -> None:
        """See :class:`ParkingLot`."""
        self.wakes += 1
        parked, self._parked = self._parked, []
        for future in parked:
            if not future.done():
                future.set_result(None)


class TrioParkingLot:
    """trio's own kind."""

    __slots__ = ("_lot", "wakes")

    def __init__(self) -> None:
        import trio  # noqa: PLC0415 - only there where it is the running library

        self.wakes = 0
        self._lot = trio.lowlevel.ParkingLot()

    async def park(self, since: int | None = None) -> None:
        """See :class:`ParkingLot`."""
        if since is not None and self.wakes != since:
            await anyio.lowlevel.checkpoint()
            return
        await self._lot.park()

    def wake_all(self) -> None:
        """See :class:`ParkingLot`."""
        self.wakes += 1
        self._lot.unpark_all()


def on_trio() -> bool:
    """Whether the running event loop is trio's."""
    # Not by sniffio: anyio no longer brings it. A program that runs on trio has imported it.
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def parking_lot() -> ParkingLot:
    """What parks best on the running event loop."""
    return TrioParkingLot() if on_trio() else AsyncioParkingLot()
