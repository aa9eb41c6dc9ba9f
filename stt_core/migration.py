"""What a change of path means to the rest of a session: what is learnt anew, what stays, who is told.

Rule: :mod:`~stt_core.paths` decides which path is believed; here is done what follows. A path that differs by its port
alone is taken for the same one behind a NAT that forgot; of any other, nothing is known (RFC 9000 section 9.4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

from stt_core import frames
from stt_core.config import MAX_DATAGRAM, MIN_DATAGRAM, EndpointConfig
from stt_core.events import AnyEvent, PathChanged, PathFailed
from stt_core.frames import PathTransport
from stt_core.handshake.limits import is_loopback
from stt_core.outbound import OVERHEAD, Outbound
from stt_core.packing import Batch
from stt_core.parameters import TransportParameters
from stt_core.paths import TRANSPORT_CODES, Probe, same_host
from stt_core.recovery.congestion import CongestionController
from stt_core.recovery.controllers import make_controller
from stt_core.recovery.ecn import EcnValidator
from stt_core.recovery.loss import Recovery
from stt_core.recovery.mtu import MtuSearch, size_limit
from stt_core.recovery.reliable import FixedSize, NoControl
from stt_core.rtt import RttEstimator
from stt_core.timers import Timer, Timers
from stt_core.types import Path, SessionKey, Transmit

PTO_SHARE: Final = 8
"""Probe timeouts grow to an eighth of the time after which a silent peer is given up, so that the end of a long outage
is noticed while somebody still asks."""


def is_paced(config: EndpointConfig, path: Path) -> bool:
    """Whether what leaves on ``path`` is spread over the round trip."""
    return not path.reliable and (config.pacing_on_loopback or not is_loopback(path.address))


def make_recovery(config: EndpointConfig, peer: TransportParameters, path: Path, timeout: float) -> Recovery:
    """Recovery for a session that begins on ``path`` and gives a silent peer up after ``timeout`` seconds."""
    marked = config.ecn and not is_loopback(path.address)
    return Recovery(
        congestion=_controller(config, path),
        rtt=RttEstimator(),
        max_ack_delay=peer.ack_delay,
        max_pto=timeout / PTO_SHARE,
        mtu=_sizes(path, largest_size(config, peer)),
        ecn=EcnValidator() if marked else None,
        reliable=path.reliable,
    )


def largest_size(config: EndpointConfig, peer: TransportParameters) -> int:
    """Bytes of the largest datagram to look for on a path over UDP."""
    if not config.mtu_search:
        return MIN_DATAGRAM
    return size_limit(config.max_udp_payload, peer.max_udp_payload, peer.receive_buffer_hint)


def _controller(config: EndpointConfig, path: Path) -> CongestionController:
    if path.reliable:
        return NoControl()
    return make_controller(config.congestion, MIN_DATAGRAM, paced=is_paced(config, path))


def _sizes(path: Path, largest: int) -> MtuSearch:
    return FixedSize(MAX_DATAGRAM) if path.reliable else MtuSearch(largest)


class Migration:
    """One session's moves. ``full_links`` are the endpoint's reliable paths that can take nothing for now."""

    __slots__ = (
        "_config", "_events", "_full_links", "_key", "_largest", "_outbound", "_recovery", "_timers", "paths",
    )  # fmt: skip

    def __init__(
        self,
        key: SessionKey,
        config: EndpointConfig,
        peer: TransportParameters,
        outbound: Outbound,
        events: deque[AnyEvent],
        timers: Timers,
        full_links: Collection[Path],
    ) -> None:
        self.paths = outbound.paths
        self._key = key
        self._config = config
        self._recovery = outbound.recovery
        self._outbound = outbound
        self._events = events
        self._timers = timers
        self._full_links = full_links
        self._largest = largest_size(config, peer)

    # --- what happened

    def on_packet(self, plain: bytes, path: Path, size: int, newest: bool, now: float) -> None:
        """An authenticated run of ``size`` bytes came from a path that isn't the active one; ``plain`` is its last.

        ``newest``: that one has the highest packet number so far.

        :raises Violation: where it can't be parsed.
        """
        newest = newest and not frames.is_probing(frames.parse_frames_untrusted(plain))
        before = self.paths.active
        if self.paths.on_packet(path, size, newest, now):
            self._moved(before, path, now)
        self.plan()

    def on_challenge(self, data: bytes, path: Path, size: int) -> None:
        """The peer probes ``path``, with a packet of ``size`` bytes."""
        self.paths.on_challenge(data, path, size)

    def on_response(self, data: bytes, transport: int, now: float) -> None:
        """An answer to a challenge of ours."""
        before = self.paths.active
        moved = self.paths.on_response(data, transport)
        if moved is not None:
            self._moved(before, moved, now)
        self.plan()

    def on_closed(self, path: Path) -> bool:
        """A reliable path is gone; True where it was the one in use, so that nothing can leave until there is
        another."""
        lost = self.paths.on_closed(path)
        if lost:
            self._events.append(PathFailed(self._key, path))
        self.plan()
        return lost

    def _moved(self, before: Path, path: Path, now: float) -> None:
        self.paths.stalled = path in self._full_links
        if not same_host(before, path):
            self._outbound.set_paced(is_paced(self._config, path))
            self._recovery.reset_for_new_path(
                _controller(self._config, path),
                RttEstimator(),
                _sizes(path, self._largest),
                now,
                reliable=path.reliable,
            )
        # Of an application that takes no events, the peer could make these pile up: only the newest counts.
        old = (event for event in self._events if type(event) is PathChanged and event.session_key == self._key)
        if (told := next(old, None)) is not None:
            self._events.remove(told)
        self._events.append(PathChanged(self._key, path))

    # --- what leaves

    def poll(self, now: float) -> Transmit | None:
        """The next packet that must go on a path of its own, or None."""
        probe = self.paths.poll_probe(now, self._recovery.pto)
        self.plan()
        return None if probe is None else self._seal(probe, now)

    def _seal(self, probe: Probe, now: float) -> Transmit:
        frame: bytes
        if probe.challenge is not None:
            frame = frames.PathChallenge(probe.challenge).encode()
        else:
            transport = PathTransport(TRANSPORT_CODES[probe.path.transport])
            frame = frames.PathResponse(probe.response or b"", transport).encode()
        batch = Batch(probe.limit - OVERHEAD, 1)
        # A path under validation has no place in loss recovery: the timer repeats challenges, the peer its own.
        batch.add(frame)
        batch.end_packet()
        return self._outbound.seal(batch.plains, batch.records, probe.path, now)

    # --- time

    def plan(self) -> None:
        """Set the timer by which a challenge is due again."""
        at = self.paths.next_timer()
        if at is None:
            self._timers.cancel(Timer.PATH)
        else:
            self._timers.set(Timer.PATH, at)

    def handle_timer(self, now: float) -> None:
        """A challenge is due again, or had its tries. The timer is set anew by the poll that sends it: were it set
        here, to a moment that has come already, it would fire over and over before anything could be sent.
        """
        self.paths.handle_timer(now)
