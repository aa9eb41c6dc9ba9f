"""What leaves: packets get their numbers, are sealed and recorded; and how many may leave now.

Rule: every packet of a session goes through :meth:`Outbound.seal`. What is in it is others' business; here it counts
against the congestion window, the pacer and the remote's buffer.
"""

from __future__ import annotations

from math import inf
from typing import Final

from stt_core.budget import BOOKKEEPING, SMALL, WHOLE, RemoteBudget, part_at_once, truesize
from stt_core.config import MAX_DATAGRAM
from stt_core.control import Control
from stt_core.frames import KeepAlive
from stt_core.keys import CidMask
from stt_core.packet import SHORT_HEADER, TAG
from stt_core.packing import Batch, Content
from stt_core.paths import Paths
from stt_core.protection import Protection
from stt_core.recovery.ecn import ECT_0
from stt_core.recovery.loss import MTU_PROBE, Recovery
from stt_core.recovery.pacing import Pacer
from stt_core.streams.outgoing import Outgoing
from stt_core.timers import Timer, Timers
from stt_core.types import Entropy, Observer, Path, SessionKey, Transmit

OVERHEAD: Final = SHORT_HEADER + TAG
"""Bytes a protected packet adds to its frames."""
SKIP_LEAST: Final = 64
SKIP_SPREAD: Final = 192


class Outbound:
    """One session's way out. ECN marks are set on the active path of ``paths`` alone."""

    __slots__ = (
        "_charged", "_control", "_entropy", "_key", "_observer", "_outgoing", "_paced", "_part", "_skip_at", "_timers",
        "budget", "bytes_sent", "limited", "pacer", "packets_sent", "paths", "peer_mask", "protection", "recovery",
    )  # fmt: skip

    def __init__(
        self,
        *,
        key: SessionKey,
        protection: Protection,
        recovery: Recovery,
        peer_mask: CidMask,
        paths: Paths,
        budget: RemoteBudget,
        timers: Timers,
        entropy: Entropy,
        observer: Observer | None,
        paced: bool,
        control: Control,
        outgoing: Outgoing,
    ) -> None:
        self._key = key
        self.protection = protection
        self.recovery = recovery
        self.peer_mask = peer_mask
        self.paths = paths
        self.budget = budget
        self.pacer = Pacer()
        self.limited = False
        """Whether it was the congestion window that held back the last batch asked for, or the pacer that spreads it:
        where neither did, what arrives proves nothing about the window."""
        self.bytes_sent = self.packets_sent = 0
        self._timers = timers
        self._entropy = entropy
        self._observer = observer
        self._paced = paced
        self._control = control
        self._outgoing = outgoing
        self._charged = self._skip_at = 0
        self._part = WHOLE
        """256ths of what is in flight that count against the remote's buffer."""
        self._plan_skip()

    def set_paced(self, paced: bool) -> None:
        """Whether what leaves from now on is spread over the round trip."""
        self._paced = paced
        if not paced:
            self._part = WHOLE
            self._timers.cancel(Timer.PACING)

    def allowance(self, size: int, most: int, probes: int, now: float) -> int:
        """How many packets of ``size`` bytes, of the ``most`` that a batch holds, may leave now: by cwnd, the remote's
        buffer and pacing. ``probes`` of them may whatever the window says.
        """
        cost = (size + BOOKKEEPING) * self._part // WHOLE
        window = (self.recovery.congestion.cwnd - self.recovery.bytes_in_flight) // size
        room = most
        budget = self.budget
        if window >= 1 and (budget.blocked or budget.limit - budget.used < most * cost):
            # What keeps the session alive stands in no queue.
            backlog = 0 if self._control else self._outgoing.backlog
            wanted = min(most, window, max(1, backlog // size))
            room = budget.room(self._key, self._charged, cost, wanted)
            call = MAX_DATAGRAM // size
            if room > call:  # a few packets more would be a system call more, and a read at the other end
                room -= room % call
        self.limited = window < most and window <= room
        limit = min(most, window, room)
        if limit > 0 and self._paced:
            wanted = limit * size
            limit = min(limit, self.pacer.budget(now) // size)
            if limit * size < min(wanted, self._outgoing.backlog):
                self.limited = True  # without pacing the window would be full (RFC 9002 section 7.8)
            # Wait for a burst, not for a packet, or pacing would undo the batches.
            if limit <= 0 and (at := self.pacer.next_time(wanted, now)) is not None:
                self._timers.set(Timer.PACING, at)
        return limit if limit > 0 and not probes else max(limit, min(probes, most), 0)

    def seal(
        self,
        plains: list[bytes],
        records: list[tuple[int, Content]],
        path: Path,
        now: float,
        mask: CidMask | None = None,
    ) -> Transmit:
        """Number, seal and record packets, at least one; ``records`` holds ``(packets, content)`` in their order.

        ``mask`` is of the connection id they bear, by default that of the active path.
        """
        protection = self.protection
        if protection.next_number >= self._skip_at:
            self._skip()
        first = number = protection.next_number
        data = protection.seal(plains, mask or self.peer_mask, now)
        size = len(plains[0]) + OVERHEAD
        eliciting = False
        for count, content in records:
            packet = size if isinstance(content, tuple) else len(plains[number - first]) + OVERHEAD
            self.recovery.on_sent(number, count, packet, content, now)
            number += count
            eliciting = eliciting or bool(content)
        self.bytes_sent += len(data)
        self.packets_sent += len(plains)
        if self._observer is not None:
            self._observer.packets_sent(self._key, first, len(plains), len(data), now)
        if eliciting:
            if self._paced:  # ACKs alone are not paced (RFC 9002 section 7.7)
                self.pacer.on_sent(len(data), now)
            self.charge()
            self.plan_loss_timer()
        marks = self.recovery.ecn
        if marks is None or self.recovery.reliable:
            return Transmit(data, path, size)
        if path == self.paths.active and marks.mark(first, len(plains)):
            return Transmit(data, path, size, ECT_0)
        return Transmit(data, path, size)

    def seal_one(self, plain: bytes, content: Content, now: float) -> Transmit:
        """:meth:`seal` of a single packet that asks to be acknowledged, for the active path."""
        protection, recovery = self.protection, self.recovery
        if protection.next_number >= self._skip_at:
            self._skip()
        number = protection.next_number
        data = protection.seal_one(plain, self.peer_mask, now)
        size = len(data)
        recovery.on_sent(number, 1, size, content, now)
        self.bytes_sent += size
        self.packets_sent += 1
        if self._observer is not None:
            self._observer.packets_sent(self._key, number, 1, size, now)
        if self._paced:
            self.pacer.on_sent(size, now)
        self.charge()
        self.plan_loss_timer()
        marked = recovery.ecn is not None and not recovery.reliable and recovery.ecn.mark(number, 1)
        return Transmit(data, self.paths.active, size, ECT_0 if marked else 0)

    def may_search(self) -> bool:
        """Whether a probe of the path's size may leave now."""
        budget = self.budget
        return self.recovery.mtu_probe_fits() and truesize(self.recovery.mtu.wanted) <= budget.limit - budget.used

    def seal_mtu_probe(self, now: float) -> Transmit:
        """A datagram of the size wanted that carries nothing: its loss tells of its size, and loses nothing else."""
        batch = Batch(self.recovery.mtu.wanted - OVERHEAD, 1)
        batch.add(KeepAlive(0).encode(), MTU_PROBE)
        batch.end_packet()
        transmit = self.seal(batch.plains, batch.records, self.paths.active, now)
        self.recovery.on_mtu_probe_sent()
        return transmit

    def on_settled(self, now: float) -> None:
        """An ACK or a timer has moved the window."""
        if self._paced:
            recovery, congestion = self.recovery, self.recovery.congestion
            slow_start = congestion.cwnd < congestion.ssthresh
            rtt = recovery.rtt
            self.pacer.set_rate(congestion.cwnd, rtt.smoothed, recovery.mtu.size, now, slow_start)
            # Without pacing, as on loopback, all that leaves arrives at once.
            if self.budget.limit >= SMALL and rtt.has_sample:
                self._part = part_at_once(rtt.smoothed)
        self.protection.pto = self.recovery.rtt.pto + self.recovery.max_ack_delay
        self.charge()
        self.plan_loss_timer()

    def charge(self) -> None:
        """Keep the remote socket's budget in step with what is in flight."""
        recovery = self.recovery
        charge = (recovery.bytes_in_flight + recovery.packets_in_flight * BOOKKEEPING) * self._part // WHOLE
        self.budget.used += charge - self._charged
        self._charged = charge

    def _skip(self) -> None:
        """Let a number pass unused: who acknowledges it did not look (RFC 9000 section 21.4)."""
        self.recovery.skip(self.protection.next_number)
        self.protection.next_number += 1
        self._plan_skip()

    def _plan_skip(self) -> None:
        self._skip_at = self.protection.next_number + SKIP_LEAST + self._entropy(1)[0] * SKIP_SPREAD // 256

    def plan_loss_timer(self) -> None:
        """Set the timer by which something must be acknowledged."""
        at = self.recovery.deadline()
        self._timers.at[Timer.LOSS] = inf if at is None else at

    def release(self) -> None:
        """Give back what this session held of the remote's budget."""
        self.budget.used -= self._charged
        self._charged = 0
