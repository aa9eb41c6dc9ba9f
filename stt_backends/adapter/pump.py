"""What keeps a node going, in a task that waits: everything about it but the waits.

Rule: nothing is decided here but how long to wait. The task waits inside one cancel scope whose deadline is the next
timer: a new scope for each datagram would cost as much as the wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Protocol

from stt_backends.absent import AbsentSocket
from stt_backends.adapter.parking import ParkingLot
from stt_backends.udp import UdpSocket
from stt_backends.websocket.hub import Hub, Source


class Drivable(Protocol):
    """What a pump drives: a :class:`~stt_backends.driver.Driver`, or that of a DHT node."""

    @property
    def socket(self) -> UdpSocket | AbsentSocket:
        """What to wait for."""
        ...

    @property
    def hub(self) -> Hub | None:
        """Other sources to wait for, if there may be any."""
        ...

    @property
    def clock(self) -> Callable[[], float]:
        """The clock that timers are given in."""
        ...

    @property
    def blocked(self) -> bool:
        """Whether to wait until the socket is writable."""
        ...

    def next_timer(self) -> float | None:
        """When a turn is due whatever the socket does; None for never."""
        ...

    @property
    def quiet_until(self) -> float:
        """No timer is due before, and :meth:`next_timer` may be later; infinite where there is none."""
        ...

    def turn(self) -> bool:
        """Read, act on timers, deliver events, send; True as :meth:`submit`."""
        ...

    def turn_of(self, source: Source, writable: bool = False) -> bool:
        """One of the hub's sources is readable, or ``writable``; True as :meth:`submit`."""
        ...

    def submit(self) -> bool:
        """Send what a command queued; True where :meth:`settle` must follow when all others had a turn."""
        ...

    def settle(self) -> bool:
        """Send what was held back; True where it must be called once more."""
        ...


class Pump(Protocol):
    """Drives one driver until its owner has had enough."""

    def run(self) -> Awaitable[None]:
        """Go on until ``finished()`` holds after a turn; whatever the driver raises comes out of here."""
        ...

    def submit(self) -> None:
        """A command was given: let what it queued leave, at once or with what follows at its heels."""
        ...

    def wake(self) -> None:
        """Take a turn soon, and ask whether it was the last."""
        ...


class Scope(Protocol):
    """A cancel scope, as anyio and trio have it."""

    deadline: float

    def cancel(self) -> None:
        """End whatever waits inside."""
        ...


class Watch:
    """One source that tasks wait for: one until it is readable, another now and then until it is writable."""

    __slots__ = ("changed", "scopes", "source", "writing")

    def __init__(self, source: Source, changed: ParkingLot) -> None:
        self.source = source
        self.changed = changed
        """News that it wants to read again."""
        self.scopes: list[Scope] = []
        """Those its tasks wait in."""
        self.writing = False


class TaskPump:
    """A pump of two tasks: one waits for the socket, the other for commands in quick succession. Each WebSocket
    connection, and their listener, has a task of its own, and one more while it has something to send and can't.

    An adapter supplies the waits: ``_read_all(watch)`` and ``_write_all(watch)``, begun by :meth:`_begin`.

    :param driver: what is driven.
    :param finished: asked after each turn whether it was the last.
    :param held: where the second task waits until the driver holds commands back.
    :param current_time: the event loop's clock, in which deadlines are given.
    """

    def __init__(
        self, driver: Drivable, finished: Callable[[], bool], held: ParkingLot, current_time: Callable[[], float]
    ) -> None:
        self._driver = driver
        self._finished = finished
        self._held = held
        self._current_time = current_time
        self._scope: Scope | None = None
        self._due = inf
        self._woken = False
        self._failure: Exception | None = None
        self._watches: dict[Source, Watch] = {}

    # --- what the adapter supplies

    def _begin(self, watch: Watch, *, writing: bool) -> None:
        """Begin a task that waits until ``watch.source`` is readable, or writable, over and over."""
        raise AssertionError("an adapter overrides this")

    def _make_lot(self) -> ParkingLot:
        """A new one."""
        raise AssertionError("an adapter overrides this")

    def _notify_closing(self, source: Source) -> None:
        """A source's descriptor is closed next."""
        raise AssertionError("an adapter overrides this")

    # --- for the tasks that wait for a source: a watcher, as the hub knows it

    def watch(self, source: Source) -> None:
        """See :class:`~stt_backends.websocket.hub.Watcher`."""
        watch = self._watches[source] = Watch(source, self._make_lot())
        self._begin(watch, writing=False)
        self.adjust(source)

    def adjust(self, source: Source) -> None:
        """See :class:`~stt_backends.websocket.hub.Watcher`."""
        watch = self._watches.get(source)
        if watch is None:
            return
        if source.wants_read:
            watch.changed.wake_all()
        if source.wants_write and not watch.writing:
            watch.writing = True
            self._begin(watch, writing=True)

    def unwatch(self, source: Source) -> None:
        """See :class:`~stt_backends.websocket.hub.Watcher`."""
        watch = self._watches.pop(source, None)
        if watch is not None:
            for scope in watch.scopes:
                scope.cancel()
            self._notify_closing(source)

    def _is_watched(self, watch: Watch) -> bool:
        """Whether to go on waiting: its descriptor is still there."""
        return self._watches.get(watch.source) is watch

    def _turn_of(self, source: Source, *, writable: bool = False) -> None:
        """It is readable, or writable."""
        if self._failure is None and source in self._watches:
            if self._guard(self._driver.turn_of, source, writable=writable):
                self._held.wake_all()
            self._after_sending()

    def _watch_all(self) -> None:
        hub = self._driver.hub
        if hub is not None:
            hub.watcher = self
            for source in hub.sources:
                self.watch(source)

    def _unwatch_all(self) -> None:
        if self._driver.hub is not None:
            self._driver.hub.watcher = None
        for source in list(self._watches):
            self.unwatch(source)

    # --- for the task that waits for the socket

    def _enter(self, scope: Scope) -> None:
        """The first task waits in ``scope`` from now on."""
        self._scope = scope
        self._due = inf

    def _turn(self) -> bool:
        """Take a turn and see what to wait for; True when it was the last."""
        self._woken = False
        if self._guard(self._driver.turn):
            self._held.wake_all()
        if self._failure is not None or self._finished():
            return True
        self._plan()
        return False

    def _leave(self) -> None:
        """The first task waits no more."""
        self._scope = None

    def _plan(self) -> None:
        """A deadline that comes too early costs one look; moving it at each packet would cost one each."""
        if self._driver.quiet_until >= self._due or self._scope is None:
            return
        due = self._driver.next_timer()
        if due is not None and due < self._due:
            self._due = due
            self._scope.deadline = self._current_time() + max(0.0, due - self._driver.clock())

    # --- for the task that waits for commands

    def _settle(self) -> bool:
        """Everybody had a turn: send what was held back, or True where it waits for more."""
        if self._guard(self._driver.settle):
            return True
        self._after_sending()
        return False

    def _after_sending(self) -> None:
        """What left may have brought the next timer nearer, or filled the socket."""
        if self._scope is None:
            return
        if self._driver.blocked or self._finished():
            self.wake()
        else:
            self._plan()

    def _guard(self, step: Callable[..., bool | None], *args: Source, **options: bool) -> bool | None:
        """Take a step; a failure ends the node, not whoever's call led to it."""
        try:
            return step(*args, **options)
        except Exception as error:  # noqa: BLE001 - it comes out of run()
            self._failure = error
            self.wake()
            return False

    # --- for the node

    def submit(self) -> None:
        """See :class:`Pump`."""
        if self._guard(self._driver.submit):
            self._held.wake_all()
        else:
            self._after_sending()

    def wake(self) -> None:
        """See :class:`Pump`."""
        if not self._woken:
            self._woken = True
            if self._scope is not None:
                self._scope.cancel()
