"""Recovery by the run against RFC 9002's appendix A, written down packet by packet."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stt_core.packing import Content
from stt_core.recovery.loss import Recovery
from stt_core.rtt import RttEstimator

MAX_ACK_DELAY = 0.025
SIZE, BODY, SMALL = 1200, 1171, 90


class Ledger:
    """A congestion controller that writes down what it was told; arrivals by the moment of the ACK."""

    def __init__(self) -> None:
        self.cwnd = 10**9
        self.ssthresh = inf
        self.recovery_start = -inf
        self.acked: dict[tuple[float, bool], int] = {}
        self.trouble: list[tuple[float, bool]] = []
        self.restarts: list[float] = []
        self.samples: list[tuple[float, float, float, float]] = []
        self.spurious = 0

    def on_restart(self, now: float) -> None:
        self.restarts.append(now)

    def on_rtt(self, latest: float, smoothed: float, sent_at: float, now: float) -> None:
        self.samples.append((latest, smoothed, sent_at, now))

    def on_acked(self, size: int, now: float, app_limited: bool) -> None:
        key = now, app_limited
        self.acked[key] = self.acked.get(key, 0) + size

    def on_congestion(self, sent_at: float, now: float, marked: bool = False) -> bool:
        self.trouble.append((sent_at, False))
        reduced = sent_at > self.recovery_start
        self.recovery_start = now if reduced else self.recovery_start
        return reduced

    def on_spurious_congestion(self) -> None:
        self.spurious += 1

    def on_persistent_congestion(self, now: float) -> None:
        self.trouble.append((now, True))

    def set_datagram_size(self, size: int) -> None:
        pass


@dataclass
class Sent:
    """One packet."""

    at: float
    size: int
    content: Content


@dataclass
class Reference:
    """RFC 9002 appendix A with a dictionary of packets; simple, slow, and written from the RFC's pseudocode."""

    rtt: RttEstimator = field(default_factory=RttEstimator)
    ledger: Ledger = field(default_factory=Ledger)
    sent: dict[int, Sent] = field(default_factory=dict)
    arrived: set[int] = field(default_factory=set)
    largest_acked: int = -1
    loss_time: float | None = None
    last_sent_at: float = 0.0
    pto_count: int = 0
    suspects: set[int] = field(default_factory=set)
    forgivable_until: float = -inf

    def on_sent(self, number: int, packet: Sent) -> None:
        if not self.sent:
            self.ledger.on_restart(packet.at)
        self.sent[number] = packet
        self.last_sent_at = packet.at

    def on_ack(
        self, numbers: set[int], delay: float, now: float, app_limited: bool
    ) -> tuple[list[Content], list[Content]]:
        newly = sorted(numbers & self.sent.keys())
        largest = max(numbers)
        self.arrived |= numbers
        self.forgive(numbers, now)
        if not newly and largest <= self.largest_acked:
            return [], []
        self.largest_acked = max(largest, self.largest_acked)
        packets = [self.sent.pop(number) for number in newly]
        if newly and newly[-1] == largest:
            latest = now - packets[-1].at
            self.rtt.update(latest, min(delay, MAX_ACK_DELAY), now)
            self.ledger.on_rtt(latest, self.rtt.smoothed, packets[-1].at, now)
        lost = self.detect(now)
        for packet in packets:
            if packet.at > self.ledger.recovery_start:
                self.ledger.on_acked(packet.size, now, app_limited)
        self.pto_count = 0
        return [packet.content for packet in packets], lost

    def forgive(self, numbers: set[int], now: float) -> None:
        """RFC 9438 section 4.9: of what was lost at the last reduction and since, everything arrived after all."""
        if self.suspects and now > self.forgivable_until:
            self.suspects.clear()
        if self.suspects:
            self.suspects -= numbers
            if not self.suspects:
                self.forgivable_until = -inf
                self.ledger.on_spurious_congestion()

    def detect(self, now: float) -> list[Content]:
        self.loss_time = None
        delay = max(9 / 8 * max(self.rtt.latest, self.rtt.smoothed), 0.001)
        lost: dict[int, Sent] = {}
        for number in sorted(self.sent):
            if number > self.largest_acked:
                continue
            packet = self.sent[number]
            if packet.at + delay <= now or self.largest_acked >= number + 3:
                lost[number] = self.sent.pop(number)
            else:
                self.loss_time = min(self.loss_time or inf, packet.at + delay)
        if lost:
            if self.ledger.on_congestion(max(packet.at for packet in lost.values()), now):
                self.suspects.clear()
                self.forgivable_until = now + 2 * self.rtt.pto_base(MAX_ACK_DELAY)
            if now <= self.forgivable_until:
                self.suspects |= lost.keys()
            if self.persistent(lost):
                self.ledger.on_persistent_congestion(now)
                self.rtt.reset_minimum()
        return [packet.content for packet in lost.values()]

    def persistent(self, lost: dict[int, Sent]) -> bool:
        """Whether any two lost packets are far enough apart with nothing in between that arrived."""
        since = self.rtt.first_sample_at
        if since is None:
            return False
        duration = 3 * self.rtt.pto_base(MAX_ACK_DELAY)
        eligible = [number for number in lost if lost[number].at > since]
        return any(
            lost[b].at - lost[a].at > duration and not self.arrived & set(range(a, b))
            for a in eligible
            for b in eligible
        )

    def deadline(self) -> float | None:
        if self.loss_time is not None:
            return self.loss_time
        if not self.sent:
            return None
        base = self.rtt.pto_base(MAX_ACK_DELAY)
        return self.last_sent_at + min(base * 2.0**self.pto_count, max(60.0, base))

    def handle_timer(self, now: float) -> tuple[int, list[Content]]:
        at = self.deadline()
        if at is None or now < at:
            return 0, []
        if self.loss_time is not None:
            return 0, self.detect(now)
        self.pto_count += 1
        self.last_sent_at = now
        return 2, []


def one_by_one(runs: list[tuple[int, Content]]) -> list[Content]:
    """The content of each packet, runs taken apart."""
    packets: list[Content] = []
    for count, content in runs:
        if isinstance(content, tuple):
            stream, start, body = content
            packets += [(stream, start + k * body, body) for k in range(count)]
        else:
            assert count == 1
            packets.append(content)
    return packets


def as_ranges(numbers: set[int]) -> list[tuple[int, int]]:
    """Inclusive ranges, newest first."""
    ordered = sorted(numbers)
    edges = [ordered[0], *(edge for a, b in pairwise(ordered) if b > a + 1 for edge in (a, b)), ordered[-1]]
    return list(zip(edges[::2], edges[1::2], strict=True))[::-1]


class SenderMachine(RuleBasedStateMachine):
    """A sender, a network that loses and reorders packets and ACKs, and the reference beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1.0
        self.next_number = 0
        self.recovery = Recovery(congestion=Ledger(), rtt=RttEstimator(), max_ack_delay=MAX_ACK_DELAY)
        self.reference = Reference()
        self.underway: list[int] = []
        self.received: set[int] = set()
        self.acks: list[set[int]] = []
        self.lost = self.acked = 0

    def send(self, count: int, size: int, content: Content) -> None:
        first = self.next_number
        self.next_number += count
        self.recovery.on_sent(first, count, size, content, self.now)
        self.underway += range(first, first + count)
        for number, packet in zip(range(first, first + count), one_by_one([(count, content)]), strict=True):
            if packet:
                self.reference.on_sent(number, Sent(self.now, size, packet))

    @rule(count=st.integers(1, 12))
    def send_run(self, count: int) -> None:
        self.send(count, SIZE, (4, self.next_number * BODY, BODY))

    @rule()
    def send_frames(self) -> None:
        self.send(1, SMALL, [(0x24, self.next_number)])

    @rule()
    def send_ack_only(self) -> None:
        self.send(1, SMALL, [])

    @rule()
    def skip_a_number(self) -> None:
        self.recovery.skip(self.next_number)
        self.next_number += 1

    @rule(milliseconds=st.one_of(st.integers(1, 60), st.integers(100, 9000)))
    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds / 1000

    @rule(pattern=st.integers(0, 2**16 - 1))
    def deliver_some(self, pattern: int) -> None:
        """Of the oldest sixteen packets underway, those whose bit is set arrive; the others stay underway."""
        head = self.underway[:16]
        arrived = {number for bit, number in enumerate(head) if pattern >> bit & 1}
        self.received |= arrived
        self.underway = [number for number in self.underway if number not in arrived]

    @rule()
    def drop_the_head(self) -> None:
        del self.underway[:8]

    @rule()
    def acknowledge(self) -> None:
        if self.received:
            self.acks.append(set(self.received))

    @rule(which=st.integers(0, 3), delay=st.integers(0, 40), app_limited=st.booleans())
    def receive_ack(self, which: int, delay: int, app_limited: bool) -> None:
        """Any of the last few ACKs arrives, so that they are repeated, overtaken and lost."""
        if not self.acks:
            return
        numbers = self.acks[-1 - which % len(self.acks)]
        outcome = self.recovery.on_ack(as_ranges(numbers), delay / 1000, self.now, app_limited)
        acked, lost = self.reference.on_ack(numbers, delay / 1000, self.now, app_limited)
        assert one_by_one(outcome.acked) == acked
        assert one_by_one(outcome.lost) == lost
        assert outcome.lost_packets == len(lost)
        self.acked += len(acked)
        self.lost += len(lost)

    @rule(packets=st.integers(1, 20), delay=st.integers(0, 40))
    def a_good_round_trip(self, packets: int, delay: int) -> None:
        """All of a fresh run arrives, and its ACK comes back."""
        self.send_run(packets)
        self.underway, self.received = [], self.received | set(range(self.next_number - packets, self.next_number))
        self.now += 0.05
        self.acknowledge()
        self.receive_ack(0, delay, app_limited=False)

    @rule(steps=st.integers(2, 6), survivor=st.integers(0, 12), milliseconds=st.integers(20, 600))
    def outage(self, steps: int, survivor: int, milliseconds: int) -> None:
        """Whatever leaves over a while is lost, perhaps but one packet; then it is over."""
        for step in range(steps):
            self.send_run(1)
            if step == survivor:
                self.received.add(self.next_number - 1)
            self.wait(milliseconds)
        self.a_good_round_trip(4, 0)

    @rule(late=st.sampled_from([0.0, 0.0, 0.003, 2.0]))
    def timer_fires(self, late: float) -> None:
        at = self.recovery.deadline()
        self.now = max(self.now, at or 0.0) + late
        outcome = self.recovery.handle_timer(self.now)
        probes, lost = self.reference.handle_timer(self.now)
        assert outcome.probes == probes
        assert one_by_one(outcome.lost) == lost
        self.lost += len(lost)

    @invariant()
    def both_tell_the_same(self) -> None:
        recovery, reference = self.recovery, self.reference
        assert isinstance(recovery.congestion, Ledger)
        assert recovery.bytes_in_flight == sum(packet.size for packet in reference.sent.values())
        assert one_by_one(recovery.oldest_unacked(10**9)) == [packet.content for packet in reference.sent.values()]
        assert recovery.deadline() == reference.deadline()
        assert recovery.pto_count == reference.pto_count
        assert recovery.largest_acked == reference.largest_acked
        assert (recovery.packets_acked, recovery.packets_lost) == (self.acked, self.lost)
        assert repr(recovery.rtt) == repr(reference.rtt)
        assert recovery.congestion.acked == reference.ledger.acked
        assert recovery.congestion.trouble == reference.ledger.trouble
        assert recovery.congestion.restarts == reference.ledger.restarts
        assert recovery.congestion.samples == reference.ledger.samples
        assert recovery.congestion.spurious == reference.ledger.spurious


TestSender = SenderMachine.TestCase
TestSender.settings = settings(max_examples=200, stateful_step_count=60)
