"""A road: one bottleneck with a queue, a distance, and loss; and the chance and the time that all on it share."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tests.sim.clock import Clock
from tests.sim.lab import Lab
from tests.sim.wire import Bottleneck, Delay, Element, Loss, Onward

DATAGRAM = 1200
"""Bytes of UDP payload of a full datagram, for everybody."""
SHORTEST_QUEUE = 40 * DATAGRAM
"""Bytes that wait before the bottleneck at least, however short the road is."""
SETTLED = 2.0
"""Seconds given to every flow for its handshake. The road is wide and loses nothing until then, so that sizes of
certificates and the like, which differ from run to run, leave no trace."""
WIDE = 1e12


@dataclass(frozen=True)
class Road:
    """``mbits`` are 10^6 bits a second of UDP payload, ``rtt`` is in seconds without queueing, ``loss`` is a share, of
    what goes either way; ``queue`` is in bytes, None for one ``rtt`` worth of the link.
    """

    mbits: float
    rtt: float
    loss: float = 0.0
    queue: int | None = None

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.mbits * 1e6 / 8

    @property
    def waiting(self) -> int:
        """Bytes that the queue takes."""
        return max(int(self.rate * self.rtt), SHORTEST_QUEUE) if self.queue is None else self.queue


@dataclass
class Traffic:
    """Everything on one road: make the flows, then :meth:`open` it."""

    road: Road
    seed: int
    lab: Lab = field(init=False)
    link: Bottleneck = field(init=False)
    flows: int = 0

    def __post_init__(self) -> None:
        self.lab = Lab(self.seed, capture=False)
        self.link = Bottleneck(WIDE, self.road.waiting)
        self._losses: list[Loss] = []

    @property
    def clock(self) -> Clock:
        return self.lab.clock

    def forth(self) -> list[Element]:
        """The way of the data: through the bottleneck that all flows share."""
        return [self.link, self._loss(), Delay(self.road.rtt / 2)]

    def back(self) -> list[Element]:
        """The way of the acknowledgements, which is wide."""
        return [self._loss(), Delay(self.road.rtt / 2)]

    def way(self, elements: list[Element], end: Onward) -> Onward:
        """A way through ``elements`` to ``end``, for whoever isn't a host of the laboratory."""
        onward = end
        for element in reversed(elements):
            element.attach(self.clock, self.lab.random)
            onward = _through(element, onward)
        return onward

    def _loss(self) -> Loss:
        self._losses.append(Loss(0.0))
        return self._losses[-1]

    def open(self) -> None:
        """Let handshakes pass undisturbed; from then on the road is what it is."""
        self.lab.run_for(SETTLED)
        self.link.rate = self.road.rate
        self.link.longest = 0.0
        for number, loss in enumerate(self._losses):
            # Everybody's own dice: the same for whoever takes that place.
            loss.attach(self.clock, Random(f"{self.seed} {number}"))
            loss.rate = self.road.loss

    def run(self, seconds: float) -> None:
        """Let that much virtual time pass."""
        self.lab.run_for(seconds)


def _through(element: Element, onward: Onward) -> Onward:
    return lambda datagram: element.carry(datagram, onward)
