"""What keeps a node going: calls its driver when the socket, a timer or a command says so.

Rule: nothing is decided here but how to wait. On asyncio there is no task in the way of a datagram: the reader stays
registered, its callback takes the turn, and one timer moves. Elsewhere a task waits for the socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

from stt_anyio.parking import on_trio, parking_lot
from stt_backends.adapter.pump import Pump, TaskPump
from stt_backends.driver import Driver
from stt_backends.udp import UdpSocket


class AsyncioPump:
    """On asyncio and uvloop.

    :raises RuntimeError: on an event loop that watches no sockets (Windows' default).
    """

    def __init__(self, driver: Driver, finished: Callable[[], bool]) -> None:
        self._driver = driver
        self._finished = finished
        self._loop = asyncio.get_running_loop()
        self._descriptor = driver.socket.fileno()
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._writing = False
        self._woken = False
        self._loop.add_reader(self._descriptor, self._turn)

    async def run(self) -> None:
        """See :class:`Pump`."""
        self._turn()
        try:
            await self._end
        finally:
            if not self._end.done():
                self._end.cancel()
            self._loop.remove_reader(self._descriptor)
            if self._writing:
                self._loop.remove_writer(self._descriptor)
            if self._timer is not None:
                self._timer.cancel()

    def submit(self) -> None:
        """See :class:`Pump`."""
        if not self._end.done():
            self._guard(self._submit)

    def wake(self) -> None:
        """See :class:`Pump`."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._woken = False
        if not self._end.done():
            self._guard(self._driver.turn)

    def _submit(self) -> None:
        if self._driver.submit():
            self._loop.call_soon(self._settle)

    def _settle(self) -> None:
        if not self._end.done():
            self._guard(self._settle_once)

    def _settle_once(self) -> None:
        if self._driver.settle():
            self._loop.call_soon(self._settle)

    def _guard(self, step: Callable[[], None]) -> None:
        """Take a step, then see what to wait for: a failure ends the node, not whoever's call led to it."""
        try:
            step()
            self._plan()
        except Exception as error:  # noqa: BLE001 - it comes out of run()
            self._end.set_exception(error)

    def _plan(self) -> None:
        driver = self._driver
        if self._finished():
            self._end.set_result(None)
            return
        if driver.blocked != self._writing:
            self._writing = driver.blocked
            if self._writing:
                self._loop.add_writer(self._descriptor, self._turn)
            else:
                self._loop.remove_writer(self._descriptor)
        # A timer that comes too early costs one look; moving it at each packet would cost one each.
        due = driver.next_timer()
        if due is not None and (self._timer is None or due < self._timer_at):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = due
            self._timer = self._loop.call_later(max(0.0, due - driver.clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._turn()


class AnyioPump(TaskPump):
    """On every event loop that anyio knows."""

    def __init__(self, driver: Driver, finished: Callable[[], bool]) -> None:
        super().__init__(driver, finished, parking_lot(), anyio.current_time)
        self._socket = driver.socket
        self._wait_readable: Callable[[UdpSocket], Awaitable[None]] = anyio.wait_readable
        if on_trio():
            import trio  # noqa: PLC0415 - only there where it is the running library

            self._wait_readable = trio.lowlevel.wait_readable

    async def run(self) -> None:
        """See :class:`Pump`."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._settle_all)
                try:
                    while not await self._go_on():
                        continue
                finally:
                    self._leave()
                tasks.cancel_scope.cancel()
        finally:
            anyio.notify_closing(self._socket)  # the node closes it next, with no checkpoint between
        if self._failure is not None:
            raise self._failure  # here, so that no group is around it

    async def _go_on(self) -> bool:
        """Take turns until a timer is due or somebody wakes us; True when it is over."""
        with anyio.CancelScope() as scope:
            self._enter(scope)
            while not self._turn():
                await (anyio.wait_writable if self._driver.blocked else self._wait_readable)(self._socket)
            return True
        return False

    async def _settle_all(self) -> None:
        since = 0
        while True:
            await self._held.park(since)
            since = self._held.wakes
            await anyio.lowlevel.checkpoint()
            while self._settle():
                await anyio.lowlevel.checkpoint()


def pump_for(driver: Driver, finished: Callable[[], bool]) -> Pump:
    """What drives best on the running event loop."""
    if not on_trio():
        try:
            return AsyncioPump(driver, finished)
        except RuntimeError:
            return AnyioPump(driver, finished)
    return AnyioPump(driver, finished)
