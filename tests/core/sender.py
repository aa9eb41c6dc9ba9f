"""A sender for the tests of loss recovery, with a congestion controller that only listens."""

from __future__ import annotations

from math import inf

from stt_core.packing import Content
from stt_core.recovery.ecn import EcnValidator
from stt_core.recovery.loss import MTU_PROBE, Outcome, Recovery
from stt_core.recovery.mtu import MtuSearch
from stt_core.rtt import RttEstimator

SIZE = 1200
BODY = 1171
LARGE = 1452
RTT = 0.1
MAX_ACK_DELAY = 0.025


class Ledger:
    """A congestion controller that never changes its window and writes down what it was told."""

    def __init__(self) -> None:
        self.cwnd = 10**9
        self.ssthresh = inf
        self.told: list[tuple[object, ...]] = []
        self.samples: list[tuple[float, float, float]] = []
        self.recovery_start = -inf

    def on_restart(self, now: float) -> None:
        self.told.append(("restart", now))

    def on_rtt(self, latest: float, smoothed: float, sent_at: float, now: float) -> None:
        self.samples.append((latest, sent_at, now))

    def on_acked(self, size: int, now: float, app_limited: bool) -> None:
        self.told.append(("acked", size, now, app_limited))

    def on_congestion(self, sent_at: float, now: float, marked: bool = False) -> bool:
        self.told.append(("marked" if marked else "congestion", sent_at))
        reduced = sent_at > self.recovery_start
        self.recovery_start = now if reduced else self.recovery_start
        return reduced

    def on_spurious_congestion(self) -> None:
        self.told.append(("spurious",))

    def on_persistent_congestion(self, now: float) -> None:
        self.told.append(("persistent",))

    def set_datagram_size(self, size: int) -> None:
        self.told.append(("size", size))


class Sender:
    """A recovery with a sampled RTT of 100 ms, and short ways to send runs and take ACKs."""

    def __init__(self, *, sampled: bool = True) -> None:
        self.ledger = Ledger()
        rtt = RttEstimator()
        if sampled:
            rtt.update(RTT, 0.0, now=0.0)
        self.recovery = Recovery(
            congestion=self.ledger, rtt=rtt, max_ack_delay=MAX_ACK_DELAY, mtu=MtuSearch(65_472), ecn=EcnValidator()
        )

    def run(self, count: int, now: float, start: int | None = None, size: int = SIZE) -> None:
        """Send a run of stream 4; packet number n carries offset n * BODY unless told otherwise."""
        first = self.recovery.largest_sent + 1
        offset = first * BODY if start is None else start
        self.recovery.on_sent(first, count, size, (4, offset, BODY), now)

    def probe(self, now: float) -> int:
        """Send the probe of the path's size that is wanted; its number."""
        number = self.recovery.largest_sent + 1
        self.recovery.on_sent(number, 1, self.recovery.mtu.wanted, [MTU_PROBE], now)
        self.recovery.on_mtu_probe_sent()
        return number

    def grow(self, now: float) -> None:
        """Find datagrams of 1452 bytes, and then be asked for a probe of 8800."""
        self.probe(now)
        last = self.recovery.largest_sent
        self.ack((last, last), now=now)
        assert self.recovery.mtu.size == LARGE
        self.ledger.told.clear()

    def frame(self, number: int, now: float) -> None:
        self.recovery.on_sent(number, 1, 100, [(0x24, number)], now)

    def ack(self, *ranges: tuple[int, int], now: float, delay: float = 0.0, app_limited: bool = False) -> Outcome:
        return self.recovery.on_ack(ranges, delay, now, app_limited)


def run(first: int, count: int) -> tuple[int, Content]:
    """What an outcome says about ``count`` packets of :meth:`Sender.run` from number ``first`` on."""
    return count, (4, first * BODY, BODY)
