"""Loss detection, RFC 9002 section 6 and appendix A: which packets arrived, which are lost, when to probe.

Rule: packets that left together are one record, however many, and an ACK costs per record it touches. Records are in
packet-number order, hence also in the order they were sent; after each ACK at most three packets below the largest
acknowledged one are still undecided, so every walk is from the head and short. What can be told of a path by marks and
by probes of its size is told from here, as only here is known what arrived.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import inf

from stt_core.errors import ErrorCode, Violation
from stt_core.frames import FrameType
from stt_core.packing import Content, Token
from stt_core.recovery.congestion import CongestionController
from stt_core.recovery.ecn import EcnCounts, EcnValidator
from stt_core.recovery.mtu import BASE, MtuSearch
from stt_core.rtt import GRANULARITY, RttEstimator

PACKET_THRESHOLD = 3
"""A packet is lost when one this many numbers later has arrived (RFC 9002 section 6.1.1)."""
TIME_THRESHOLD = 9 / 8
"""… or when a later one has arrived and it is older than this many round trips (section 6.1.2)."""
PERSISTENT_CONGESTION_THRESHOLD = 3
"""PTOs over which everything must be lost to start over from the least window (section 7.6.1)."""
MAX_PTO = 60.0
"""Seconds no backoff goes beyond, where nothing less is asked for. RFC 9002 sets no cap, RFC 6298 section 2.5 allows
this one. Whoever gives a silent peer up after a while asks for a fraction of that, to notice in time that the path is
back."""
PROBES = 2
"""Packets sent per expired PTO: the second covers the loss of the first (section 6.2.4)."""
MAX_SKIPPED = 256
"""Skipped packet numbers remembered. At one per 64 packets or more, 16 MiB in flight skip 219 in datagrams of 1200
bytes, and four in datagrams of 64 KiB. Of more, in wider windows or smaller packets, the newest are remembered."""
MAX_SUSPECTS = 64
"""Runs of packets remembered as lost by mistake perhaps; where there are more, the loss counts as real."""
SUSPICION = 2
"""PTOs after which what was lost counts as lost for good."""
RELIABLE_PTO = 1.0
"""Seconds that a probe timeout takes at least on a reliable path: longer than TCP's own retransmission, mostly."""
WATCH = 30.0
"""Seconds after a change to a reliable path for which probe timeouts are armed there: what left before may be lost."""
MTU_PROBE: Token = (FrameType.PADDING, 0)
"""What a probe of the path's size carries: nothing that anybody would send again."""
_MTU_PROBE: Content = [MTU_PROBE]

Record = tuple[int, int, float, int, Content]
"""First and last packet number, when sent, bytes per packet (0: sent on an earlier path), what it carried."""
AckRange = tuple[int, int]
"""First and last packet number, both inclusive."""


class Outcome:
    """What an ACK or a timer led to. ``acked`` and ``lost`` hold ``(packets, content)`` in packet-number order."""

    __slots__ = ("acked", "acked_bytes", "largest_lost", "lost", "lost_packets", "persistent_congestion", "probes")

    def __init__(self) -> None:
        self.acked: list[tuple[int, Content]] = []
        self.lost: list[tuple[int, Content]] = []
        self.acked_bytes = 0
        """Bytes of datagrams that left flight by arriving."""
        self.lost_packets = 0
        self.largest_lost = 0
        """Bytes of the largest packet lost."""
        self.probes = 0
        """Packets to send now whatever the congestion window says."""
        self.persistent_congestion = False

    def __repr__(self) -> str:
        return f"Outcome(acked={self.acked}, lost={self.lost}, probes={self.probes})"


class Recovery:
    """The sent packets of one session, and the timers that watch over them.

    ``max_ack_delay`` is the peer's, in seconds. ``congestion`` hears of everything in flight; ``rtt`` gets a sample
    from each ACK that newly acknowledges its largest packet number, if that packet was ack-eliciting. ``max_pto``
    seconds is as long as the backoff of probe timeouts grows. ``mtu`` is the search for the path's size (without one
    datagrams keep 1200 bytes), ``ecn`` where marks can be set and read.

    On a ``reliable`` path nothing is lost but what left before it, and for that alone there are timeouts, for
    :data:`WATCH` seconds after the change; :meth:`on_path_closed` tells the end of the path.
    """

    __slots__ = (
        "_forgivable_until", "_largest_acked", "_last_sent_at", "_loss_time", "_mtu_probe", "_records", "_skipped",
        "_suspects", "_watch_until",
        "bytes_in_flight", "congestion", "ecn", "largest_sent", "max_ack_delay", "max_pto", "mtu", "packets_acked",
        "packets_in_flight", "packets_lost", "packets_sent", "pto_count", "reliable", "rtt",
    )  # fmt: skip

    def __init__(
        self,
        *,
        congestion: CongestionController,
        rtt: RttEstimator,
        max_ack_delay: float,
        max_pto: float = MAX_PTO,
        mtu: MtuSearch | None = None,
        ecn: EcnValidator | None = None,
        reliable: bool = False,
    ) -> None:
        self.congestion = congestion
        self.rtt = rtt
        self.max_ack_delay = max_ack_delay
        self.max_pto = max_pto
        self.mtu = mtu or MtuSearch(BASE)
        self.ecn = ecn
        self.reliable = reliable
        self._watch_until = -inf
        self.bytes_in_flight = 0
        self.packets_in_flight = 0
        """Ack-eliciting packets neither acknowledged nor lost, those sent on earlier paths too."""
        self.largest_sent = -1
        self.pto_count = 0
        """PTOs that expired since the last progress."""
        self.packets_sent = 0
        self.packets_acked = 0
        """Ack-eliciting packets that arrived."""
        self.packets_lost = 0
        self._records: list[Record] = []  # a list: an idle session shouldn't pay for a deque's first block
        self._skipped: list[int] = []
        self._largest_acked = -1
        self._last_sent_at = 0.0
        """When the newest ack-eliciting packet left, or a PTO expired if that was later."""
        self._loss_time: float | None = None
        self._mtu_probe = -1
        """Number of the probe of the path's size that is underway; -1 for none."""
        self._suspects: list[AckRange] = []
        """What was lost at the last reduction of the window and since."""
        self._forgivable_until = -inf

    @property
    def largest_acked(self) -> int:
        """The largest packet number the peer acknowledged; -1 before the first."""
        return self._largest_acked

    @property
    def window_left(self) -> int:
        """Bytes that may still leave before the congestion window is full."""
        return max(0, self.congestion.cwnd - self.bytes_in_flight)

    @property
    def pto(self) -> float:
        """The probe timeout in seconds, without backoff: the unit in which closing and key retirement wait."""
        return self.rtt.pto + self.max_ack_delay

    # Sending.

    def on_sent(self, first: int, count: int, size: int, content: Content, now: float) -> None:
        """``count`` packets from number ``first`` on left, ``size`` bytes each, as one record.

        An empty ``content`` is not ack-eliciting: such packets are never in flight and never lost.
        """
        last = first + count - 1
        self.largest_sent = last
        self.packets_sent += count
        if content:
            if not self.bytes_in_flight:
                self.congestion.on_restart(now)
            self._records.append((first, last, now, size, content))
            self._last_sent_at = now
            self.bytes_in_flight += count * size
            self.packets_in_flight += count

    def on_mtu_probe_sent(self) -> None:
        """The packet sent last, with :data:`MTU_PROBE` and padding alone, was the probe that :attr:`mtu` wanted.

        It is in flight as any other, but its loss is no congestion (RFC 9000 section 14.4), and nobody's to repeat.
        """
        self._mtu_probe = self.largest_sent
        self.mtu.on_probe_sent()

    def mtu_probe_fits(self) -> bool:
        """Whether :attr:`mtu` wants a probe that may leave now: one datagram may, where nothing else is in flight."""
        wanted = self.mtu.wanted
        return wanted > 0 and (not self.bytes_in_flight or wanted <= self.window_left)

    def skip(self, number: int) -> None:
        """``number`` will never be sent: who acknowledges it did not look (RFC 9000 section 21.4)."""
        self._skipped.append(number)
        if len(self._skipped) > MAX_SKIPPED:
            del self._skipped[0]

    def oldest_unacked(self, limit: int) -> list[tuple[int, Content]]:
        """What the oldest ``limit`` packets in flight carried, as ``(1, content)`` each.

        For probes: it can be sent again in new packets, while these here stay in flight and are not called lost.
        """
        oldest: list[tuple[int, Content]] = []
        for first, last, _, _, content in self._records:
            if content != _MTU_PROBE:
                oldest += [(1, _advance(content, k)) for k in range(min(last - first + 1, limit - len(oldest)))]
            if len(oldest) >= limit:
                break
        return oldest

    # Arriving.

    def on_ack(
        self,
        ranges: Sequence[AckRange],
        ack_delay: float,
        now: float,
        app_limited: bool,
        ecn: EcnCounts | None = None,
    ) -> Outcome:
        """Take in an ACK frame: ``ranges`` newest first, disjoint, at least one; ``ack_delay`` in seconds; the counts
        of an ACK_ECN.

        Afterwards :attr:`mtu` may have another size.

        :raises Violation: OPTIMISTIC_ACK, for a number that was never sent; nothing has changed then.
        """
        first, largest = ranges[0]
        previous_largest = self._largest_acked
        relevant = ranges
        if len(ranges) > 1 or largest > self.largest_sent or (self._skipped and self._skipped[-1] >= first):
            relevant = self._relevant(ranges)
        outcome = Outcome()
        acked = self._take(relevant, outcome)
        if self._suspects:
            self._forgive(ranges, now)
        if not acked and largest <= previous_largest:
            return outcome
        self._largest_acked = max(largest, previous_largest)
        self.pto_count = 0
        if acked:
            _, last, sent_at, size, _ = acked[-1]
            if last == largest and size:
                latest = now - sent_at
                self.rtt.update(latest, ack_delay if ack_delay < self.max_ack_delay else self.max_ack_delay, now)
                self.congestion.on_rtt(latest, self.rtt.smoothed, sent_at, now)
        if self.ecn is not None and largest > previous_largest and not self.reliable:
            self._check_marks(self.ecn, acked, ecn, now)
        # Losses before growth, as in RFC 9002 A.7: what arrives along with news of a loss must not grow the window.
        if self._records:
            self._detect_lost(now, outcome, ranges, previous_largest)
        else:
            self._loss_time = None
        self._credit(acked, now, app_limited, outcome)
        mtu = self.mtu
        if self._mtu_probe >= 0 or now >= mtu.resume_at or (mtu.size > BASE and (outcome.lost or mtu.suspicious)):
            self._judge_size(acked, outcome, now)
        return outcome

    def _relevant(self, ranges: Sequence[AckRange]) -> Sequence[AckRange]:
        """The ranges that can touch a record; the others only repeat what was said before.

        :raises Violation: OPTIMISTIC_ACK.
        """
        if ranges[0][1] > self.largest_sent:
            raise Violation(ErrorCode.OPTIMISTIC_ACK, "acknowledged a packet number not yet sent")
        oldest = self._records[0][0] if self._records else self.largest_sent
        count = 1
        while count < len(ranges) and ranges[count][1] >= oldest:
            count += 1
        relevant = ranges[:count]
        skipped = self._skipped
        if skipped:
            for first, last in relevant:
                index = bisect_left(skipped, first)
                if index < len(skipped) and skipped[index] <= last:
                    raise Violation(ErrorCode.OPTIMISTIC_ACK, "acknowledged a packet number that was skipped")
        return relevant

    def _take(self, ranges: Sequence[AckRange], outcome: Outcome) -> list[Record]:
        """Take what ``ranges`` cover out of the records, splitting runs where a range ends inside."""
        records = self._records
        range_first, range_last = ranges[0]
        if records and range_first <= records[0][0] and records[-1][1] <= range_last:  # all, as of a lone packet
            self._records = []
            for first, last, _, _, content in records:
                outcome.acked.append((last - first + 1, content))
            return records
        acked: list[Record] = []
        kept: list[Record] = []
        index = 0
        for range_first, range_last in reversed(ranges):
            while index < len(records):
                record = records[index]
                first, last, sent_at, size, content = record
                if first > range_last:
                    break
                index += 1
                if last < range_first:
                    kept.append(record)
                    continue
                if first < range_first:
                    kept.append((first, range_first - 1, sent_at, size, content))
                    content = _advance(content, range_first - first)
                    first = range_first
                if last > range_last:
                    index -= 1  # what follows stays, and the next range may begin inside of it
                    records[index] = (range_last + 1, last, sent_at, size, _advance(content, range_last + 1 - first))
                    last = range_last
                acked.append((first, last, sent_at, size, content))
                outcome.acked.append((last - first + 1, content))
        records[:index] = kept
        return acked

    def _credit(self, acked: list[Record], now: float, app_limited: bool, outcome: Outcome) -> None:
        """Take ``acked`` out of flight and tell the congestion controller."""
        if app_limited and self.bytes_in_flight + self.mtu.size > self.congestion.cwnd:
            app_limited = False  # the application has no more, but what it had filled the window
        since = self.congestion.recovery_start
        packets = arrived = growing = 0
        for first, last, sent_at, size, _ in acked:
            count = last - first + 1
            packets += count
            arrived += count * size
            if sent_at > since:
                growing += count * size
        self.packets_acked += packets
        self.bytes_in_flight -= arrived
        self.packets_in_flight -= packets
        outcome.acked_bytes = arrived
        if growing:
            self.congestion.on_acked(growing, now, app_limited)

    def _check_marks(self, ecn: EcnValidator, acked: list[Record], counts: EcnCounts | None, now: float) -> None:
        """Whether marks come through, and what they say (RFC 9002 A.7 and B.7)."""
        here = [record for record in acked if record[3]]
        if ecn.on_ack([(first, last) for first, last, _, _, _ in here], counts) and here:
            self.congestion.on_congestion(here[-1][2], now, marked=True)

    def _forgive(self, ranges: Sequence[AckRange], now: float) -> None:
        """Take back a reduction of the window whose every loss arrived: it was late, or overtaken (RFC 9438 section
        4.9).
        """
        suspects = self._suspects
        if now > self._forgivable_until:
            suspects.clear()
            return
        while suspects:
            first, last = suspects[0]
            if not any(low <= first and last <= high for low, high in ranges):
                return
            del suspects[0]
        self._forgivable_until = -inf
        self.congestion.on_spurious_congestion()

    def _judge_size(self, acked: Sequence[Record], outcome: Outcome, now: float) -> None:
        """What arrived and what didn't tells about the path's size; only asked where it may (RFC 8899)."""
        mtu, probe, before = self.mtu, self._mtu_probe, self.mtu.size
        if any(first <= probe <= last for first, last, _, _, _ in acked):
            self._mtu_probe = -1
            mtu.on_probe_acked(now)
        elif any(record[3] > BASE for record in acked):
            mtu.on_large_acked()
        elif outcome.largest_lost > BASE:
            mtu.on_large_lost(now)
        if now >= mtu.resume_at:
            mtu.resume(now)
        if mtu.size != before:
            self.congestion.set_datagram_size(mtu.size)

    # Losing.

    def _detect_lost(self, now: float, outcome: Outcome, ranges: Sequence[AckRange], previous_largest: int) -> None:
        """RFC 9002 A.10. ``ranges`` and ``previous_largest`` say what arrived in between, for persistent congestion."""
        records = self._records
        largest = self._largest_acked
        delay = max(TIME_THRESHOLD * max(self.rtt.latest, self.rtt.smoothed), GRANULARITY)
        self._loss_time = None
        lost: list[Record] = []
        kept: list[Record] = []
        index = 0
        while index < len(records):
            first, last, sent_at, size, content = records[index]
            if first > largest:
                break
            index += 1
            if size and self.reliable:
                kept.append(records[index - 1])
                continue
            # The sum, not the difference, is compared: it is the very number the timer was set to.
            cut = last if sent_at + delay <= now else min(last, largest - PACKET_THRESHOLD)
            if cut >= first:
                lost.append((first, cut, sent_at, size, content))
            if cut < last:
                begin = max(cut + 1, first)
                kept.append((begin, last, sent_at, size, _advance(content, begin - first)))
                if self._loss_time is None:  # the oldest comes first, so its time does, too
                    self._loss_time = sent_at + delay
        if index:
            records[:index] = kept
        if lost:
            here = self._lose(lost, outcome, now)
            if here:
                self._on_congestion(here, now)
                if self._is_persistent(here, ranges, previous_largest):
                    outcome.persistent_congestion = True
                    self.congestion.on_persistent_congestion(now)
                    self.rtt.reset_minimum()

    def _lose(self, lost: list[Record], outcome: Outcome, now: float) -> list[Record]:
        """Take ``lost`` out of flight; returns what of it tells about this path's congestion."""
        here: list[Record] = []
        for record in lost:
            first, last, _, size, content = record
            count = last - first + 1
            self.bytes_in_flight -= count * size
            self.packets_in_flight -= count
            if content == _MTU_PROBE:
                if first == self._mtu_probe:
                    self._mtu_probe = -1
                    self.mtu.on_probe_lost(now)
                continue
            outcome.lost.append((count, content))
            outcome.lost_packets += count
            outcome.largest_lost = max(outcome.largest_lost, size)
            if size:
                here.append(record)
        self.packets_lost += outcome.lost_packets
        return here

    def _on_congestion(self, lost: list[Record], now: float) -> None:
        if self.congestion.on_congestion(lost[-1][2], now):
            self._suspects = []
            self._forgivable_until = now + SUSPICION * self.pto
        if now <= self._forgivable_until:
            self._suspects += [(first, last) for first, last, _, _, _ in lost]
            if len(self._suspects) > MAX_SUSPECTS:
                self._suspects = []
                self._forgivable_until = -inf

    def _is_persistent(self, lost: list[Record], ranges: Sequence[AckRange], previous_largest: int) -> bool:
        """Whether nothing arrived of all that was sent over a long time (RFC 9002 section 7.6.2)."""
        duration = PERSISTENT_CONGESTION_THRESHOLD * self.pto
        since = self.rtt.first_sample_at
        if since is None or lost[-1][2] - lost[0][2] <= duration:
            return False
        begin: float | None = None
        end = -1
        for first, last, sent_at, _, _ in lost:
            if sent_at <= since:
                continue
            arrived_between = end < previous_largest < first or any(a < first and b > end for a, b in ranges)
            if begin is None or arrived_between:
                begin = sent_at
            elif sent_at - begin > duration:
                return True
            end = last
        return False

    # Time.

    def deadline(self) -> float | None:
        """When :meth:`handle_timer` is due; None with nothing in flight."""
        if self._loss_time is not None:
            return self._loss_time
        if not self._records:
            return None
        base = self.rtt.pto + self.max_ack_delay
        if not (self.pto_count or self.reliable):
            return self._last_sent_at + base
        if self.reliable:
            base = max(base, RELIABLE_PTO)
        at = self._last_sent_at + min(base * (1 << min(self.pto_count, 30)), max(self.max_pto, base))
        return None if self.reliable and at > self._watch_until else at

    def handle_timer(self, now: float) -> Outcome:
        """Declare lost what is overdue, or ask for probes; nothing before the deadline."""
        outcome = Outcome()
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return outcome
        if self._loss_time is not None:
            # Without an ACK at hand everything not lost counts as arrived, which only makes it more careful.
            self._detect_lost(now, outcome, ((0, self._largest_acked),), self._largest_acked)
            if self.mtu.size > BASE:
                self._judge_size((), outcome, now)
            return outcome
        self.pto_count += 1
        self._on_silence(now)
        # Counted from here even if no probe can be sent, or a late timer would fire over and over.
        self._last_sent_at = now
        outcome.probes = PROBES
        return outcome

    def _on_silence(self, now: float) -> None:
        """A probe timeout: perhaps it is what our packets look like that the path has begun to dislike."""
        if self.ecn is not None and not self.reliable:
            self.ecn.on_pto()
        large = self.mtu.size > BASE and any(record[3] > BASE for record in self._records)
        if large and self.mtu.on_silence(self.pto_count, now):
            self.congestion.set_datagram_size(BASE)

    def on_too_big(self, size: int, now: float) -> Outcome:
        """The system refused datagrams of ``size`` bytes (EMSGSIZE): what is recorded as sent in such never left, and
        is given back as lost, without being taken for congestion.

        Nothing changes up to 1200 bytes, which every path must carry.
        """
        outcome = Outcome()
        if size <= BASE:
            return outcome
        refused = [record for record in self._records if record[3] >= size]
        self._records = [record for record in self._records if record[3] < size]
        self._lose(refused, outcome, now)
        if self.mtu.on_too_big(size, now):
            self.congestion.set_datagram_size(self.mtu.size)
        return outcome

    def on_path_closed(self, now: float) -> Outcome:
        """The reliable path is gone: all that was not acknowledged is lost, which tells nothing of congestion."""
        outcome = Outcome()
        records, self._records = self._records, []
        self._loss_time = None
        self._lose(records, outcome, now)
        self.pto_count = 0
        return outcome

    def reset_for_new_path(
        self,
        congestion: CongestionController,
        rtt: RttEstimator,
        mtu: MtuSearch,
        now: float,
        *,
        reliable: bool = False,
    ) -> None:
        """Start over on another path: what is in flight on the old one can still arrive or be lost, but tells
        nothing about the new one's window or round-trip time (RFC 9000 section 9.4). The test of marks begins again.
        """
        self.congestion = congestion
        self.rtt = rtt
        self.mtu = mtu
        self.reliable = reliable
        self.bytes_in_flight = 0
        self.pto_count = 0
        self._watch_until = now + WATCH
        self._mtu_probe = -1
        self._suspects = []
        self._forgivable_until = -inf
        if self.ecn is not None:
            self.ecn.restart()
        self._records = [(first, last, at, 0, content) for first, last, at, _, content in self._records]

    def __repr__(self) -> str:
        return f"Recovery(in_flight={self.bytes_in_flight}, largest_sent={self.largest_sent}, pto={self.pto_count})"


def _advance(content: Content, packets: int) -> Content:
    """The content of a run without its first ``packets`` packets. A list is one packet and is never split."""
    if packets and isinstance(content, tuple):
        stream, start, body = content
        return stream, start + packets * body, body
    return content
