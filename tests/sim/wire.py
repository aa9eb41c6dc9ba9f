"""What can happen to a datagram between two hosts: the elements a link is a chain of.

Rule: an element draws from the laboratory's one seeded ``random.Random`` and schedules on its clock, and keeps no
other source of surprise. Elements hold no route: each is told where to pass a datagram on to, so that one instance
(a bottleneck, say) can stand in several links at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from tests.sim.clock import Clock

Address = Hashable


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram on its way; ``source`` is what the receiver will see."""

    source: Address
    destination: Address
    data: bytes


Onward = Callable[[Datagram], None]
Match = Callable[[Datagram], bool]


class Element:
    """One thing that happens to every datagram that passes. ``attach`` comes before the first ``carry``."""

    clock: Clock
    random: Random

    def attach(self, clock: Clock, rng: Random) -> None:
        """Give the element its time and its chance."""
        self.clock = clock
        self.random = rng

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        """Pass the datagram on: now, later, changed, more than once or never."""
        onward(datagram)


class Loss(Element):
    """Loses a share of all datagrams."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.lost = 0

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        if self.random.random() < self.rate:
            self.lost += 1
        else:
            onward(datagram)


class Corrupt(Element):
    """Flips one to four bits in a share of all datagrams; one in eight of those is cut short instead."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.corrupted = 0

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        if datagram.data and self.random.random() < self.rate:
            self.corrupted += 1
            datagram = replace(datagram, data=self._damage(datagram.data))
        onward(datagram)

    def _damage(self, data: bytes) -> bytes:
        if self.random.random() < 0.125:
            return data[: self.random.randrange(len(data))]
        damaged = bytearray(data)
        for bit in self.random.sample(range(8 * len(data)), self.random.randint(1, min(4, 8 * len(data)))):
            damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)


class Duplicate(Element):
    """Delivers a share of all datagrams twice, back to back."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.duplicated = 0

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        onward(datagram)
        if self.random.random() < self.rate:
            self.duplicated += 1
            onward(datagram)


class Reorder(Element):
    """Holds a share of all datagrams back for up to ``hold`` seconds, so that later ones overtake them."""

    def __init__(self, rate: float, hold: float) -> None:
        self.rate = rate
        self.hold = hold
        self.held = 0

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        if self.random.random() < self.rate:
            self.held += 1
            self.clock.after(self.random.uniform(0.0, self.hold), lambda: onward(datagram))
        else:
            onward(datagram)


class Delay(Element):
    """Propagation: ``delay`` seconds plus up to ``jitter``; never reorders by itself, as a queue doesn't."""

    def __init__(self, delay: float, jitter: float = 0.0) -> None:
        self.delay = delay
        self.jitter = jitter
        self._latest = 0.0

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        arrival = self.clock.now + self.delay
        if self.jitter:
            arrival = self._latest = max(self._latest, arrival + self.random.uniform(0.0, self.jitter))
        self.clock.at(arrival, lambda: onward(datagram))


class Bottleneck(Element):
    """Sends ``rate`` bytes a second from a first-in first-out queue of ``queue`` bytes; what does not fit is lost."""

    def __init__(self, rate: float, queue: int) -> None:
        self.rate = rate
        self.queue = queue
        self.dropped = 0
        self.carried = 0
        self.longest = 0.0
        """The fullest the queue has been, in bytes."""
        self._free_at = 0.0

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        now = self.clock.now
        size = len(datagram.data)
        waiting = max(0.0, self._free_at - now) * self.rate
        if waiting + size > self.queue:
            self.dropped += 1
            return
        self.longest = max(self.longest, waiting + size)
        self.carried += size
        self._free_at = max(now, self._free_at) + size / self.rate
        self.clock.at(self._free_at, lambda: onward(datagram))


class Mtu(Element):
    """Drops without a word what is longer than ``largest`` bytes of UDP payload."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.dropped = 0

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        if len(datagram.data) > self.largest:
            self.dropped += 1
        else:
            onward(datagram)


class Switch(Element):
    """A cable that can be pulled: passes everything while ``up``, nothing while not."""

    def __init__(self) -> None:
        self.up = True

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        if self.up:
            onward(datagram)


class Meddler(Element):
    """Does one thing to chosen datagrams: the attacker, or the bad luck, of a scenario.

    The first ``times`` datagrams that ``match`` are handed to ``act`` in place of being passed on (all that match,
    where ``times`` is None); ``caught`` keeps them.
    """

    def __init__(self, match: Match, act: Callable[[Datagram, Onward], None], times: int | None = 1) -> None:
        self.match = match
        self.act = act
        self.times = times
        self.caught: list[Datagram] = []

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        if (self.times is None or len(self.caught) < self.times) and self.match(datagram):
            self.caught.append(datagram)
            self.act(datagram, onward)
        else:
            onward(datagram)


def drop(match: Match, times: int | None = 1) -> Meddler:
    """Lose the first ``times`` datagrams that match."""
    return Meddler(match, lambda _datagram, _onward: None, times)


def double(match: Match, times: int | None = 1, *, after: float = 0.0) -> Meddler:
    """Deliver the first ``times`` datagrams that match twice, the copy ``after`` seconds later."""

    def act(datagram: Datagram, onward: Onward) -> None:
        onward(datagram)
        meddler.clock.after(after, lambda: onward(datagram))

    meddler = Meddler(match, act, times)
    return meddler


def hold(match: Match, seconds: float, times: int | None = 1) -> Meddler:
    """Deliver the first ``times`` datagrams that match ``seconds`` late."""

    def act(datagram: Datagram, onward: Onward) -> None:
        meddler.clock.after(seconds, lambda: onward(datagram))

    meddler = Meddler(match, act, times)
    return meddler


def change(match: Match, edit: Callable[[bytes], bytes], times: int | None = 1) -> Meddler:
    """Replace the bytes of the first ``times`` datagrams that match."""
    return Meddler(match, lambda datagram, onward: onward(replace(datagram, data=edit(datagram.data))), times)


@dataclass(frozen=True, slots=True)
class Conditions:
    """One direction of a link in figures: seconds, shares of all datagrams, bytes a second, bytes.

    ``extra`` elements come first, nearest to the sender: they see each datagram as it was sent.
    """

    delay: float = 0.01
    jitter: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    reorder_hold: float = 0.02
    duplicate: float = 0.0
    corrupt: float = 0.0
    rate: float | None = None
    queue: int = 64 * 1024
    mtu: int | None = None
    extra: Sequence[Element] = field(default=())

    def elements(self) -> list[Element]:
        """The chain, in the order a datagram passes it; only what these conditions need."""
        chain: list[Element] = list(self.extra)
        if self.mtu is not None:
            chain.append(Mtu(self.mtu))
        if self.loss:
            chain.append(Loss(self.loss))
        if self.corrupt:
            chain.append(Corrupt(self.corrupt))
        if self.duplicate:
            chain.append(Duplicate(self.duplicate))
        if self.rate is not None:
            chain.append(Bottleneck(self.rate, self.queue))
        chain.append(Delay(self.delay, self.jitter))
        if self.reorder:
            chain.append(Reorder(self.reorder, self.reorder_hold))
        return chain
