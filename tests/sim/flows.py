"""Congestion control by itself: bulk flows over chains of network elements, without handshakes, keys or streams.

Rule: the sender is the real loss recovery, controller and pacer, asked as a session's channel asks them; the receiver
keeps the real ranges and acknowledges as a session does. Only what they carry is nothing. A packet costs a tenth of
what it does in the laboratory, so a scenario can last minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from stt_core.ranges import ReceivedPackets
from stt_core.recovery.congestion import CongestionController
from stt_core.recovery.ecn import CE, ECT_0, NOT_ECT, EcnCounter, EcnCounts, EcnValidator
from stt_core.recovery.loss import Recovery
from stt_core.recovery.pacing import Pacer
from stt_core.rtt import RttEstimator
from tests.sim.clock import Clock
from tests.sim.wire import Bottleneck, Datagram, Element, Onward

SIZE = 1200
"""Bytes of a datagram."""
BODY = SIZE - 29
MAX_ACK_DELAY = 0.025
BATCH = 54
"""Datagrams of :data:`SIZE` that one system call sends."""
_PACKET, _ACK = bytes(SIZE), bytes(60)


@dataclass(frozen=True, slots=True)
class Packet(Datagram):
    """One of a flow's packets."""

    number: int
    codepoint: int


@dataclass(frozen=True, slots=True)
class Ack(Datagram):
    """An acknowledgement on its way back."""

    ranges: Sequence[tuple[int, int]]
    delay: float
    counts: EcnCounts | None


class Marker(Bottleneck):
    """A bottleneck that marks what is fit for it while more than ``threshold`` bytes wait (RFC 3168)."""

    def __init__(self, rate: float, queue: int, threshold: int) -> None:
        super().__init__(rate, queue)
        self.threshold = threshold
        self.marked = 0

    def carry(self, datagram: Datagram, onward: Onward) -> None:
        waiting = max(0.0, self._free_at - self.clock.now) * self.rate
        if waiting > self.threshold and isinstance(datagram, Packet) and datagram.codepoint == ECT_0:
            self.marked += 1
            datagram = replace(datagram, codepoint=CE)
        super().carry(datagram, onward)


class Net:
    """A clock, a seeded chance, and the chains that share them."""

    def __init__(self, seed: int = 1) -> None:
        self.clock = Clock(1000.0)
        self.random = Random(seed)

    def chain(self, elements: Sequence[Element], end: Onward) -> Onward:
        """A way through ``elements``, in that order, to ``end``."""
        onward = end
        for element in reversed(elements):
            element.attach(self.clock, self.random)
            onward = _through(element, onward)
        return onward

    def run(self, seconds: float) -> None:
        """Let that much virtual time pass."""
        until = self.clock.now + seconds
        while (due := self.clock.next) is not None and due <= until:
            self.clock.step()
        self.clock.now = until


class Flow:
    """A sender that always has more while it is ``active``, and its receiver."""

    def __init__(
        self,
        net: Net,
        congestion: CongestionController,
        forth: Sequence[Element],
        back: Sequence[Element],
        *,
        ecn: bool = False,
    ) -> None:
        self.net = net
        self.clock = net.clock
        self.rtt = RttEstimator()
        self.ecn = EcnValidator() if ecn else None
        self.recovery = Recovery(congestion=congestion, rtt=self.rtt, max_ack_delay=MAX_ACK_DELAY, ecn=self.ecn)
        self.congestion = congestion
        self.pacer = Pacer()
        self.active = True
        """Whether the application has something to send."""
        self.watch: Callable[[float], None] | None = None
        """Called after each ACK, with the time."""
        self._forth = net.chain(forth, self._arrive)
        self._back = net.chain(back, self._acknowledged)
        self._next = 0
        self._probes = 0
        self._armed: float | None = None
        # The receiver.
        self.received = ReceivedPackets()
        self.marks = EcnCounter()
        self.packets = 0
        """Packets that arrived."""
        self._pending = 0
        self._largest_at = 0.0
        self._ack_timer = False

    @property
    def arrived(self) -> int:
        """Bytes that arrived, retransmissions counted once: nothing here is sent under a number twice."""
        return self.packets * SIZE

    # Sending.

    def start(self, after: float = 0.0) -> None:
        """Begin to send in ``after`` seconds."""
        self.clock.after(after, self.pump)

    def pump(self) -> None:
        """Send what may be sent, as ``Channel.poll`` does until it has nothing more."""
        now = self.clock.now
        while self.active or self._probes:
            window = (self.congestion.cwnd - self.recovery.bytes_in_flight) // SIZE
            wanted = min(BATCH, window)
            count = min(wanted, self.pacer.budget(now) // SIZE)
            if count <= 0 < wanted and (at := self.pacer.next_time(wanted * SIZE, now)) is not None:
                self._arm(at)
            count = max(count, min(self._probes, BATCH))
            if count <= 0:
                break
            self._probes = max(0, self._probes - count)
            self._send(count, now)
        self._arm(self.recovery.deadline())

    def _send(self, count: int, now: float) -> None:
        first = self._next
        self._next += count
        self.recovery.on_sent(first, count, SIZE, (4, first * BODY, BODY), now)
        self.pacer.on_sent(count * SIZE, now)
        codepoint = ECT_0 if self.ecn is not None and self.ecn.mark(first, count) else NOT_ECT
        for number in range(first, first + count):
            self._forth(Packet(None, None, _PACKET, number, codepoint))

    def _arm(self, at: float | None) -> None:
        if at is not None and (self._armed is None or at < self._armed or self._armed <= self.clock.now):
            self._armed = at
            self.clock.at(at, self._timer)

    def _timer(self) -> None:
        if self._armed is not None and self.clock.now >= self._armed:
            self._armed = None
        outcome = self.recovery.handle_timer(self.clock.now)
        self._probes = max(self._probes, outcome.probes)
        self.pump()

    def _acknowledged(self, datagram: Datagram) -> None:
        assert isinstance(datagram, Ack)
        now = self.clock.now
        self.recovery.on_ack(datagram.ranges, datagram.delay, now, not self.active, datagram.counts)
        slow_start = self.congestion.cwnd < self.congestion.ssthresh
        self.pacer.set_rate(self.congestion.cwnd, self.rtt.smoothed, SIZE, now, slow_start)
        if self.watch is not None:
            self.watch(now)
        self.pump()

    # Receiving.

    def _arrive(self, datagram: Datagram) -> None:
        assert isinstance(datagram, Packet)
        if self.received.add([datagram.number]) is not None:
            return
        self.packets += 1
        self.marks.count(datagram.codepoint, 1)
        if self.received.largest == datagram.number:
            self._largest_at = self.clock.now
        self._pending += 1
        if self._pending >= 2 or self.received.gap:
            self._acknowledge()
        elif not self._ack_timer:
            self._ack_timer = True
            self.clock.after(MAX_ACK_DELAY, self._ack_late)

    def _ack_late(self) -> None:
        self._ack_timer = False
        if self._pending:
            self._acknowledge()

    def _acknowledge(self) -> None:
        self._pending = 0
        ranges = tuple(self.received.newest())
        self._back(Ack(None, None, _ACK, ranges, self.clock.now - self._largest_at, self.marks.counts))


def jain(rates: Sequence[float]) -> float:
    """Jain's index of fairness: 1 where all are equal, 1/n where one has it all."""
    return sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates))


def _through(element: Element, onward: Onward) -> Onward:
    return lambda datagram: element.carry(datagram, onward)
