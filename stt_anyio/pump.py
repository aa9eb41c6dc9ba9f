"""What keeps a node going: calls its driver when the socket, a timer or a command says so.

Rule: nothing is decided here but how to wait. On asyncio there is no task in the way of a datagram: the reader stays
registered, its callback takes the turn, and one timer moves. Elsewhere a task waits for the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from stt_anyio.parking import on_trio, parking_lot
from stt_backends.adapter.parking import ParkingLot
from stt_backends.adapter.pump import Drivable, Pump, TaskPump, Watch
from stt_backends.websocket.hub import Source


class _Watch:
    """What the event loop was asked to do about one descriptor."""

    __slots__ = ("descriptor", "reading", "writing")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.reading = self.writing = False


class AsyncioPump:
    """On asyncio and uvloop.

    :raises RuntimeError: on an event loop that watches no sockets (Windows' default).
    """

    def __init__(self, driver: Drivable, finished: Callable[[], bool]) -> None:
        self._driver = driver
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._descriptor = driver.socket.fileno()
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._writing = False
        self._woken = False
        self._troubles = 0
        self._watches: dict[Source, _Watch] = {}
        if self._descriptor >= 0:
            self._loop.add_reader(self._descriptor, self._turn)

    async def run(self) -> None:
        """See :class:`Pump`."""
        hub = self._driver.hub
        if hub is not None:
            hub.watcher = self
            for source in hub.sources:
                self.watch(source)
        self._turn()
        try:
            await self._end
        finally:
            if not self._end.done():
                self._end.cancel()
            if hub is not None:
                hub.watcher = None
            for source in list(self._watches):
                self.unwatch(source)
            if self._descriptor >= 0:
                self._loop.remove_reader(self._descriptor)
            if self._writing:
                self._loop.remove_writer(self._descriptor)
            if self._timer is not None:
                self._timer.cancel()

    # --- WebSocket connections and their listener

    def watch(self, source: Source) -> None:
        """See :class:`~stt_backends.websocket.hub.Watcher`."""
        self._watches[source] = _Watch(source.fileno())
        self.adjust(source)

    def adjust(self, source: Source) -> None:
        """See :class:`~stt_backends.websocket.hub.Watcher`."""
        watch = self._watches.get(source)
        if watch is None:
            return
        if source.wants_read != watch.reading:
            watch.reading = not watch.reading
            if watch.reading:
                self._loop.add_reader(watch.descriptor, self._turn_of, source)
            else:
                self._loop.remove_reader(watch.descriptor)
        if source.wants_write != watch.writing:
            watch.writing = not watch.writing
            if watch.writing:
                self._loop.add_writer(watch.descriptor, self._turn_of_writable, source)
            else:
                self._loop.remove_writer(watch.descriptor)

    def unwatch(self, source: Source) -> None:
        """See :class:`~stt_backends.websocket.hub.Watcher`."""
        watch = self._watches.pop(source, None)
        if watch is not None and watch.reading:
            self._loop.remove_reader(watch.descriptor)
        if watch is not None and watch.writing:
            self._loop.remove_writer(watch.descriptor)

    def _turn_of(self, source: Source) -> None:
        if not self._end.done():
            self._guard(self._driver.turn_of, source)

    def _turn_of_writable(self, source: Source) -> None:
        if not self._end.done():
            self._guard(self._driver.turn_of, source, True)

    # --- commands

    def submit(self) -> None:
        """See :class:`Pump`."""
        if not self._end.done():
            self._guard(self._driver.submit)

    def wake(self) -> None:
        """See :class:`Pump`."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._woken = False
        if not self._end.done():
            self._guard(self._driver.turn)

    def _settle(self) -> None:
        if not self._end.done():
            self._guard(self._driver.settle)

    def _guard(self, step: Callable[..., bool], *args: object) -> None:
        """Take a step, then see what to wait for: a failure ends the node, not whoever's call led to it."""
        try:
            if step(*args):  # something was held back
                self._loop.call_soon(self._settle)
            self._plan()
        except Exception as error:  # noqa: BLE001 - it comes out of run()
            self._end.set_exception(error)

    def _plan(self) -> None:
        driver = self._driver
        if self._finished():
            self._end.set_result(None)
            return
        if driver.socket.troubles != self._troubles:
            # libuv, and so uvloop, drops a socket that has an error to report: without this, one refusal by ICMP left
            # the node deaf until its next timer.
            self._troubles = driver.socket.troubles
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._writing = False
            self._loop.add_reader(self._descriptor, self._turn)
        if driver.blocked != self._writing:
            self._writing = driver.blocked
            if self._writing:
                self._loop.add_writer(self._descriptor, self._turn)
            else:
                self._loop.remove_writer(self._descriptor)
        # A timer that comes too early costs one look; moving it at each packet would cost one each.
        if driver.quiet_until >= self._timer_at:
            return
        due = driver.next_timer()
        if due is not None and due < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            self._timer = self._loop.call_later(max(0.0, due - driver.clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = inf
        self._turn()


class AnyioPump(TaskPump):
    """On every event loop that anyio knows."""

    def __init__(self, driver: Drivable, finished: Callable[[], bool]) -> None:
        super().__init__(driver, finished, parking_lot(), anyio.current_time)
        self._socket = driver.socket
        self._wait_readable: Callable[[Any], Awaitable[None]] = anyio.wait_readable
        if on_trio():
            import trio  # noqa: PLC0415 - only there where it is the running library

            self._wait_readable = trio.lowlevel.wait_readable
        self._tasks: TaskGroup

    async def run(self) -> None:
        """See :class:`Pump`."""
        try:
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._settle_all)
                self._watch_all()
                try:
                    while not await self._go_on():
                        continue
                finally:
                    self._leave()
                    self._unwatch_all()
                self._tasks.cancel_scope.cancel()
        finally:
            if self._socket.fileno() >= 0:
                anyio.notify_closing(self._socket)  # the node closes it next, with no checkpoint between
        if self._failure is not None:
            raise self._failure  # here, so that no group is around it

    async def _go_on(self) -> bool:
        """Take turns until a timer is due or somebody wakes us; True when it is over."""
        with anyio.CancelScope() as scope:
            self._enter(scope)
            while not self._turn():
                if self._socket.fileno() < 0:
                    await anyio.sleep_forever()
                await (anyio.wait_writable if self._driver.blocked else self._wait_readable)(self._socket)
            return True
        return False

    # --- WebSocket connections and their listener

    def _begin(self, watch: Watch, *, writing: bool) -> None:
        self._tasks.start_soon(self._write_all if writing else self._read_all, watch)

    def _make_lot(self) -> ParkingLot:
        return parking_lot()

    def _notify_closing(self, source: Source) -> None:
        anyio.notify_closing(source)

    async def _read_all(self, watch: Watch) -> None:
        source = watch.source
        with anyio.CancelScope() as scope:
            watch.scopes.append(scope)
            while self._is_watched(watch):
                if source.wants_read:
                    await self._wait_readable(source)
                    self._turn_of(source)
                else:
                    await watch.changed.park()

    async def _write_all(self, watch: Watch) -> None:
        source = watch.source
        with anyio.CancelScope() as scope:
            watch.scopes.append(scope)
            while self._is_watched(watch) and source.wants_write:
                await anyio.wait_writable(source)
                self._turn_of(source, writable=True)
            watch.scopes.remove(scope)
            watch.writing = False

    async def _settle_all(self) -> None:
        since = 0
        while True:
            await self._held.park(since)
            since = self._held.wakes
            await anyio.lowlevel.checkpoint()
            while self._settle():
                await anyio.lowlevel.checkpoint()


def pump_for(driver: Drivable, finished: Callable[[], bool]) -> Pump:
    """What drives best on the running event loop."""
    if not on_trio():
        try:
            return AsyncioPump(driver, finished)
        except RuntimeError:
            return AnyioPump(driver, finished)
    return AnyioPump(driver, finished)
