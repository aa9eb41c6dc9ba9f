"""An established session's packets: from frames and streams to sealed datagrams, and back.

Rule: batches in, batches out. The receive loop touches a DATA packet in order with no call of ours at all; whatever
else a packet holds goes the slow way beside it. The session above decides *whether* to speak, this room decides
*what* goes into the packets. A :class:`Violation` from below passes through to the session, its one catcher.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final

from stt_core import frames
from stt_core.acks import Acknowledgements
from stt_core.budget import RemoteBudget
from stt_core.config import MAX_DATAGRAM, MIN_DATAGRAM, EndpointConfig
from stt_core.control import Control
from stt_core.crypto import Crypto
from stt_core.datagrams import DATAGRAM_OVERHEAD, Datagrams
from stt_core.errors import MessageTooLargeError
from stt_core.events import AnyEvent, DatagramsReadable, DhtReadable
from stt_core.fallback import SILENT
from stt_core.frames import ACK_HEADER, DATA_HEADER, DATA_OVERHEAD, FrameType, pack_data
from stt_core.handshake import HandshakeResult
from stt_core.handshake.resume import TICKET_MAX
from stt_core.keepalive import KeepAlive
from stt_core.keys import CidMask, SessionSecrets, cid_mask
from stt_core.migration import Migration, Surroundings, is_paced, make_recovery
from stt_core.outbound import OVERHEAD, Outbound
from stt_core.packet import LARGE, TOKEN_MAX
from stt_core.packing import Batch, Content
from stt_core.paths import Paths
from stt_core.protection import Protection
from stt_core.recovery.ecn import EcnCounts
from stt_core.recovery.loss import Outcome
from stt_core.rtt import GRANULARITY
from stt_core.streams import STREAM_FRAMES, LastingStreams
from stt_core.streams.receive import Chunk
from stt_core.timers import Timers
from stt_core.types import Entropy, Observer, Path, Role, SessionKey, Transmit

LONE: Final = MAX_DATAGRAM // 2
"""Bytes above which a datagram takes a system call by itself, so that a small one costs as much as a full one."""
WORTH_SEARCHING: Final = 10 * MIN_DATAGRAM
"""Bytes of one stream that must wait before a session looks for larger datagrams: one that hardly speaks needs none."""
LEAST_INTERVAL: Final = 1.0
"""Seconds between keep-alives, at least, where only the peer's idle timeout asks for shorter ones."""
MAX_UNANSWERED: Final = 32
"""Reliable control frames in flight above which no more keep-alives are added."""

_ACK = int(FrameType.ACK)
_ACK_SIZE = ACK_HEADER.size
_ACK_COUNT_AT = 13
_DATA = int(FrameType.DATA)
_DATA_SIZE = DATA_HEADER.size


@lru_cache(maxsize=64)
def _data_columns(size: int) -> Struct:
    """How to cut a run of packets of ``size`` bytes that each hold one DATA frame: its fields and its bytes."""
    return Struct(f"{DATA_HEADER.format}{size - _DATA_SIZE}s")


class Channel:
    """Everything one session needs from its keys onwards. Owned and driven by its ``Session``."""

    __slots__ = (
        "_events", "_mask_key", "_observer", "_outgoing", "_probes", "_role", "_slow_size", "acks",
        "address_token", "bytes_received", "close_acknowledged", "config", "control", "datagrams",
        "keep_alive", "key", "migration", "outbound", "packets_received", "paths", "peer_closed", "protection", "quiet",
        "recovery", "resumption_secret", "streams", "ticket", "timers",
    )  # fmt: skip

    def __init__(
        self,
        result: HandshakeResult,
        *,
        key: SessionKey,
        config: EndpointConfig,
        crypto: Crypto,
        entropy: Entropy,
        path: Path,
        budget: RemoteBudget,
        events: deque[AnyEvent],
        timers: Timers,
        observer: Observer | None,
        surroundings: Surroundings,
        streams: LastingStreams,
        resumed: bool,
        now: float,
    ) -> None:
        self.key, self.config, self.timers = key, config, timers
        self._events, self._observer, self._role = events, observer, result.role
        peer = result.peer_parameters
        secrets = SessionSecrets(result.master)
        # Of the secrets only this stays: the first traffic keys must be gone once the first update has replaced them.
        self._mask_key = secrets.pn_mask_key
        self.protection = Protection(crypto, result.suite, secrets, result.role)
        timeout = min(config.keep_alive_timeout, peer.idle_timeout or config.keep_alive_timeout)
        self.recovery = make_recovery(config, peer, path, timeout)
        if result.rtt is not None:
            self.recovery.rtt.update(result.rtt, 0.0, now)
        self.paths = Paths(path, entropy, leads=result.role is Role.INITIATOR)
        self.control = Control()
        self.resumption_secret = secrets.resumption  # from which no traffic key follows
        self.ticket: frames.Ticket | None = None
        self.streams, self._outgoing = streams, streams.outgoing
        for frame in streams.begin(peer, resumed=resumed):
            self.control.send(frame, FrameType.RESUME_STATE)
        self.outbound = Outbound(
            key=key,
            protection=self.protection,
            recovery=self.recovery,
            peer_mask=cid_mask(secrets.pn_mask_key, result.role, result.peer_cid),
            paths=self.paths,
            budget=budget,
            timers=timers,
            entropy=entropy,
            observer=observer,
            paced=is_paced(config, path),
            control=self.control,
            outgoing=self._outgoing,
        )
        self.migration = _make_migration(self, result, surroundings)
        self.acks = Acknowledgements(timers, self.recovery, config.max_ack_delay, now)
        self.keep_alive = _make_keep_alive(config, result, timeout, now)
        self.peer_closed: tuple[int, str] | None = None
        self.close_acknowledged = False
        self.quiet = False
        """Set once the session said its last words."""
        self.address_token: bytes | None = None
        self.datagrams = Datagrams(config.datagram_queue)
        self.bytes_received = self.packets_received = self._probes = self._slow_size = 0

    @property
    def datagram_size(self) -> int:
        """Bytes of a full datagram on this path now."""
        return self.recovery.mtu.size

    def receive_mask(self, cid: bytes) -> CidMask:
        """The mask of the packets the peer addresses to our ``cid``."""
        return cid_mask(self._mask_key, self._role.other, cid)

    # --- what arrives

    def accept(
        self, numbers: Sequence[int], plains: list[bytes], path: Path, now: float, ecn: int = 0, cid: bytes = b""
    ) -> bool:
        """Take in a run of opened packets that bore the codepoint ``ecn`` and came to our id ``cid``; False where all
        of them were seen before.

        A packet that was seen before is worth nothing, not even as a sign of life: anybody can send it again.

        :raises Violation: where the peer broke the protocol.
        """
        received = self.acks.packets
        count = len(plains)
        if count == 1 and received.add_next(numbers[0]):
            newest = True
            size = len(plains[0]) + OVERHEAD
        else:
            largest = received.largest
            fresh = received.add(numbers)
            if fresh is not None:
                numbers = [numbers[i] for i in fresh]
                plains = [plains[i] for i in fresh]
                if not plains:
                    return False
            newest = received.largest > largest
            count = len(plains)
            size = sum(map(len, plains)) + OVERHEAD * count
        self.keep_alive.last_heard = now
        self.bytes_received += size
        self.packets_received += count
        if ecn:
            self.acks.on_marked(ecn, count)
        if self._observer is not None:
            self._observer.packets_received(self.key, numbers, size, now)
        if newest:
            self.acks.largest_at = now
        if self.quiet:
            self._process_quietly(plains, path, now)
            return True
        paths = self.paths
        if path != paths.active:
            self.migration.on_packet(plains[-1], path, size, newest and numbers[-1] == received.largest, cid, now)
        elif paths.holding:
            self.migration.on_active_packet(plains[-1], newest and numbers[-1] == received.largest)
        eliciting = self._process(plains, path, now) if count > 1 else self._slow(plains[0], path, now)
        if eliciting:
            self.acks.on_eliciting(eliciting, size, now)
        return True

    def _process_quietly(self, plains: list[bytes], path: Path, now: float) -> None:
        """After our last words only the peer's matter: everything else would wake a session that is over."""
        for plain in plains:
            for frame in frames.parse_frames_untrusted(plain):
                if type(frame) in (frames.SessionClose, frames.SessionCloseAck):
                    _HANDLERS[type(frame)](self, frame, path, now)

    def _process(self, plains: list[bytes], path: Path, now: float) -> int:
        """The hot loop: in-order DATA of one stream at a time, everything else to :meth:`_slow`.

        Returns how many of the packets were ack-eliciting.
        """
        if self._take_columns(plains, now):
            return len(plains)
        unpack = DATA_HEADER.unpack_from
        half = None
        stream_id = -1
        expected = 0
        chunks: list[Chunk] = []
        eliciting = len(plains)
        for plain in plains:
            if plain and plain[0] == _DATA and len(plain) > _DATA_SIZE:
                _, sid, offset, length = unpack(plain)
                if length + _DATA_SIZE == len(plain):
                    chunk = plain[_DATA_SIZE:] if length <= LARGE else memoryview(plain)[_DATA_SIZE:]
                    if sid == stream_id and offset == expected:
                        chunks.append(chunk)
                        expected += length
                        continue
                    if half is not None:
                        self.streams.commit(half, chunks, expected, now)
                    half = self.streams.fast(sid)
                    if half is not None and half.expected == offset:
                        stream_id = sid
                        chunks = [chunk]
                        expected = offset + length
                        continue
                    half = None
                    stream_id = -1
            if half is not None:
                self.streams.commit(half, chunks, expected, now)
                half = None
                stream_id = -1
            eliciting -= not self._slow(plain, path, now)
        if half is not None:
            self.streams.commit(half, chunks, expected, now)
        return eliciting

    def _take_columns(self, plains: list[bytes], now: float) -> bool:
        """Take in a run that is nothing but one stream's next bytes, without a loop; False where it is anything else,
        and where copies cost more than a loop.

        The packets of a run are equally long: they were the segments of one batch.
        """
        head, count = plains[0], len(plains)
        size = len(head)
        body = size - _DATA_SIZE
        if not 0 < body <= LARGE or len(plains[-1]) != size or head[0] != _DATA:
            return False
        _, stream_id, start, _ = DATA_HEADER.unpack_from(head)
        half = self.streams.fast(stream_id)
        # Before anything is worked out from it: only an offset that we gave credit for is far from its field's end.
        if half is None or half.expected != start:
            return False
        stop = start + count * body
        if plains[-1][:_DATA_SIZE] != pack_data(_DATA, stream_id, stop - body, body):
            return False
        kinds, ids, offsets, lengths, chunks = zip(*_data_columns(size).iter_unpack(b"".join(plains)), strict=True)
        if not kinds.count(_DATA) == ids.count(stream_id) == lengths.count(body) == count:
            return False
        if offsets != tuple(range(start, stop, body)):
            return False
        self.streams.commit(half, chunks, stop, now)
        return True

    def _slow(self, plain: bytes, path: Path, now: float) -> bool:
        """One packet of any frames; returns whether it was ack-eliciting."""
        size = len(plain)
        self._slow_size = size + OVERHEAD
        at = 0
        # What nearly every small packet is, an ACK of one range, or one DATA frame, or both, needs no objects.
        if size >= _ACK_SIZE and plain[0] == _ACK and not plain[_ACK_COUNT_AT]:
            _, largest, delay, _, run = ACK_HEADER.unpack_from(plain)
            if run <= largest:
                self._on_ranges(((largest - run, largest),), delay / 1e6, now)
                if size == _ACK_SIZE:
                    return False
                at = _ACK_SIZE
        if size - at >= _DATA_SIZE and plain[at] & 0x7F == _DATA:
            kind, stream_id, offset, length = DATA_HEADER.unpack_from(plain, at)
            if at + _DATA_SIZE + length == size:
                chunk = plain[at + _DATA_SIZE :] if length <= LARGE else memoryview(plain)[at + _DATA_SIZE :]
                self.streams.receive_data(stream_id, offset, chunk, kind != _DATA, now)
                return True
        parsed = frames.parse_frames_untrusted(plain[at:] if at else plain)
        for frame in parsed:
            _HANDLERS[type(frame)](self, frame, path, now)
        return frames.is_ack_eliciting(parsed)

    def _on_data(self, frame: frames.Data, path: Path, now: float) -> None:
        self.streams.receive_data(frame.stream_id, frame.offset, frame.data, frame.fin, now)

    def _on_ack(self, frame: frames.Ack, path: Path, now: float) -> None:
        self._on_ranges(frame.ranges, frame.delay, now, frame.ecn)

    def _on_ranges(
        self, ranges: Sequence[tuple[int, int]], delay: float, now: float, ecn: EcnCounts | None = None
    ) -> None:
        outcome = self.recovery.on_ack(ranges, delay, now, not self.outbound.limited, ecn)
        if not self.protection.confirmed:
            self.protection.on_acked(ranges[0][1], now)
        self._settle(outcome, now)

    def _on_datagram(self, frame: frames.Datagram, path: Path, now: float) -> None:
        if self.datagrams.receive(frame.data):
            self._events.append(DatagramsReadable(self.key))

    def _on_dht(self, frame: frames.Dht, path: Path, now: float) -> None:
        if self.datagrams.receive_rpc(frame.rpc):
            self._events.append(DhtReadable(self.key))

    def _on_keep_alive(self, frame: frames.KeepAlive, path: Path, now: float) -> None:
        if frame.identifier:
            self.control.answer(frames.KeepAliveAck(frame.identifier).encode())

    def _on_keep_alive_ack(self, frame: frames.KeepAliveAck, path: Path, now: float) -> None:
        self.keep_alive.on_answer(frame.identifier)

    def _on_session_close(self, frame: frames.SessionClose, path: Path, now: float) -> None:
        self.peer_closed = (frame.code, frame.reason)

    def _on_session_close_ack(self, frame: frames.SessionCloseAck, path: Path, now: float) -> None:
        self.close_acknowledged = self.quiet  # before our last words it answers nothing

    def _on_address_token(self, frame: frames.AddressToken, path: Path, now: float) -> None:
        if len(frame.token) <= TOKEN_MAX:  # a longer one doesn't fit into a HELLO
            self.address_token = frame.token

    def _on_ticket(self, frame: frames.Ticket, path: Path, now: float) -> None:
        if len(frame.ticket) <= TICKET_MAX:  # a longer one doesn't fit into an AUTH_PROOF
            self.ticket = frame

    def _on_resume_state(self, frame: frames.ResumeState, path: Path, now: float) -> None:
        self.streams.receive_state(frame)

    def _on_path_challenge(self, frame: frames.PathChallenge, path: Path, now: float) -> None:
        # One answer a packet: many challenges in it must not earn more bytes than it brought, three times over.
        if self._slow_size:
            self.migration.on_challenge(frame.data, path, self._slow_size, now)
            self._slow_size = 0

    def _on_path_response(self, frame: frames.PathResponse, path: Path, now: float) -> None:
        self.migration.on_response(frame.data, frame.transport, now)

    def _on_new_cid(self, frame: frames.NewCid, path: Path, now: float) -> None:
        self.migration.on_new_cid(frame)

    def _on_retire_cid(self, frame: frames.RetireCid, path: Path, now: float) -> None:
        self.migration.on_retire_cid(frame.sequence, now)

    def _on_stream_frame(self, frame: frames.Frame, path: Path, now: float) -> None:
        self.streams.receive_frame(frame, now)

    def _on_tolerated(self, frame: frames.Frame, path: Path, now: float) -> None:
        """Part of the protocol, of no use to this version: acknowledged and otherwise left alone."""

    def send_datagram(self, data: bytes) -> bool:
        """Queue an unreliable message; False where the queue is full.

        :raises MessageTooLargeError: above :attr:`max_datagram`.
        """
        if len(data) > self.max_datagram:
            raise MessageTooLargeError(
                f"a DATAGRAM of {len(data)} bytes doesn't fit: this path carries {self.max_datagram}; "
                "use a stream, or send less at once"
            )
        return self.datagrams.send(data)

    # --- acknowledgements and losses

    def _settle(self, outcome: Outcome, now: float) -> None:
        streams = self.streams
        for count, content in outcome.acked:
            if isinstance(content, tuple):
                streams.on_run_acked(content, count)
            else:
                for token in content:
                    if token[0] in STREAM_FRAMES:
                        streams.on_acked(token)
                    elif token[0] == FrameType.ACK:
                        self.acks.on_acked(token[1])
                    else:
                        self.control.on_acked(token)
        for count, content in outcome.lost:
            self._requeue(count, content)
        if outcome.lost and self._observer is not None:
            self._observer.packets_lost(self.key, sum(count for count, _ in outcome.lost), now)
        self._outgoing.rtt_hint = max(self.recovery.rtt.minimum, GRANULARITY)
        self.outbound.on_settled(now)

    def _requeue(self, count: int, content: Content) -> None:
        if isinstance(content, tuple):
            self.streams.on_run_lost(content, count)
            return
        for token in content:
            if token[0] in STREAM_FRAMES:
                self.streams.on_lost(token)
            elif token[0] == FrameType.ACK:
                self.acks.on_lost()
            else:
                self.control.on_lost(token)

    def send_keep_alive(self, now: float) -> None:
        """Ask whether the peer is there. A lost question is repeated by PTO; where none is acknowledged, no more
        are added than :data:`MAX_UNANSWERED`."""
        serial = self.keep_alive.take(now)
        if self.control.unacknowledged < MAX_UNANSWERED:
            self.control.send(frames.KeepAlive(serial).encode(), FrameType.KEEP_ALIVE)

    def handle_loss_timer(self, now: float) -> None:
        """The loss timer or a PTO fired."""
        outcome = self.recovery.handle_timer(now)
        # A second probe covers the loss of the first (RFC 9002 section 6.2.4). A keep-alive isn't worth it: thousands
        # of idle sessions whose answers are late, because the machine is, must not make it later by asking twice each.
        probes = outcome.probes if self.streams.has_unacknowledged else min(outcome.probes, 1)
        self._probes = max(self._probes, probes)
        self._settle(outcome, now)
        if self.recovery.pto_count >= SILENT:
            self.migration.on_silence(now)
        if self._probes and not self._has_work:
            for count, content in self.recovery.oldest_unacked(self._probes):
                self._requeue(count, content)

    def on_too_big(self, size: int, now: float) -> None:
        """The system refused to send datagrams of ``size`` bytes."""
        self._settle(self.recovery.on_too_big(size, now), now)

    def on_path_closed(self, path: Path, now: float) -> None:
        """A reliable path is gone. Where it was in use, what was not acknowledged is lost (and sent again, once there
        is another)."""
        if self.migration.on_closed(path, now):
            self._settle(self.recovery.on_path_closed(now), now)

    @property
    def max_datagram(self) -> int:
        """The longest DATAGRAM the path carries now, in bytes."""
        return self.datagram_size - OVERHEAD - DATAGRAM_OVERHEAD

    # --- what leaves

    @property
    def wants_to_send(self) -> bool:
        """Whether :meth:`poll` may have something to say."""
        if self.paths.stalled:
            return self.paths.busy
        if self.acks.due or self._probes > 0 or self.control.queue:
            return True
        # Who waits for the remote's buffer is called when there is room, see the endpoint.
        if self._outgoing.wants_to_send or self.datagrams.outgoing:
            return self.key not in self.outbound.budget.blocked or self.paths.busy
        return self.paths.busy

    @property
    def _has_work(self) -> bool:
        return self._outgoing.wants_to_send or bool(self.control.queue or self.datagrams.outgoing)

    def poll(self, now: float, max_segments: int, max_bytes: int) -> Transmit | None:
        """The next batch, or None where there is nothing to say or nothing may be said now.

        It has at most ``max_segments`` datagrams, and ``max_bytes`` if that is room for one.
        """
        paths = self.paths
        if paths.busy and (transmit := self.migration.poll(now)) is not None:
            return transmit
        if paths.stalled:
            return None
        recovery = self.recovery
        size = recovery.mtu.size
        limit = 0
        others = self._probes or self.control.queue or self.datagrams.outgoing
        if not others and self._outgoing.limits_frames:  # what others say may need all the room there is
            size = min(size, OVERHEAD + DATA_OVERHEAD + (self._outgoing.frame_limit or MAX_DATAGRAM))
        if others or self._outgoing.wants_to_send:
            most = 1 if recovery.reliable else min(max_segments, max(max_bytes // size, 1))
            limit = self.outbound.allowance(size, most, self._probes, now)
            if limit and size > LONE and not recovery.reliable:
                limit = self._without_rest(limit, size)
            if limit and not others:
                transmit = self._poll_one(size - OVERHEAD, now, full=limit == 1 and not recovery.mtu.wanted)
                if transmit is not None:
                    return transmit
            if recovery.mtu.wanted and self._outgoing.backlog >= WORTH_SEARCHING and self.outbound.may_search():
                return self.outbound.seal_mtu_probe(now)
        else:
            self.outbound.limited = False
        if not limit and not self.acks.due:
            return None
        batch = Batch(size - OVERHEAD, limit or 1)
        acknowledging = self.acks.pending
        if acknowledging:
            self.acks.add_to(batch, now)
        if limit:
            self._fill(batch, now)
        batch.end_packet(pad=False)
        if not batch.plains:
            return None
        if acknowledging and not self.acks.pending:
            self.acks.on_sent(batch.records[0][1])
        return self.outbound.seal(batch.plains, batch.records, self.paths.active, now)

    def _without_rest(self, limit: int, size: int) -> int:
        """Of ``limit`` large packets, those that the stream whose turn it is fills.

        What is left of a write leaves with the next one, or when the ACK has come that is due for the two packets
        under way: applications write round numbers of bytes, and to send the odd rest of each would cost a quarter of
        all packets. Nothing waits for a delayed ACK, nor on any but the shortest paths: no others carry such packets.
        """
        if self.recovery.packets_in_flight < 2 or self._probes or self.control or self.datagrams.outgoing:
            return limit
        return self._outgoing.whole_packets(size - OVERHEAD - DATA_OVERHEAD, limit)

    def _poll_one(self, room: int, now: float, *, full: bool) -> Transmit | None:
        """A packet that leaves by itself, without a batch: all that there is to say, or with ``full`` as much as fits
        where only one packet may leave. None where it is no such case."""
        acks = self.acks
        head = acks.frame(now) if acks.pending and (now >= acks.rests_until or acks.due) else b""
        taken = self._outgoing.take_one(room - len(head), full=full)
        if taken is None:
            return None
        frame, token = taken
        content: Content = [token]
        if head:
            acks.on_sent(content)
            frame = head + frame
        return self.outbound.seal_one(frame, content, now)

    def _fill(self, batch: Batch, now: float) -> None:
        if self.control:
            self.control.fill(batch)
        self.datagrams.fill(batch)
        self.streams.fill(batch, now)
        if self._probes:
            if not batch.eliciting:
                batch.add(frames.KeepAlive(0).encode(), (FrameType.KEEP_ALIVE, 0))
            self._probes = max(0, self._probes - len(batch.plains) - batch.open_packet)

    # --- plans

    @property
    def pto(self) -> float:
        """One probe timeout in seconds, without backoff (RFC 9002 section 6.2.1)."""
        return self.recovery.pto


def _make_migration(channel: Channel, result: HandshakeResult, surroundings: Surroundings) -> Migration:
    return Migration(
        result,
        key=channel.key,
        config=channel.config,
        outbound=channel.outbound,
        control=channel.control,
        events=channel._events,
        timers=channel.timers,
        mask_key=channel._mask_key,
        surroundings=surroundings,
    )


def _make_keep_alive(config: EndpointConfig, result: HandshakeResult, timeout: float, now: float) -> KeepAlive:
    # The peer's word can make us ask more often, but not without end.
    interval = min(config.keep_alive_interval, max(timeout / 2, LEAST_INTERVAL))
    return KeepAlive(interval, timeout, now, yields=result.role is Role.RESPONDER)


_HANDLERS: Final[dict[type, Callable[..., None]]] = {
    frames.Data: Channel._on_data,
    frames.Ack: Channel._on_ack,
    frames.KeepAlive: Channel._on_keep_alive,
    frames.KeepAliveAck: Channel._on_keep_alive_ack,
    frames.Datagram: Channel._on_datagram,
    frames.SessionClose: Channel._on_session_close,
    frames.SessionCloseAck: Channel._on_session_close_ack,
    frames.AddressToken: Channel._on_address_token,
    frames.Ticket: Channel._on_ticket,
    frames.ResumeState: Channel._on_resume_state,
    frames.PathChallenge: Channel._on_path_challenge,
    frames.PathResponse: Channel._on_path_response,
    frames.NewCid: Channel._on_new_cid,
    frames.RetireCid: Channel._on_retire_cid,
    frames.Dht: Channel._on_dht,
    frames.Error: Channel._on_tolerated,
}
_HANDLERS.update(
    dict.fromkeys(
        (frames.StreamOpen, frames.StreamClose, frames.StreamStop, frames.MaxData, frames.MaxStreamData,
         frames.MaxStreams, frames.Blocked), Channel._on_stream_frame
    )
)  # fmt: skip
