"""Where tasks wait on trio, see :mod:`stt_backends.adapter.parking`."""

from __future__ import annotations

import trio


class ParkingLot:
    """trio's own kind, and a count of the news."""

    __slots__ = ("_lot", "wakes")

    def __init__(self) -> None:
        self.wakes = 0
        self._lot = trio.lowlevel.ParkingLot()

    async def park(self, since: int | None = None) -> None:
        """Until :meth:`wake_all`, or not at all where it was called since :attr:`wakes` was ``since``; a checkpoint."""
        if since is not None and self.wakes != since:
            await trio.lowlevel.checkpoint()
            return
        await self._lot.park()

    def wake_all(self) -> None:
        """End the wait of all that are parked."""
        self.wakes += 1
        self._lot.unpark_all()
