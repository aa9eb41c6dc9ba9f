"""What keeps a node going on trio, see :mod:`stt_backends.adapter.pump`."""

from __future__ import annotations

from collections.abc import Callable

import trio

from stt_backends.adapter.pump import Drivable, TaskPump, Watch
from stt_backends.websocket.hub import Source
from stt_trio.parking import ParkingLot


class TrioPump(TaskPump):
    """Two tasks: one waits for the socket, the other for commands in quick succession."""

    def __init__(self, driver: Drivable, finished: Callable[[], bool]) -> None:
        super().__init__(driver, finished, ParkingLot(), trio.current_time)
        self._socket = driver.socket
        self._nursery: trio.Nursery

    async def run(self) -> None:
        """Go on until ``finished()`` holds after a turn; whatever the driver raises comes out of here."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._settle_all)
                self._watch_all()
                try:
                    while not await self._go_on():
                        continue
                finally:
                    self._leave()
                    self._unwatch_all()
                self._nursery.cancel_scope.cancel()
        finally:
            if self._socket.fileno() >= 0:
                trio.lowlevel.notify_closing(self._socket)  # the node closes it next, with no checkpoint between
        if self._failure is not None:
            raise self._failure  # here, so that no group is around it

    async def _go_on(self) -> bool:
        """Take turns until a timer is due or somebody wakes us; True when it is over."""
        with trio.CancelScope() as scope:
            self._enter(scope)
            while not self._turn():
                if self._socket.fileno() < 0:
                    await trio.sleep_forever()
                elif self._driver.blocked:
                    await trio.lowlevel.wait_writable(self._socket)
                else:
                    await trio.lowlevel.wait_readable(self._socket)
            return True
        return False

    # --- WebSocket connections and their listener

    def _begin(self, watch: Watch, *, writing: bool) -> None:
        self._nursery.start_soon(self._write_all if writing else self._read_all, watch)

    def _make_lot(self) -> ParkingLot:
        return ParkingLot()

    def _notify_closing(self, source: Source) -> None:
        trio.lowlevel.notify_closing(source)

    async def _read_all(self, watch: Watch) -> None:
        source = watch.source
        with trio.CancelScope() as scope:
            watch.scopes.append(scope)
            while self._is_watched(watch):
                if source.wants_read:
                    await trio.lowlevel.wait_readable(source)
                    self._turn_of(source)
                else:
                    await watch.changed.park()

    async def _write_all(self, watch: Watch) -> None:
        source = watch.source
        with trio.CancelScope() as scope:
            watch.scopes.append(scope)
            while self._is_watched(watch) and source.wants_write:
                await trio.lowlevel.wait_writable(source)
                self._turn_of(source, writable=True)
            watch.scopes.remove(scope)
            watch.writing = False

    async def _settle_all(self) -> None:
        since = 0
        while True:
            await self._held.park(since)
            since = self._held.wakes
            await trio.lowlevel.checkpoint()
            while self._settle():
                await trio.lowlevel.checkpoint()
