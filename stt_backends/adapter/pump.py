"""What keeps a node going, in a task that waits: everything about it but the waits.

Rule: nothing is decided here but how long to wait. The task waits inside one cancel scope whose deadline is the next
timer: a new scope for each datagram would cost as much as the wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Protocol

from stt_backends.adapter.parking import ParkingLot
from stt_backends.driver import Driver


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


class TaskPump:
    """A pump of two tasks: one waits for the socket, the other for commands in quick succession.

    :param driver: what is driven.
    :param finished: asked after each turn whether it was the last.
    :param held: where the second task waits until the driver holds commands back.
    :param current_time: the event loop's clock, in which deadlines are given.
    """

    def __init__(
        self, driver: Driver, finished: Callable[[], bool], held: ParkingLot, current_time: Callable[[], float]
    ) -> None:
        self._driver = driver
        self._finished = finished
        self._held = held
        self._current_time = current_time
        self._scope: Scope | None = None
        self._due = inf
        self._woken = False
        self._failure: Exception | None = None

    # --- for the task that waits for the socket

    def _enter(self, scope: Scope) -> None:
        """The first task waits in ``scope`` from now on."""
        self._scope = scope
        self._due = inf

    def _turn(self) -> bool:
        """Take a turn and see what to wait for; True when it was the last."""
        self._woken = False
        self._guard(self._driver.turn)
        if self._failure is not None or self._finished():
            return True
        self._plan()
        return False

    def _leave(self) -> None:
        """The first task waits no more."""
        self._scope = None

    def _plan(self) -> None:
        """A deadline that comes too early costs one look; moving it at each packet would cost one each."""
        due = self._driver.next_timer()
        if due is not None and due < self._due and self._scope is not None:
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

    def _guard(self, step: Callable[[], bool | None]) -> bool | None:
        """Take a step; a failure ends the node, not whoever's call led to it."""
        try:
            return step()
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
