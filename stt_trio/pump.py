"""What keeps a node going on trio, see :mod:`stt_backends.adapter.pump`."""

from __future__ import annotations

from collections.abc import Callable

import trio

from stt_backends.adapter.pump import Drivable, TaskPump
from stt_trio.parking import ParkingLot


class TrioPump(TaskPump):
    """Two tasks: one waits for the socket, the other for commands in quick succession."""

    def __init__(self, driver: Drivable, finished: Callable[[], bool]) -> None:
        super().__init__(driver, finished, ParkingLot(), trio.current_time)
        self._socket = driver.socket

    async def run(self) -> None:
        """Go on until ``finished()`` holds after a turn; whatever the driver raises comes out of here."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._settle_all)
                try:
                    while not await self._go_on():
                        continue
                finally:
                    self._leave()
                nursery.cancel_scope.cancel()
        finally:
            trio.lowlevel.notify_closing(self._socket)  # the node closes it next, with no checkpoint between
        if self._failure is not None:
            raise self._failure  # here, so that no group is around it

    async def _go_on(self) -> bool:
        """Take turns until a timer is due or somebody wakes us; True when it is over."""
        with trio.CancelScope() as scope:
            self._enter(scope)
            while not self._turn():
                if self._driver.blocked:
                    await trio.lowlevel.wait_writable(self._socket)
                else:
                    await trio.lowlevel.wait_readable(self._socket)
            return True
        return False

    async def _settle_all(self) -> None:
        since = 0
        while True:
            await self._held.park(since)
            since = self._held.wakes
            await trio.lowlevel.checkpoint()
            while self._settle():
                await trio.lowlevel.checkpoint()
