"""What a change of path means to the rest of a session: what is learnt anew, what stays, who is told.

Rule: :mod:`~stt_core.paths` decides which path is believed; here is done what follows. A path that differs by its port
alone is taken for the same one behind a NAT that forgot; of any other, nothing is known (RFC 9000 section 9.4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from math import inf
from typing import Final, NamedTuple

from stt_core import frames
from stt_core.budget import RemoteBudget
from stt_core.cids import CidRegistry, LocalCids, PeerCid, PeerCids
from stt_core.config import MAX_DATAGRAM, MIN_DATAGRAM, EndpointConfig
from stt_core.control import MAX_OUTSTANDING, Control
from stt_core.errors import ErrorCode, Violation
from stt_core.events import AnyEvent, LinkWanted, PathChanged, PathFailed, PathReleased, PathValidated
from stt_core.fallback import Fallback
from stt_core.frames import FrameType, PathTransport
from stt_core.handshake import HandshakeResult
from stt_core.handshake.limits import is_loopback
from stt_core.keys import CidMask, cid_mask
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
from stt_core.state import FallbackState
from stt_core.timers import Timer, Timers
from stt_core.types import Path, SessionKey, Transmit

PTO_SHARE: Final = 8
"""Probe timeouts grow to an eighth of the time after which a silent peer is given up, so that the end of a long outage
is noticed while somebody still asks."""
STOCKING: Final = 1.0
"""Seconds after which a session gives its peer connection ids for other paths: one that is over before needs none."""


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
    return make_controller(config.congestion, MIN_DATAGRAM)


def _sizes(path: Path, largest: int) -> MtuSearch:
    return FixedSize(MAX_DATAGRAM) if path.reliable else MtuSearch(largest)


MAX_ARRIVED: Final = 16
"""Paths noted as having brought a packet, before those that came to nothing are forgotten."""


class Surroundings(NamedTuple):
    """What a session's moves touch outside of it."""

    full_links: Collection[Path]
    """Reliable paths that can take nothing for now."""
    budget_for: Callable[[SessionKey, Path, int], RemoteBudget]
    """The budget of a path, in place of the one that the session had."""
    registry: CidRegistry


class Migration:
    """One session's moves, and its connection ids."""

    __slots__ = (
        "_arrived", "_cids", "_config", "_control", "_events", "_fallback", "_first_cid", "_hint", "_key", "_largest",
        "_mask_key", "_outbound", "_peer", "_recovery", "_role", "_stocking_at", "_surroundings", "_timers", "local",
        "paths",
    )  # fmt: skip

    def __init__(
        self,
        result: HandshakeResult,
        *,
        key: SessionKey,
        config: EndpointConfig,
        outbound: Outbound,
        control: Control,
        events: deque[AnyEvent],
        timers: Timers,
        mask_key: bytes,
        surroundings: Surroundings,
    ) -> None:
        peer = result.peer_parameters
        self.paths = outbound.paths
        self.local = LocalCids(result.local_cid)
        self._peer = PeerCids(result.peer_cid, peer.reset_token)
        self._cids: dict[Path, PeerCid] = {self.paths.active: self._peer.used[0]}
        """Which id our packets bear on each path; paths that a NAT made of one share it."""
        self._arrived: dict[Path, bytes] = {}
        """Which id of ours the peer's packets bore there at last; on the first path it isn't noted."""
        self._first_cid = result.local_cid
        self._key = key
        self._config = config
        self._control = control
        self._recovery = outbound.recovery
        self._outbound = outbound
        self._events = events
        self._timers = timers
        self._mask_key = mask_key
        self._role = result.role
        self._surroundings = surroundings
        self._largest = largest_size(config, peer)
        self._hint = peer.receive_buffer_hint
        self._stocking_at: float | None = None
        self._fallback: Fallback | None = None

    @property
    def reset_tokens(self) -> list[bytes]:
        """What the peer's resets would end with: the tokens of the ids that packets are sent to."""
        return [cid.token for cid in self._peer.used if cid.token]

    def begin(self, now: float) -> None:
        """The session is established."""
        self._surroundings.registry.expect_reset(self._peer.used[0].token, self._key)
        self._stocking_at = now + STOCKING
        self._plan()

    # --- what happened

    def on_packet(self, plain: bytes, path: Path, size: int, newest: bool, cid: bytes, now: float) -> None:
        """An authenticated run of ``size`` bytes to our id ``cid`` came from a path that isn't the active one;
        ``plain`` is its last.

        ``newest``: that one has the highest packet number so far.

        :raises Violation: where it can't be parsed.
        """
        newest = newest and not frames.is_probing(frames.parse_frames_untrusted(plain))
        if len(self._arrived) >= MAX_ARRIVED:
            self._settle()
        self._arrived[path] = cid
        before = self.paths.active
        deliberate = cid != self._arrived.get(before, self._first_cid)
        if self.paths.on_packet(path, size, newest, now, deliberate=deliberate):
            self._moved(before, path, now)
            self._settle()
        self._plan()

    def on_active_packet(self, plain: bytes, newest: bool) -> None:
        """A packet came on a path that this side chose: has the peer followed?

        :raises Violation: where it can't be parsed.
        """
        if newest and not frames.is_probing(frames.parse_frames_untrusted(plain)):
            self.paths.on_followed()
            self._settle()

    def on_challenge(self, data: bytes, path: Path, size: int, now: float) -> None:
        """The peer probes ``path``, with a packet of ``size`` bytes."""
        self.paths.on_challenge(data, path, size, now)
        self._plan()

    def on_response(self, data: bytes, transport: int, now: float) -> None:
        """An answer to a challenge of ours."""
        before = self.paths.active
        answer = self.paths.on_response(data, transport, now)
        if answer is not None and answer.moved:
            self._events.append(PathValidated(self._key, answer.path))
            self._moved(before, answer.path, now)
        self._settle()

    def on_closed(self, path: Path, now: float) -> bool:
        """A reliable path is gone; True where it was the one in use, so that nothing can leave until there is
        another."""
        lost = self.paths.on_closed(path)
        if lost:
            self._events.append(PathFailed(self._key, path))
            self._want_link(now)
            if self._fallback is not None and self._fallback.home is not None:
                self.migrate(self._fallback.home, now)
        self._settle()
        return lost

    def on_silence(self, now: float) -> None:
        """Several probe timeouts in a row have passed."""
        self.paths.on_silence()
        if not self.paths.active.reliable:
            self._want_link(now)
            self._plan()

    def _want_link(self, now: float) -> None:
        if self._fallback is not None and self._fallback.on_silence(now):
            self._events.append(LinkWanted(self._key))

    def on_new_cid(self, frame: frames.NewCid) -> None:
        """The peer gives another id.

        :raises Violation: as :meth:`PeerCids.receive`.
        """
        for unused in self._peer.receive(frame):
            self._retire(unused)
        for cid in set(self._cids.values()):
            if cid.sequence < self._peer.retire_before and (fresh := self._peer.take()) is not None:
                for other in [other for other, shared in self._cids.items() if shared == cid]:
                    self._use(other, fresh)
        self._settle()

    def on_retire_cid(self, sequence: int, now: float) -> None:
        """The peer will not use one of our ids again: it gets another.

        :raises Violation: where it never had that id, or acknowledges none of those it gets.
        """
        gone = self.local.retire(sequence)
        if gone is not None:
            self._surroundings.registry.withdraw(gone)
        if self._stocking_at is None:
            self._give_cids(now)

    # --- commands

    def migrate(self, path: Path, now: float) -> None:
        """Go to ``path`` as soon as it answers; where it is the one in use, this side's own address has changed."""
        if path != self.paths.active or self.paths.lost:
            # What was used there before would tell that it is the same session, perhaps from another address.
            if path != self.paths.active:
                self._cids.pop(path, None)
            self._arrived.pop(path, None)
            self.paths.migrate(path, now)
            self._settle()
            return
        if (fresh := self._peer.take()) is not None:
            self._use(path, fresh)
        self._start_over(path, now)
        self._settle()
        self._speak()

    def stay(self) -> None:
        """Give up the move that was begun, if it hasn't been made."""
        path = self.paths.stay()
        if (
            path is not None and path.reliable and path not in {*self._cids, *self._arrived}
        ):  # nothing was sent there yet
            self._events.append(PathReleased(path))
        self._settle()

    def allow_fallback(self, home: Path | None, now: float) -> None:
        """This side can open connections to the peer, which listens at ``home`` on UDP."""
        self._fallback = Fallback(self.paths.active, home, now)
        if self.paths.lost:
            self._want_link(now)
        self._plan()

    def fall_back(self, path: Path, now: float) -> None:
        """The connection that was asked for is open."""
        fallback = self._fallback
        if (
            fallback is None
            or fallback.state is not FallbackState.SEEKING
            or self._hears
            or self._is_on_its_way(fallback)
        ):
            self._events.append(PathReleased(path))
        else:
            fallback.detour = path
            self.migrate(path, now)

    @property
    def _hears(self) -> bool:
        """Whether what is sent on the path in use is acknowledged."""
        return not self.paths.lost and not self._recovery.pto_count

    def _is_on_its_way(self, fallback: Fallback) -> bool:
        """Whether the application told it where to go: that comes first."""
        return self.paths.destination not in (None, fallback.home)

    def _on_fallback_due(self, fallback: Fallback, now: float) -> None:
        fallback.postpone(now)
        if fallback.state is FallbackState.SEEKING:
            if self._hears:
                fallback.on_heard()
            else:
                self._events.append(LinkWanted(self._key))
        if self.paths.active.reliable and fallback.home is not None and not self._is_on_its_way(fallback):
            self.migrate(fallback.home, now)

    # --- changes

    def _moved(self, before: Path, path: Path, now: float) -> None:
        self._use(path, self._cid_for(path))
        self.paths.stalled = path in self._surroundings.full_links
        if not same_host(before, path):
            self._start_over(path, now)
        self._outbound.release()
        self._outbound.budget = self._surroundings.budget_for(self._key, path, self._hint)
        self._outbound.charge()
        if self._fallback is not None:
            self._fallback.on_moved(path, now)
        # Of an application that takes no events, the peer could make these pile up: only the newest counts.
        for kind in (PathChanged, PathValidated):
            told = [event for event in self._events if type(event) is kind and event.session_key == self._key]
            for event in told if kind is PathChanged else told[:-1]:
                self._events.remove(event)
        self._events.append(PathChanged(self._key, path))
        if self.paths.holding:
            self._speak()

    def _start_over(self, path: Path, now: float) -> None:
        """Of the path in use nothing is known."""
        self._outbound.set_paced(is_paced(self._config, path))
        self._recovery.reset_for_new_path(
            _controller(self._config, path), RttEstimator(), _sizes(path, self._largest), now, reliable=path.reliable
        )
        self._outbound.on_settled(now)

    def _speak(self) -> None:
        """Say something that isn't a probe, so that the peer follows."""
        self._control.send(frames.KeepAlive(0).encode(), FrameType.KEEP_ALIVE)

    # --- connection ids

    def _cid_for(self, path: Path) -> PeerCid:
        """The id for packets on ``path``: one of its own where either side chose that path, and one is in stock."""
        cid = self._cids.get(path)
        if cid is None:
            arrived = self._arrived.get(path)
            chosen = arrived is None or arrived != self._arrived.get(self.paths.active, self._first_cid)
            cid = (self._peer.take() if chosen else None) or self._cids[self.paths.active]
            self._use(path, cid)
        return cid

    def _use(self, path: Path, cid: PeerCid) -> None:
        """Packets on ``path`` bear ``cid``."""
        self._cids[path] = cid
        self._surroundings.registry.expect_reset(cid.token, self._key)
        if path == self.paths.active:
            self._outbound.peer_mask = self._mask(cid)

    def _mask(self, cid: PeerCid) -> CidMask:
        return cid_mask(self._mask_key, self._role, cid.cid)

    def _retire(self, cid: PeerCid) -> None:
        """Tell the peer that nothing will be sent to ``cid`` again.

        :raises Violation: CID_LIMIT, where the peer makes us say so again and again without acknowledging it.
        """
        if self._control.unacknowledged > MAX_OUTSTANDING:
            raise Violation(ErrorCode.CID_LIMIT, "connection ids come and go, and nothing is acknowledged")
        self._peer.release(cid)
        self._surroundings.registry.forget_reset(cid.token)
        self._control.send(frames.RetireCid(cid.sequence).encode(), FrameType.RETIRE_CID)

    def _give_cids(self, now: float) -> None:
        if self._control.unacknowledged > MAX_OUTSTANDING:
            raise Violation(ErrorCode.CID_LIMIT, "connection ids are used up, and none is acknowledged")
        for _ in range(self.local.missing):
            cid, token = self._surroundings.registry.issue(self._key, now)
            frame = frames.NewCid(self.local.add(cid), 0, cid, token)
            self._control.send(frame.encode(), FrameType.NEW_CID)

    def _settle(self) -> None:
        """After any change: let go of what belongs to paths on which nothing will be sent again."""
        known = self.paths.known
        for path in [path for path in {*self._cids, *self._arrived} if path not in known]:
            self._cids.pop(path, None)
            self._arrived.pop(path, None)
            if path.reliable:
                self._events.append(PathReleased(path))
        if len(self._peer.used) > 1:
            needed = set(self._cids.values())
            for cid in [cid for cid in self._peer.used if cid not in needed]:
                self._retire(cid)
        self._plan()

    # --- what leaves

    def poll(self, now: float) -> Transmit | None:
        """The next packet that must go on a path of its own, or None."""
        probe = self.paths.poll_probe(now, self._recovery.pto)
        self._plan()
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
        mask = self._mask(self._cid_for(probe.path))
        return self._outbound.seal(batch.plains, batch.records, probe.path, now, mask)

    # --- time

    def _plan(self) -> None:
        """Set the timer by which a challenge is due again, or ids for other paths are."""
        at = self.paths.next_timer()
        if self._stocking_at is not None and (at is None or self._stocking_at < at):
            at = self._stocking_at
        if self._fallback is not None and self._fallback.due_at < (inf if at is None else at):
            at = self._fallback.due_at
        if at is None:
            self._timers.cancel(Timer.PATH)
        else:
            self._timers.set(Timer.PATH, at)

    def handle_timer(self, now: float) -> None:
        """A challenge is due again, or had its tries. The timer is set anew by the poll that sends it: were it set
        here, to a moment that has come already, it would fire over and over before anything could be sent.
        """
        if self._stocking_at is not None and self._stocking_at <= now:
            self._stocking_at = None
            self._give_cids(now)
        fallback = self._fallback
        if fallback is not None and fallback.due_at <= now:
            self._on_fallback_due(fallback, now)
        for path in self.paths.handle_timer(now):
            if fallback is None or path != fallback.home:  # that is asked again and again, and by nobody's command
                self._events.append(PathFailed(self._key, path))
            if path == self.paths.active:
                self.paths.retreat(now)
        if not self.paths.busy:
            self._settle()
