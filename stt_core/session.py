"""One session's life: INIT, HANDSHAKING, ESTABLISHED, CLOSING, CLOSED (chapter, "Session Lifecycle").

Rule: orchestration only. The handshake, the packets and the farewell live in rooms of their own; here is decided
which of them speaks, what their outcome means, and what the application may ask for. This is the one place that
catches a :class:`Violation`: an authenticated peer broke the rules, and the session ends with its code and reason.

A session has four kinds of methods, and is driven by its endpoint in this order: what happened goes in
(``receive_*``, ``handle_timer``), the application gives commands (``open_stream``, ``send_message``, ``close`` …),
then what to do comes out (``poll_transmit``, ``next_timer``, and events in the endpoint's queue). The rest are getters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from stt_core import frames
from stt_core.budget import RemoteBudget
from stt_core.channel import Channel
from stt_core.closing import Farewell, code_name, reason_of
from stt_core.commands import Commands
from stt_core.context import Context
from stt_core.errors import CloseReason, ConnectError, ErrorCode, SessionClosedError, STTError, Violation
from stt_core.events import HandshakeFailed, SessionClosed, SessionEstablished
from stt_core.frames import FrameType
from stt_core.handshake import HandshakeResult, Initiator, Peer
from stt_core.keys import CidMask
from stt_core.outbound import OVERHEAD
from stt_core.packing import Batch
from stt_core.state import SESSION, SessionState, SessionTrigger, advance
from stt_core.statistics import SessionStatistics
from stt_core.timers import Timer, Timers
from stt_core.types import Path, Role, SessionKey, Transmit


class Session(Commands):
    """See the module's text. Made by :class:`~stt_core.endpoint.Endpoint` only."""

    __slots__ = (
        "_begin", "_close_request", "_farewell", "_initiator", "_path", "_peer", "local_cid", "masks", "role",
        "scheduled_at", "timers",
    )  # fmt: skip

    def __init__(self, context: Context, key: SessionKey, role: Role, path: Path, local_cid: bytes) -> None:
        super().__init__(context, key)
        self.role = role
        self.local_cid = local_cid
        self.masks: dict[bytes, CidMask] = {}
        """How packets to those of our connection ids are masked that any came to; empty before there are keys."""
        self.scheduled_at: float | None = None
        """The endpoint's own note: where it stands in its agenda."""
        self._path = path
        self.timers = Timers()
        """All this session waits for."""
        self._begin: Callable[[float], Initiator] | None = None
        self._initiator: Initiator | None = None
        self._peer: Peer | None = None
        self._farewell: Farewell | None = None
        self._close_request: tuple[int, str, float] | None = None

    def __repr__(self) -> str:
        return f"<Session {self.session_id.hex() or self.key} {self.state.value} {self.role.name.lower()}>"

    # --- getters

    @property
    def session_id(self) -> bytes:
        """8 bytes, the same on both sides; public, for logs and the API. Empty before the handshake is done."""
        return self._peer.session_id if self._peer else b""

    @property
    def peer_node_id(self) -> bytes:
        """The label the peer gave itself; any holder of the seed can claim any label. Empty before the handshake."""
        return self._peer.node_id if self._peer else b""

    @property
    def peer_identity_key(self) -> bytes | None:
        """The peer's proven Ed25519 public key, 32 bytes, where it has one."""
        return self._peer.identity_key if self._peer else None

    @property
    def path(self) -> Path:
        """Where packets go now."""
        return self._channel.paths.active if self._channel else self._path

    @property
    def first_path(self) -> Path:
        """Where the session was made."""
        return self._path

    @property
    def budget(self) -> RemoteBudget | None:
        """What this session shares with all others to the same socket; None before there are keys."""
        return self._channel.outbound.budget if self._channel else None

    @property
    def local_cids(self) -> list[bytes]:
        """All connection ids that packets for this session may come to."""
        return [self.local_cid, *(self._channel.migration.local if self._channel else ())]

    @property
    def reset_tokens(self) -> list[bytes]:
        """What a packet ends with by which the peer says that it has lost this session; 16 bytes each."""
        return self._channel.migration.reset_tokens if self._channel else []

    def mask_for(self, cid: bytes) -> CidMask | None:
        """How packets to our ``cid`` are masked; None while there are no keys."""
        if self._channel is not None:
            self.masks[cid] = self._channel.receive_mask(cid)
        return self.masks.get(cid)

    @property
    def error(self) -> STTError | None:
        """Why the session is over; None while it lives."""
        return self._error

    @property
    def max_datagram_size(self) -> int:
        """The longest DATAGRAM the path carries now, in bytes; may change with the path."""
        return self._require_channel().max_datagram

    def statistics(self) -> SessionStatistics:
        """What was sent, received and measured so far.

        :raises StateError: before the handshake is done.
        """
        return SessionStatistics.of(self._require_channel())

    # --- the handshake, driven by the endpoint

    def start(self, begin: Callable[[float], Initiator], now: float) -> None:
        """Begin to connect; ``begin`` makes the handshake, a second one where the first led to a taken id."""
        self._begin = begin
        self._initiator = begin(now)
        self.state = advance(SESSION, self.state, SessionTrigger.START)
        self._after_handshake_step(self._initiator, now)

    def start_accepted(self, result: HandshakeResult, pending: float, now: float) -> None:
        """Wait for the first packet under the new keys, at most ``pending`` seconds: only that proves the initiator
        got our FINAL, and that its AUTH_PROOF was no replay."""
        self.state = advance(SESSION, self.state, SessionTrigger.START)
        self._open_channel(result, now)
        self.timers.set(Timer.HANDSHAKE, now + pending)

    def receive_handshake(self, data: bytes, now: float) -> None:
        """A handshake packet for this initiator."""
        if self._initiator is not None:
            self._initiator.receive_packet(data, now)
            self._after_handshake_step(self._initiator, now)

    def owns_nonce(self, nonce: bytes) -> bool:
        """Whether a HELLO of this connect carried ``nonce``."""
        return self._initiator is not None and self._initiator.owns_nonce(nonce)

    def receive_unreachable(self, now: float) -> None:
        """The network says nothing listens there. Unauthenticated: it can only hurry a connect, not end a session."""
        if self._initiator is not None:
            self._initiator.receive_unreachable(now)
            self._after_handshake_step(self._initiator, now)

    def receive_path_writable(self, path: Path, writable: bool) -> None:
        """A reliable path of this session can take no more for now, or can again."""
        paths = self._channel.paths if self._channel else None
        if paths is not None and paths.active == path and not paths.lost:
            paths.stalled = not writable
            if writable:
                self.mark_ready()

    def receive_path_closed(self, path: Path, now: float) -> None:
        """A reliable path of this session is gone. One that was being made on it is over, and so is one that was
        saying farewell there; any other waits for another path."""
        channel = self._channel
        if self.finished:
            return
        if self._initiator is not None:
            self._initiator.receive_closed(now)
            self._after_handshake_step(self._initiator, now)
        elif channel is None or self.state is SessionState.HANDSHAKING:
            self._forget(SessionTrigger.LOST)
        elif self._farewell is not None:
            if channel.paths.on_closed(path):
                self._farewell.give_up(now)
                self._after_farewell(now)
        else:
            channel.on_path_closed(path, now)

    def _after_handshake_step(self, initiator: Initiator, now: float) -> None:
        result = initiator.result
        if initiator.failure is not None:
            self._give_up(initiator.failure)
        elif result is None:
            self._set(Timer.HANDSHAKE, initiator.next_timer())
        elif not self._context.claim(result.session_id):
            self._start_over(now)
        else:
            self._initiator = self._begin = None
            self.timers.clear()
            channel = self._open_channel(result, now)
            self._established(now)
            # The responder reports and starts nothing before it opens a packet of ours: send one, until acked.
            channel.send_keep_alive(now)
        self.mark_ready()

    def _start_over(self, now: float) -> None:
        """The new session's id is that of a live one (docs/protocol.md, "Session id"): once, try for another."""
        begin, self._begin = self._begin, None
        if begin is None:
            self._give_up(ConnectError("twice the session id was that of a live session: does the peer choose it?"))
            return
        self._initiator = begin(now)
        self._set(Timer.HANDSHAKE, self._initiator.next_timer())

    def _give_up(self, error: STTError) -> None:
        """Before it was established. Who connects is told; of somebody else's attempt nobody ever heard."""
        self._error = error
        if self.role is Role.INITIATOR:
            self._context.events.append(HandshakeFailed(self.key, error, self._path))
        self._forget(SessionTrigger.LOST)

    def _open_channel(self, result: HandshakeResult, now: float) -> Channel:
        context = self._context
        self._peer = result.peer  # all keys are derived here: nothing else may know the master secret later
        self._channel = Channel(
            result,
            key=self.key,
            config=context.config,
            crypto=context.crypto,
            entropy=context.entropy,
            path=self._path,
            budget=context.budget_for(self.key, self._path, result.peer_parameters.receive_buffer_hint),
            events=context.events,
            timers=self.timers,
            observer=context.observer,
            surroundings=context.surroundings,
            now=now,
        )
        self.masks[self.local_cid] = self._channel.receive_mask(self.local_cid)
        return self._channel

    def _established(self, now: float) -> None:
        channel = self._require_channel()
        alive = channel.keep_alive
        self.state = advance(SESSION, self.state, SessionTrigger.CONFIRMED)
        self.timers.cancel(Timer.HANDSHAKE)
        self.timers.set(Timer.IDLE, alive.dead_at())
        self.timers.set(Timer.KEEP_ALIVE, alive.next_due())
        told = SessionEstablished(
            self.key,
            session_id=self.session_id,
            peer_node_id=self.peer_node_id,
            peer_identity_key=self.peer_identity_key,
            path=self._path,
            initiated=self.role is Role.INITIATOR,
        )
        self._context.events.append(told)
        channel.migration.begin(now)
        self._context.on_established(self.key, now)

    def send_address_token(self, token: bytes) -> None:
        """Let the peer prove this address in its next HELLO."""
        self._require_channel().control.send(frames.AddressToken(token).encode(), FrameType.ADDRESS_TOKEN)

    # --- what arrives

    def receive_run(
        self,
        wires: Sequence[int],
        aads: Sequence[bytes],
        ciphertexts: Sequence[bytes | memoryview],
        cid: CidMask,
        path: Path,
        now: float,
        ecn: int = 0,
    ) -> None:
        """A run of protected packets with the same first byte and connection id, in columns."""
        channel = self._channel
        if channel is None:
            return
        try:
            numbers, plains = channel.protection.open(aads[0][0], wires, aads, ciphertexts, cid, now)
            news = bool(plains) and self._accept(channel, numbers, plains, path, now, ecn, cid.cid)
        except Violation as violation:
            self._fail(violation.code, violation.reason, now)
        else:
            self._after_input(channel, news, now)

    def receive_one(self, datagram: bytes | memoryview, cid: CidMask, path: Path, now: float, ecn: int = 0) -> bool:
        """One protected packet; whether it opened and was not seen before."""
        channel = self._channel
        if channel is None:
            return False
        try:
            opened = channel.protection.open_one(datagram, cid, now)
            if opened is None:
                news = False
            else:
                if self.state is SessionState.HANDSHAKING:
                    self._established(now)
                number, plain = opened
                news = channel.accept((number,), [plain], path, now, ecn, cid.cid)
        except Violation as violation:
            self._fail(violation.code, violation.reason, now)
            return True
        self._after_input(channel, news, now)
        return news

    def _accept(
        self,
        channel: Channel,
        numbers: Sequence[int],
        plains: list[bytes],
        path: Path,
        now: float,
        ecn: int,
        cid: bytes,
    ) -> bool:
        if self.state is SessionState.HANDSHAKING:
            self._established(now)  # before anything in these packets becomes an event
        return channel.accept(numbers, plains, path, now, ecn, cid)

    def receive_too_big(self, size: int, now: float) -> None:
        """The system refused to send ``size`` bytes at once to the peer."""
        if self._channel is not None and not self._channel.quiet:
            self._channel.on_too_big(size, now)
            if self.wants_to_send:
                self.mark_ready()

    def receive_reset(self, now: float) -> None:
        """The peer's endpoint told, with a token only it could know, that it has lost this session."""
        if self.state is SessionState.ESTABLISHED or self.state is SessionState.CLOSING:
            self._die(CloseReason.TIMEOUT, "the peer no longer knows this session (it was restarted, or gave it up)")

    def _after_input(self, channel: Channel, news: bool, now: float) -> None:
        if not news:
            if channel.protection.exhausted:
                self._fail(ErrorCode.AEAD_LIMIT, "too many forged packets", now)
            return
        if channel.protection.previous_until < inf:  # the peer has updated its keys
            self.timers.set(Timer.KEYS, channel.protection.previous_until)
        if channel.address_token is not None:
            self._context.keep_address_token(self.path, channel.address_token)
            channel.address_token = None
        if channel.peer_closed is not None:
            self._on_peer_close(channel, now)
        if channel.close_acknowledged and self._farewell is not None:
            self._farewell.on_acknowledged(now, channel.pto)
            self._after_farewell(now)
        if not self.queued and self.wants_to_send:
            self.mark_ready()

    # --- the end

    def _on_peer_close(self, channel: Channel, now: float) -> None:
        code, message = channel.peer_closed or (0, "")
        channel.peer_closed = None
        answer = frames.SessionCloseAck().encode()
        if self._farewell is not None:
            self._farewell.on_peer_close(answer)
            self._after_farewell(now)
            return
        if self.state is SessionState.ESTABLISHED:
            self.state = advance(SESSION, self.state, SessionTrigger.CLOSE)
        self._say_farewell(channel, answer, initiated=False, now=now)
        reason = reason_of(code)
        self._report_closed(reason, code, message or f"the peer closed the session ({code_name(code)})")
        self._after_farewell(now)

    def _fail(self, code: ErrorCode, message: str, now: float) -> None:
        """The peer broke the protocol: tell it once, tell the application, linger quietly."""
        channel = self._channel
        if channel is None or self._farewell is not None:
            return
        if self.state is SessionState.HANDSHAKING:
            # Genuine packets under new keys, but broken: never reported, so nobody waits for its end.
            self._forget(SessionTrigger.LOST)
            return
        if self.state is SessionState.ESTABLISHED:
            self.state = advance(SESSION, self.state, SessionTrigger.CLOSE)
        self._say_farewell(channel, frames.SessionClose(code, message).encode(), initiated=True, now=now)
        self._report_closed(CloseReason.ERROR, code, f"the peer broke the protocol: {message} ({code.name})")
        self.mark_ready()

    def _die(self, reason: CloseReason, message: str) -> None:
        """The peer is gone: nobody to say farewell to."""
        self._report_closed(reason, ErrorCode.NO_ERROR, message)
        self._forget(SessionTrigger.LOST)

    def _say_farewell(self, channel: Channel, frame: bytes, *, initiated: bool, now: float) -> None:
        self._farewell = Farewell(frame, initiated=initiated, now=now, pto=channel.pto)
        channel.quiet = True
        channel.outbound.release()
        self.timers.clear()
        self.timers.set(Timer.CLOSE, self._farewell.next_timer())

    def _report_closed(self, reason: CloseReason, code: int, message: str) -> None:
        if self._error is None:
            self._error = SessionClosedError(message, reason=reason, code=code)
            self._context.events.append(SessionClosed(self.key, self.session_id, reason, code, message))

    def _after_farewell(self, now: float) -> None:
        if (farewell := self._farewell) is None:
            return
        if farewell.done and self.state is SessionState.CLOSING:
            code, message, _ = self._close_request or (ErrorCode.NO_ERROR, "", 0.0)
            self.state = advance(SESSION, self.state, SessionTrigger.DONE)
            self._report_closed(CloseReason.GRACEFUL, code, message or "closed by this side")
        self.timers.set(Timer.CLOSE, farewell.next_timer())

    def _forget(self, trigger: SessionTrigger) -> None:
        """Straight to CLOSED, with nothing left to say."""
        self.state = advance(SESSION, self.state, trigger)
        self.timers.clear()
        self._initiator = self._begin = None
        if self._channel is not None:
            self._channel.quiet = True
            self._channel.outbound.release()
        self.finished = True
        self.mark_ready()

    def close(self, code: int = ErrorCode.NO_ERROR, reason: str = "", *, linger: float = 0.0) -> None:
        """End the session: SESSION_CLOSE, acknowledged by the peer, or given up after three PTOs.

        Up to ``linger`` seconds are spent first on getting everything already accepted acknowledged. A second call
        with a shorter ``linger`` hurries the first. Does nothing on a session that is over.

        :raises ValueError: for a ``code`` that is not 0 to 65535.
        """
        if not 0 <= code <= 0xFFFF:
            raise ValueError(f"code is {code}, expected 0 to 65535")
        if self.state in (SessionState.INIT, SessionState.HANDSHAKING):
            self._give_up(SessionClosedError("closed before it was established", code=code))
            return
        if self.state is SessionState.ESTABLISHED:
            self.state = advance(SESSION, self.state, SessionTrigger.CLOSE)
        elif self._farewell is not None or self._close_request is None or linger >= self._close_request[2]:
            return
        self.timers.cancel(Timer.CLOSE)
        self._close_request = (code, reason, linger)
        self.mark_ready()

    def abandon(self, reason: str) -> None:
        """End it here and now: nothing can be sent any more."""
        if self.finished:
            return
        if self.state is SessionState.CLOSED:
            self.finished = True
        elif self.state is SessionState.HANDSHAKING:
            self._give_up(SessionClosedError(reason))
        else:
            self._die(CloseReason.GRACEFUL, reason)

    def _proceed_to_close(self, channel: Channel, now: float, code: int, reason: str, linger: float) -> None:
        if self._farewell is not None:
            return
        if linger > 0 and (channel.streams.has_unacknowledged or channel.datagrams.outgoing):
            if Timer.CLOSE not in self.timers:
                self.timers.set(Timer.CLOSE, now + linger)
            if now < self.timers[Timer.CLOSE]:
                return
        self._say_farewell(channel, frames.SessionClose(code, reason).encode(), initiated=True, now=now)

    # --- what leaves

    def poll_transmit(self, now: float, max_segments: int, max_bytes: int) -> Transmit | None:
        """The next batch for one path, or None."""
        if self._initiator is not None:
            data = self._initiator.poll_transmit(now)
            self._set(Timer.HANDSHAKE, self._initiator.next_timer())
            return None if data is None else Transmit(data, self._path, len(data))
        channel = self._channel
        if channel is None or self.finished or self.state is SessionState.HANDSHAKING:
            return None
        if self._close_request is not None:
            self._proceed_to_close(channel, now, *self._close_request)
        if channel.protection.spent:
            self._fail(ErrorCode.AEAD_LIMIT, "it lets no new keys come, and ours may seal no more", now)
        if self._farewell is None:
            return channel.poll(now, max_segments, max_bytes)
        if not self._farewell.wants_to_send or channel.paths.lost:
            return None
        batch = Batch(channel.datagram_size - OVERHEAD, 1)
        self._farewell.fill(batch, now)
        batch.end_packet(pad=False)
        transmit = channel.outbound.seal(batch.plains, batch.records, channel.paths.active, now)
        self.timers.set(Timer.CLOSE, self._farewell.next_timer())
        return transmit

    @property
    def wants_to_send(self) -> bool:
        """Whether :meth:`poll_transmit` may have something to say; what is going to end is always asked."""
        channel = self._channel
        return channel is None or channel.wants_to_send or self.state is not SessionState.ESTABLISHED

    # --- time

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` is due, monotonic seconds; None for never."""
        return self.timers.next()

    def handle_timer(self, now: float) -> None:
        """Act on every timer that is due."""
        if self._farewell is None and self._close_request is not None and Timer.CLOSE in self.timers:
            self.mark_ready()  # a linger that runs out is noticed by the poll, which needs its deadline
            if self.timers[Timer.CLOSE] <= now:
                self._close_request = (*self._close_request[:2], 0.0)
        for timer in self.timers.expired(now):
            self._on_timer(timer, now)
        if self.wants_to_send:
            self.mark_ready()

    def _on_timer(self, timer: Timer, now: float) -> None:
        channel = self._channel
        if timer is Timer.HANDSHAKE:
            if self._initiator is None:
                self._forget(SessionTrigger.LOST)
            else:
                self._initiator.handle_timer(now)
                self._after_handshake_step(self._initiator, now)
        elif timer is Timer.CLOSE and self._farewell is not None:
            if self._farewell.handle_timer(now):
                self.timers.clear()
                self.finished = True
            self._after_farewell(now)
        elif channel is None or channel.quiet:
            return
        elif timer is Timer.LOSS:
            channel.handle_loss_timer(now)
        elif timer is Timer.ACK:
            channel.acks.on_timer()
        elif timer is Timer.KEEP_ALIVE:
            if channel.keep_alive.next_due() <= now:
                channel.send_keep_alive(now)
            self.timers.set(Timer.KEEP_ALIVE, channel.keep_alive.next_due())
        elif timer is Timer.IDLE:
            self._on_idle_timer(channel, now)
        elif timer is Timer.KEYS:
            channel.protection.handle_timer(now)
            self.timers.set(Timer.KEYS, channel.protection.previous_until)
        elif timer is Timer.PATH:
            self._on_path_timer(channel, now)

    def _on_path_timer(self, channel: Channel, now: float) -> None:
        try:
            channel.migration.handle_timer(now)
        except Violation as violation:
            self._fail(violation.code, violation.reason, now)

    def _on_idle_timer(self, channel: Channel, now: float) -> None:
        alive = channel.keep_alive
        if alive.dead_at() > now:  # heard since the timer was set: it is moved when it fires, not at each packet
            self.timers.set(Timer.IDLE, alive.dead_at())
            return
        self._die(
            CloseReason.TIMEOUT,
            f"nothing heard from the peer for {now - alive.last_heard:.1f} s (keep_alive_timeout is {alive.timeout:g} "
            f"s, a keep-alive left every {alive.interval:g} s): it is gone, or the network between is",
        )

    def _set(self, timer: Timer, at: float | None) -> None:
        if at is None:
            self.timers.cancel(timer)
        else:
            self.timers.set(timer, at)
