"""A WebSocket connection being opened: to whichever of several addresses answers first.

Rule: whoever wanted it is told once, by ``on_done``, unless he abandons it before. The next address is tried when one
has failed, or has not answered for a while (:mod:`~stt_backends.adapter.racing`); the first that is open, with TLS and
the upgrade done, ends the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from stt_backends.adapter.racing import ATTEMPT_DELAY
from stt_backends.driver import Driver
from stt_backends.websocket.hub import Alarm
from stt_backends.websocket.link import Link, Target


class Opening:
    """``on_done(link)`` gives one that is open, or the last that failed: its ``failure`` says why.

    :param targets: one at least, in the order in which they are to be tried.
    :param deadline: when to give all of it up, monotonic seconds.
    :param delay: seconds until the next is tried as well.
    """

    __slots__ = ("_alarm", "_deadline", "_delay", "_driver", "_links", "_on_done", "_over", "_targets")

    def __init__(
        self,
        driver: Driver,
        targets: Iterable[Target],
        deadline: float,
        on_done: Callable[[Link], None],
        delay: float = ATTEMPT_DELAY,
    ) -> None:
        self._driver = driver
        self._targets = deque(targets)
        self._deadline = deadline
        self._delay = delay
        self._on_done = on_done
        self._links: set[Link] = set()
        self._alarm: Alarm | None = None
        self._over = False

    def begin(self) -> None:
        """Try the first, or next; ``on_done`` may be called in here. The pump must be woken afterwards."""
        self._call_off()
        link = self._driver.hub.connect(self._targets.popleft(), self._deadline, self._on_settled)
        if link.over:
            return  # and the next one is being opened already
        self._links.add(link)
        if self._targets:
            self._alarm = self._driver.hub.call_at(self._driver.clock() + self._delay, self.begin)

    def abandon(self) -> None:
        """Nobody wants it any more."""
        self._over = True
        self._call_off()
        links, self._links = self._links, set()
        for link in links:
            self._driver.hub.abandon(link)

    def _call_off(self) -> None:
        if self._alarm is not None:
            self._driver.hub.call_off(self._alarm)
            self._alarm = None

    def _on_settled(self, link: Link) -> None:
        self._links.discard(link)
        if self._over:
            return
        if link.failure is None:
            self.abandon()
        elif self._targets and self._deadline > self._driver.clock():
            self.begin()
            return
        elif self._links:
            return  # these may do better
        self._over = True
        self._on_done(link)
