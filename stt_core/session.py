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
from stt_core.channel import Channel
from stt_core.errors import (
    CloseReason,
    ConnectError,
    ConnectionTimeoutError,
    ErrorCode,
    SessionClosedError,
    STTError,
    Violation,
)
from stt_core.events import SessionDetached, SessionEstablished, SessionResumed, TicketReceived
from stt_core.frames import FrameType
from stt_core.handshake import HandshakeResult, Initiator
from stt_core.handshake.resume import heir_secret
from stt_core.keys import CidMask
from stt_core.life import Life
from stt_core.outbound import OVERHEAD
from stt_core.packing import Batch
from stt_core.resumption import TokenContent, ticket_secret
from stt_core.state import SESSION, SessionState, SessionTrigger, advance
from stt_core.streams import LastingStreams
from stt_core.timers import Timer
from stt_core.types import Path, Resumed, Role, SessionKey, Transmit


class Session(Life):
    """See the module's text. Made by :class:`~stt_core.endpoint.Endpoint` only."""

    __slots__ = ()

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
        self._awaiting = None if result.grant is None else result
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
            self._gives_up_at = initiator.expires
            grant = result.grant
            if grant is None or self._context.succession.on_resumed(self.key, result, now) is None:
                self.timers.clear()
                self._untold = grant is not None and grant.extent is Resumed.IDENTITY
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

    def _open_channel(self, result: HandshakeResult, now: float, earlier: LastingStreams | None = None) -> Channel:
        context = self._context
        peer = result.peer  # all keys are derived here: nothing else may know the master secret later
        self._peer = peer if earlier is None else peer._replace(session_id=self.session_id)
        self._streams = earlier
        if self._streams is None:
            self._streams = LastingStreams(
                role=result.role, config=context.config, session_key=self.key, events=context.events
            )
        self._channel = Channel(
            result,
            key=self.key,
            config=context.config,
            crypto=context.crypto,
            entropy=context.entropy,
            path=self._path,
            budget=context.surroundings.budget_for(self.key, self._path, result.peer_parameters.receive_buffer_hint),
            events=context.events,
            timers=self.timers,
            observer=context.observer,
            surroundings=context.surroundings,
            streams=self._streams,
            resumed=earlier is not None,
            now=now,
        )
        self.dht_only |= self.role is Role.RESPONDER and result.peer_parameters.dht_only
        self.resumption_secret = self._channel.resumption_secret
        if (grant := result.grant) is not None:
            self.resumed, self._epoch = grant.extent, grant.epoch
            if grant.rpsk is not None and self.role is Role.INITIATOR:
                self._keep_ticket(grant.rpsk, grant.ticket, 0, now, heir_secret(self.resumption_secret, grant.ticket))
        self.masks[self.local_cid] = self._channel.receive_mask(self.local_cid)
        return self._channel

    def _established(self, now: float, trigger: SessionTrigger = SessionTrigger.CONFIRMED) -> None:
        channel = self._require_channel()
        alive = channel.keep_alive
        self.state = advance(SESSION, self.state, trigger)
        self.timers.cancel(Timer.HANDSHAKE)
        self.timers.set(Timer.IDLE, alive.dead_at())
        self.timers.set(Timer.KEEP_ALIVE, alive.next_due())
        if not self._untold and trigger is SessionTrigger.CONFIRMED:
            self._tell_established()
        channel.migration.begin(now)
        self._context.on_established(self.key, now)
        if self.role is Role.RESPONDER:
            self._owes_welcome = True
            self.mark_ready()

    def _tell_established(self) -> None:
        self._untold = False
        told = SessionEstablished(
            self.key,
            session_id=self.session_id,
            peer_node_id=self.peer_node_id,
            peer_identity_key=self.peer_identity_key,
            path=self._path,
            initiated=self.role is Role.INITIATOR,
            resumed=self.resumed,
            dht_only=self.dht_only,
        )
        self._context.events.append(told)

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
            accept = self._accept_first if self.state is SessionState.HANDSHAKING else channel.accept
            news = bool(plains) and accept(numbers, plains, path, now, ecn, cid.cid)
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
                number, plain = opened
                accept = self._accept_first if self.state is SessionState.HANDSHAKING else channel.accept
                news = accept((number,), [plain], path, now, ecn, cid.cid)
        except Violation as violation:
            self._fail(violation.code, violation.reason, now)
            return True
        self._after_input(channel, news, now)
        return news

    def receive_opened(
        self, numbers: Sequence[int], plains: list[bytes], path: Path, now: float, ecn: int, cid: bytes
    ) -> None:
        """What an attempt to resume this session has opened."""
        channel = self._require_channel()
        try:
            news = channel.accept(numbers, plains, path, now, ecn, cid)
        except Violation as violation:
            self._fail(violation.code, violation.reason, now)
        else:
            self._after_input(channel, news, now)

    def _accept_first(
        self, numbers: Sequence[int], plains: list[bytes], path: Path, now: float, ecn: int, cid: bytes
    ) -> bool:
        """The first packet under new keys: nobody but the initiator we answered could make it."""
        result, self._awaiting = self._awaiting, None
        heir = None if result is None else self._context.succession.on_resumed(self.key, result, now)
        if heir is not None:
            heir(numbers, plains, path, now, ecn, cid)
            return False
        if self._farewell is None:
            self._established(now)  # before anything in these packets becomes an event
        return self._require_channel().accept(numbers, plains, path, now, ecn, cid)

    def receive_too_big(self, size: int, now: float) -> None:
        """The system refused to send ``size`` bytes at once to the peer."""
        if self._channel is not None and not self._channel.quiet:
            self._channel.on_too_big(size, now)
            if self.wants_to_send:
                self.mark_ready()

    def receive_reset(self, now: float) -> None:
        """The peer's endpoint told, with a token only it could know, that it has lost this session."""
        if self.state is SessionState.ESTABLISHED or self.state is SessionState.CLOSING:
            self._lose("the peer no longer knows this session (it was restarted, or gave it up)", now)

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
        if channel.ticket is not None:
            self._take_ticket(channel, channel.ticket, now)
        if channel.peer_closed is not None:
            self._on_peer_close(channel, now)
        elif self._untold:
            self._tell_established()
        elif self._attempt is not None and not channel.streams.resuming:
            self._confirm_resumption()
        if channel.close_acknowledged and self._farewell is not None:
            self._farewell.on_acknowledged(now, channel.pto, reliable=channel.paths.active.reliable)
            self._after_farewell(now)
        if not self.queued and self.wants_to_send:
            self.mark_ready()

    # --- going on under other keys, decided by the endpoint (see stt_core.resuming)

    def send_ticket(self, ticket: frames.Ticket, next_at: float) -> None:
        """Let the peer resume this session later; another ticket is due at ``next_at``."""
        self._require_channel().control.send(ticket.encode(), FrameType.TICKET)
        self.timers.set(Timer.TICKET, next_at)
        self.mark_ready()

    def _take_ticket(self, channel: Channel, ticket: frames.Ticket, now: float) -> None:
        channel.ticket = None
        rpsk = ticket_secret(self.resumption_secret, ticket.ticket_id)
        self._keep_ticket(rpsk, ticket.ticket, ticket.lifetime, now)
        self._context.events.append(TicketReceived(self.key))

    def _keep_ticket(self, rpsk: bytes, ticket: bytes, lifetime: int, now: float, heir: bytes = b"") -> None:
        self.ticket = TokenContent(
            rpsk,
            heir,
            self.session_id,
            self._epoch,
            now + self._context.wall_offset,
            lifetime,
            self.peer_identity_key if self.peer_identity_kept else None,
            self.peer_node_id,
            ticket,
        )

    def detach(self, message: str, until: float) -> None:
        """The peer is gone and may come back until then: go on without keys, keep the streams."""
        self._drop_channel()
        self._require_streams().suspend()
        self.state = advance(SESSION, self.state, SessionTrigger.DETACH)
        self.timers.set(Timer.DETACHED, until)
        self._context.events.append(SessionDetached(self.key, self.session_id, message))
        self._end_resumption(ConnectError(f"the session was resumed, and lost again: {message}"))

    def adopt(self, result: HandshakeResult, path: Path, attempt: SessionKey, now: float) -> None:
        """Go on with the keys of ``result``, which another session's handshake made."""
        self._end_resumption(ConnectError("another resume of the same session came first"))
        self._drop_channel()
        streams = self._require_streams()
        streams.suspend()
        self._path = path
        self.local_cid = result.local_cid
        channel = self._open_channel(result, now, streams)
        self._attempt = attempt
        self._established(now, SessionTrigger.RESUME)
        if self.role is Role.INITIATOR:
            channel.send_keep_alive(now)
        self.mark_ready()

    def _drop_channel(self) -> None:
        if self._channel is not None:
            self._channel.quiet = True
            self._channel.outbound.release()
            self._channel = None
        self.masks = {}
        self._close_request = None
        self.timers.clear()

    def _confirm_resumption(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            asked = attempt if self.role is Role.INITIATOR else None
            self._context.events.append(SessionResumed(self.key, self.session_id, self.path, asked))
            self._context.succession.on_confirmed(self.key, attempt)

    def await_confirmation(self) -> None:
        """Another session goes on with the keys that this handshake made; the peer has yet to say a word."""
        self.timers.set(Timer.HANDSHAKE, self._gives_up_at)

    def end_attempt(self, error: STTError | None) -> None:
        """This handshake made keys for another session, or was meant to."""
        if error is not None:
            self._give_up(error)
        elif not self.finished:
            self._forget(SessionTrigger.LOST)

    def refuse_resumption(self, now: float) -> None:
        """The first packet has come, but the ticket was spent meanwhile: say so and be gone, without a report."""
        channel = self._require_channel()
        self._error = SessionClosedError("its ticket was spent", code=ErrorCode.TICKET_SPENT)
        self.state = advance(SESSION, advance(SESSION, self.state, SessionTrigger.CONFIRMED), SessionTrigger.CLOSE)
        self._say_farewell(channel, frames.SessionClose(ErrorCode.TICKET_SPENT, "").encode(), initiated=True, now=now)
        self.mark_ready()

    def restart(self, begin: Callable[[float], Initiator], local_cid: bytes, now: float) -> None:
        """The peer went on with another: begin afresh, with nothing of an earlier session."""
        self._drop_channel()
        self._untold = False
        self.resumed = Resumed.NO
        self._streams = self.ticket = None
        self._context.session_ids.discard(self.session_id)
        self.local_cid = local_cid
        if self.state is SessionState.ESTABLISHED:
            self.state = advance(SESSION, self.state, SessionTrigger.RESTART)
        self._begin = None
        self._initiator = begin(now)
        self._after_handshake_step(self._initiator, now)

    def last_words(self, code: ErrorCode, now: float) -> bytes | None:
        """A sealed SESSION_CLOSE under the keys that are about to go; None where they may seal no more."""
        channel = self._require_channel()
        if channel.protection.spent:
            return None
        channel.quiet = True
        batch = Batch(channel.datagram_size - OVERHEAD, 1)
        batch.add(frames.SessionClose(code, "").encode())
        batch.end_packet(pad=False)
        return channel.outbound.seal(batch.plains, batch.records, channel.paths.active, now).data

    def supersede(self, code: ErrorCode, message: str, now: float, *, quietly: bool = False) -> None:
        """Another session takes the place of this one; ``quietly``: the peer knows."""
        channel = self._channel
        if self.state is SessionState.DETACHED or (quietly and self.state is SessionState.ESTABLISHED):
            self._report_closed(CloseReason.SUPERSEDED, code, message)
            self._forget(SessionTrigger.LOST)
        elif self.state is SessionState.ESTABLISHED and channel is not None and self._farewell is None:
            self.state = advance(SESSION, self.state, SessionTrigger.CLOSE)
            words = frames.SessionClose(ErrorCode.SUPERSEDED, message).encode()
            self._say_farewell(channel, words, initiated=True, now=now)
            self._report_closed(CloseReason.SUPERSEDED, code, message)
            self.mark_ready()

    def evict(self) -> None:
        """Others that were detached later need its memory."""
        self._die(CloseReason.TIMEOUT, "nobody resumed it, and others needed its memory")

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
            if self._owes_welcome:  # not before: a session that is over at once needs nothing for another time
                self._owes_welcome = False
                self._context.welcome(self.key, now)
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
        if self._initiator is not None:
            return self._initiator.wants_to_send
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
            self._on_handshake_timer(now)
        elif timer is Timer.DETACHED:
            self._die(CloseReason.TIMEOUT, "nobody resumed it in time")
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
        elif timer is Timer.TICKET:
            self._context.succession.on_ticket_due(self.key, now)
        elif timer is Timer.PATH:
            self._on_path_timer(channel, now)

    def _on_path_timer(self, channel: Channel, now: float) -> None:
        try:
            channel.migration.handle_timer(now)
        except Violation as violation:
            self._fail(violation.code, violation.reason, now)

    def _on_handshake_timer(self, now: float) -> None:
        if self._initiator is not None:
            self._initiator.handle_timer(now)
            self._after_handshake_step(self._initiator, now)
        elif self.role is Role.INITIATOR:
            self._give_up(ConnectionTimeoutError("the peer granted to resume, and fell silent", challenged=True))
        else:
            self._forget(SessionTrigger.LOST)

    def _on_idle_timer(self, channel: Channel, now: float) -> None:
        alive = channel.keep_alive
        if alive.dead_at() > now:  # heard since the timer was set: it is moved when it fires, not at each packet
            self.timers.set(Timer.IDLE, alive.dead_at())
            return
        self._lose(
            f"nothing heard from the peer for {now - alive.last_heard:.1f} s (keep_alive_timeout is {alive.timeout:g} "
            f"s, a keep-alive left every {alive.interval:g} s): it is gone, or the network between is",
            now,
        )

    def _set(self, timer: Timer, at: float | None) -> None:
        if at is None:
            self.timers.cancel(timer)
        else:
            self.timers.set(timer, at)
