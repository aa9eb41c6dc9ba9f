"""A WebSocket connection being opened: to the first of several addresses that answers.

Rule: whoever wanted it is told once, by ``on_done``, unless he abandons it before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from stt_backends.driver import Driver
from stt_backends.websocket.link import Link, Target


class Opening:
    """``on_done(link)`` gives one that is open, or the last that failed: its ``failure`` says why.

    :param targets: one at least; they are tried one after the other.
    :param deadline: when to give all of it up, monotonic seconds.
    """

    __slots__ = ("_deadline", "_driver", "_link", "_on_done", "_over", "_targets")

    def __init__(
        self, driver: Driver, targets: Iterable[Target], deadline: float, on_done: Callable[[Link], None]
    ) -> None:
        self._driver = driver
        self._targets = deque(targets)
        self._deadline = deadline
        self._on_done = on_done
        self._link: Link | None = None
        self._over = False

    def begin(self) -> None:
        """Try the first, or next; ``on_done`` may be called in here. The pump must be woken afterwards."""
        link = self._driver.hub.connect(self._targets.popleft(), self._deadline, self._on_settled)
        if not link.over:  # else the next one is being opened already
            self._link = link

    def abandon(self) -> None:
        """Nobody wants it any more."""
        if not self._over:
            self._over = True
            if self._link is not None:
                self._driver.hub.abandon(self._link)

    def _on_settled(self, link: Link) -> None:
        if self._over:
            return
        if link.failure is not None and self._targets and self._deadline > self._driver.clock():
            self.begin()
            return
        self._over = True
        self._on_done(link)
