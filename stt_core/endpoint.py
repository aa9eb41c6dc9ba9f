"""Many sessions behind one socket: routing, accepting, retrying, resetting.

Rule: an endpoint owns its sessions. Whoever embeds it feeds datagrams and the time, sends what it is given, and never
ferries anything between sessions. No call scans all sessions: those with something to say stand in a queue, those
that wait stand in an agenda.

The order of a turn: ``receive_datagrams`` (as many as there are, bounded) and ``handle_timer``, then ``next_event``
until None, then ``poll_transmit`` until None, then wait until ``next_timer()`` or for the socket. Nothing here raises
on what the network sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import fields
from itertools import groupby

from stt_core.config import MAX_DATAGRAM, EndpointConfig, check_bytes, check_seconds
from stt_core.context import Context
from stt_core.crypto import Crypto
from stt_core.errors import ErrorCode, StateError
from stt_core.events import AnyEvent, PeerRejected
from stt_core.guest import Guest
from stt_core.handshake import PENDING_LIFETIME, Accepted, Identity, Initiator, Refused, Responder
from stt_core.handshake.limits import TargetBudget
from stt_core.handshake.resume import Wish
from stt_core.links import NOBODY, LinkState
from stt_core.migration import Surroundings
from stt_core.outbound import OVERHEAD
from stt_core.packet import LARGE, HandshakeType
from stt_core.parameters import TransportParameters
from stt_core.register import Register
from stt_core.resuming import Resuming
from stt_core.resumption import MemoryTicketStore, TicketStore
from stt_core.segments import columns
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.statistics import EndpointStatistics
from stt_core.types import Entropy, Observer, Path, RateLimits, Role, SessionKey, Transmit

MAX_REPLIES = 1024
"""Stateless answers that wait for the socket; above it they are dropped, as a full socket would."""

TIMERS_AT_ONCE = 128
"""Sessions whose timers :meth:`Endpoint.handle_timer` acts on before it lets others have a turn. Of thousands that wait
for an answer, the answers may lie unread: to probe for all of them first would be to be later still."""

_FOR_RESPONDER = (HandshakeType.HELLO, HandshakeType.AUTH_PROOF)


class Endpoint:
    """Sessions over one socket (or several: a path names its transport).

    ``entropy`` gives random bytes, ``crypto`` the primitives (``stt_backends.pyca.PycaCrypto``). ``wall_offset`` is
    wall-clock time minus the monotonic time all calls are given. The same entropy, inputs and times give the same
    datagrams out. ``tickets`` is where the keys of tickets come from, and what other processes of the same service
    share; by default this process has its own.
    """

    def __init__(
        self,
        config: EndpointConfig,
        *,
        crypto: Crypto,
        entropy: Entropy,
        wall_offset: float = 0.0,
        observer: Observer | None = None,
        tickets: TicketStore | None = None,
    ) -> None:
        self.config = config
        self.wall_offset = wall_offset
        self._entropy = entropy
        self._declared = TransportParameters.of(config)
        self._identity = Identity(config.node_seed, crypto, entropy, kept=config.keep_identity)
        self._resuming = Resuming(self._identity, tickets or MemoryTicketStore(entropy), self._reply)
        self._register = Register(config, entropy, self._resuming.on_over)
        self._sessions, self._routes, self._links = self._register.sessions, self._register.routes, self._register.links
        self._context = Context(
            config=config,
            crypto=crypto,
            entropy=entropy,
            observer=observer,
            on_established=self._on_established,
            welcome=self._welcome,
            surroundings=Surroundings(self._links.blocked, self._register.budget_for, self._routes),
            links=self._links,
            succession=self._resuming,
            wall_offset=wall_offset,
        )
        self._register.attach(self._context)
        self._resuming.attach(self._context, self._register)
        self._latest = 0.0
        """When the responder was last given something: its new connection ids are of that time."""
        self._responder: Responder | None = None
        self._targets = TargetBudget(config.rate_limits or RateLimits())
        self._replies: deque[Transmit] = deque()
        self._counters = EndpointStatistics()
        self._guest: Guest | None = None

    # --- getters

    @property
    def idle(self) -> bool:
        """Whether no session is alive and nothing waits to be sent (a closed session's last seconds don't count)."""
        return not (self._register.live or self._replies or self._context.ready or self._links.held)

    @property
    def wants_to_send(self) -> bool:
        """Whether :meth:`poll_transmit` is worth calling."""
        return bool(self._context.ready or self._replies)

    @property
    def has_events(self) -> bool:
        """Whether :meth:`next_event` would give one."""
        return bool(self._context.events)

    @property
    def has_work(self) -> bool:
        """Whether a command left anything to be sent or told."""
        return bool(self._context.ready or self._context.events or self._replies)

    def session(self, key: SessionKey) -> Session:
        """The session of that key.

        :raises LookupError: where it is over and forgotten. Hold on to the object to read what it still has.
        """
        try:
            return self._sessions[key]
        except KeyError:
            raise LookupError(f"no session {key}: it is over, or never was") from None

    def sessions(self) -> list[Session]:
        """All sessions that are established, in the order they were made."""
        return [self._sessions[key] for key in sorted(self._register.live) if self._sessions[key].state in _ESTABLISHED]

    def statistics(self) -> dict[str, int]:
        """Counters of this endpoint and its handshake by name."""
        counters = {item.name: getattr(self._counters, item.name) for item in fields(self._counters)}
        if self._responder is not None:
            counters.update({f"handshake_{name}": value for name, value in self._responder.statistics().items()})
        counters.update(self._resuming.statistics())
        counters["sessions"] = len(self._register.live)
        return counters

    # --- commands

    def connect(
        self,
        address: Hashable,
        *,
        now: float,
        peer_node_id: bytes | None = None,
        peer_key: bytes | None = None,
        timeout: float | None = None,
        transport: str = "udp",
        dht_only: bool = False,
    ) -> SessionKey:
        """Begin a session; ``SessionEstablished`` or ``HandshakeFailed`` tells how it went.

        Over ``transport`` ``"websocket"``, ``address`` is the name of a connection that is open, and serves no other
        session (see :class:`~stt_core.types.Path`).

        ``peer_node_id`` names who must answer: another name there is as a wrong seed. ``peer_key`` is the peer's
        32-byte identity key, where it must prove one. ``timeout`` in seconds, by default ``handshake_timeout``. With
        ``dht_only`` the peer is told that this session is no affair of its application's.

        :raises ConfigurationError: on an argument of the wrong type or size.
        :raises StateError: at ``max_sessions``, or where the connection serves a session already.
        """
        return self._dial(Path(transport, address), now, peer_node_id, peer_key, timeout, None, dht_only=dht_only)

    def resume(
        self,
        token: bytes | None,
        address: Hashable,
        *,
        now: float,
        peer_node_id: bytes | None = None,
        peer_key: bytes | None = None,
        timeout: float | None = None,
        transport: str = "udp",
        takeover: bool = False,
    ) -> SessionKey:
        """Go on with an earlier session, whose :attr:`~Session.resumption_token` this is, wherever its peer is now.

        Where its streams are here and at the peer, ``SessionResumed`` names the session that goes on, and as
        ``attempt`` the key returned here. Otherwise this key becomes a session, as from :meth:`connect`; its
        ``resumed`` says whether the peer was shown to be the earlier one. A refused or spent token is no error.

        Without a token it is the newest detached session with our identity (``node_seed``) at the peer, with
        ``takeover`` also one in use elsewhere, which is superseded.

        :raises ConfigurationError: if the token is none, or damaged; otherwise as :meth:`connect`.
        """
        wish, pinned = self._resuming.wish_for(token, takeover=takeover)
        return self._dial(Path(transport, address), now, peer_node_id, peer_key or pinned, timeout, wish)

    def _dial(
        self,
        path: Path,
        now: float,
        peer_node_id: bytes | None,
        peer_key: bytes | None,
        timeout: float | None,
        wish: Wish | None,
        *,
        dht_only: bool = False,
    ) -> SessionKey:
        if peer_node_id is not None:
            check_bytes("peer_node_id", peer_node_id, 1, 255)
        if peer_key is not None:
            check_bytes("peer_key", peer_key, 32, 32)
        if timeout is not None:
            check_seconds("timeout", timeout)
        if not self._register.has_room:
            raise StateError(f"max_sessions is {self.config.max_sessions} and all are in use: close one, or raise it")
        if path.reliable and path in self._links.owners:
            raise StateError(f"the connection {path.address!r} serves a session already: open another")
        cid = self._routes.new_cid(now)
        expires = now + (self.config.handshake_timeout if timeout is None else timeout)

        def begin(at: float, cid: bytes, wish: Wish | None = None) -> Initiator:
            return Initiator(
                config=self.config,
                crypto=self._context.crypto,
                entropy=self._entropy,
                local_cid=cid,
                parameters=self._parameters(cid, dht_only=dht_only),
                now=at,
                peer_node_id=peer_node_id,
                peer_key=peer_key,
                address_token=self._context.address_token(path),
                timeout=expires - at,
                identity=self._identity,
                allow_proof=lambda at: path in self._register.budgets or self._targets.allow(path, at),
                padded=not path.reliable,
                wish=wish,
            )

        session = self._register.add(Role.INITIATOR, path, cid)
        session.dht_only = dht_only
        if wish is not None:
            self._resuming.expect(session.key, wish, begin)
        session.start(lambda at: begin(at, cid, wish), now)
        self._register.touch(session)
        return session.key

    def close(self, code: int = ErrorCode.NO_ERROR, reason: str = "", *, linger: float = 0.0) -> None:
        """Close all sessions, as :meth:`Session.close` does each."""
        for key in sorted([*self._register.live, *self._resuming.detached]):
            session = self._sessions[key]
            session.close(code, reason, linger=linger)
            self._register.touch(session)

    def attach(self, guest: Guest | None) -> None:
        """Let ``guest`` share the socket: it gets what is no packet of a session, and answers by :meth:`send_raw`.

        None lets it go.

        :raises StateError: where there is one already.
        """
        if guest is not None and self._guest is not None:
            raise StateError("something shares this endpoint's socket already")
        self._guest = guest

    def send_raw(self, data: bytes, path: Path) -> bool:
        """Send a datagram of the guest's; False where too many wait for the socket, and it is lost."""
        if data[0] >= 0x40:
            raise ValueError("the first byte says that it is a packet of a session's")
        if has_room := len(self._replies) < MAX_REPLIES:
            self._reply(data, path)
        return has_room

    def abandon(self, reason: str) -> None:
        """The socket is gone: end every session here and now, with nothing sent."""
        for key in sorted(self._sessions):
            session = self._sessions[key]
            session.abandon(reason)
            self._register.touch(session)

    # --- what happened

    def receive_datagram(self, data: bytes | bytearray | memoryview, path: Path, now: float, ecn: int = 0) -> None:
        """One datagram arrived on ``path``; ``ecn`` is its ECN codepoint, 0 to 3, where the socket tells."""
        self._counters.received += 1
        if not data:
            self._counters.malformed += 1
        elif data[0] & 0xC0 == 0x40:
            # A large one is read where it lies; to copy a small one is cheaper than to view it.
            self._receive_protected(memoryview(data) if len(data) > LARGE else bytes(data), path, now, ecn)
        elif data[0] & 0xC0 == 0xC0:
            self._receive_handshake(bytes(data), path, now)
        elif self._guest is not None and data[0] < 0x40 and not path.reliable:
            self._guest.receive_datagram(bytes(data), path, now)
        else:
            self._counters.malformed += 1

    def receive_datagrams(
        self, buffer: bytes | bytearray | memoryview, segment_size: int, path: Path, now: float, ecn: int = 0
    ) -> None:
        """A batch arrived: datagrams of ``segment_size`` bytes back to back, the last may be shorter.

        All of them bear the ECN codepoint ``ecn``, 0 to 3, where the socket tells. ``buffer`` may be reused as soon as
        this returns.
        """
        size = len(buffer)
        if size <= segment_size:
            self.receive_datagram(buffer, path, now, ecn)
            return
        whole = size // segment_size if segment_size > OVERHEAD else 0
        done = 0
        if whole > 1 and buffer[0] & 0xC0 == 0x40:
            done = whole * segment_size
            self._counters.received += whole
            self._receive_columns(memoryview(buffer)[:done], segment_size, path, now, ecn)
        for start in range(done, size, max(segment_size, 1)):
            self.receive_datagram(buffer[start : start + segment_size], path, now, ecn)

    def _receive_columns(self, buffer: memoryview, segment: int, path: Path, now: float, ecn: int) -> None:
        names, wires, aads, ciphertexts = columns(buffer, segment)
        start = 0
        if names.count(names[0]) == len(names):
            self._receive_run(names[0], wires, aads, ciphertexts, path, now, ecn)
            return
        for name, group in groupby(names):
            stop = start + sum(1 for _ in group)
            self._receive_run(name, wires[start:stop], aads[start:stop], ciphertexts[start:stop], path, now, ecn)
            start = stop

    def _receive_run(
        self,
        name: bytes,
        wires: tuple[int, ...],
        aads: Sequence[bytes],
        ciphertexts: Sequence[bytes | memoryview],
        path: Path,
        now: float,
        ecn: int,
    ) -> None:
        session = self._routes.sessions.get(name[1:]) if name[0] & 0xC0 == 0x40 else None
        mask = None if session is None else session.masks.get(name[1:])
        if session is None or mask is None or path.transport == "websocket":
            self._counters.received -= len(aads)  # one by one, as if they had not come in a batch
            for aad, ciphertext in zip(aads, ciphertexts, strict=True):
                self.receive_datagram(aad + ciphertext, path, now, ecn)
            return
        session.receive_run(wires, aads, ciphertexts, mask, path, now, ecn)
        if not session.queued:  # else it is touched once it was polled, with the timers it has then
            self._register.touch(session)

    def _receive_protected(self, data: bytes | memoryview, path: Path, now: float, ecn: int) -> None:
        cid = bytes(data[1:9])
        session = self._routes.sessions.get(cid)
        if session is None:
            self._receive_unknown(bytes(data), path, now)
            return
        mask = session.masks.get(cid) or session.mask_for(cid)
        if mask is None:
            return  # still connecting: nothing can be meant for it, and a reset would give its token away
        if path.transport != "websocket":
            session.receive_one(data, mask, path, now, ecn)
        elif self._links.owners.get(path, session.key) != session.key:
            self._counters.malformed += 1
            return
        elif session.receive_one(data, mask, path, now, ecn) and path not in self._links.trusted:
            self._links.claim(path, session.key)
            if session.path == path:  # until it has proved itself, it may be a copy that opened
                self._links.trusted.add(path)
        if not session.queued:
            self._register.touch(session)

    def _receive_unknown(self, data: bytes, path: Path, now: float) -> None:
        """A packet of no session here: perhaps the peer's reset, else perhaps worth one of ours."""
        self._counters.unknown_cid += 1
        if (last_words := self._resuming.epitaph(data[1:9])) is not None:
            self._reply(last_words, path)
            return
        session = self._routes.reset_by(data)
        if session is not None:
            self._counters.resets_received += 1
            session.receive_reset(now)
            self._register.touch(session)
        elif (reset := self._routes.reset_for(data, now)) is not None:
            self._counters.resets_sent += 1
            self._reply(reset, path)

    def _receive_handshake(self, data: bytes, path: Path, now: float) -> None:
        if data[0] & 0x3F in _FOR_RESPONDER:
            if self.config.accept:
                self._answer(data, path, now)
            return
        session = self._routes.sessions.get(data[5:13])
        if session is None or (path.reliable and self._links.owners.get(path) != session.key):
            self._counters.malformed += 1
            return
        session.receive_handshake(data, now)
        self._register.touch(session)

    def _answer(self, data: bytes, path: Path, now: float) -> None:
        self._latest = now
        if path.reliable and path in self._links.owners:
            self._counters.malformed += 1  # one session to a connection
            return
        responder = self._responder_at(now)
        outcome = responder.receive_packet(data, path, now)
        if outcome is not None and path.reliable:
            self._links.note(path)
        if isinstance(outcome, bytes):
            self._reply(outcome, path)
        elif isinstance(outcome, Refused):
            self._counters.sessions_refused += 1
            self._context.events.append(PeerRejected(outcome.error, path))
            if outcome.reply is not None:
                self._reply(outcome.reply, path)
        elif isinstance(outcome, Accepted):
            self._accept(outcome, responder, path, now)

    def _accept(self, accepted: Accepted, responder: Responder, path: Path, now: float) -> None:
        result = accepted.result
        if not self._context.claim(result.session_id):
            # No answer: the initiator takes the FINAL for lost, and its second attempt brings another id.
            self._counters.sessions_refused += 1
            responder.forget(result.local_cid, now)
            return
        session = self._register.add(Role.RESPONDER, path, result.local_cid)
        session.start_accepted(result, PENDING_LIFETIME, now)
        self._reply(accepted.final, path)
        self._register.touch(session)

    def receive_unreachable(self, path: Path, now: float) -> None:
        """The network reported that nothing listens at ``path`` (ICMP port unreachable)."""
        for key in sorted(self._register.connecting.get(path, ())):
            session = self._sessions[key]
            session.receive_unreachable(now)
            self._register.touch(session)

    def receive_path_blocked(self, path: Path) -> None:
        """The writer of a reliable path has all it may hold: its session sends nothing there for now. A UDP path stands
        for the socket, which is full: nothing leaves by it but a probe now and then, as good as lost."""
        self._links.block(path)
        self._tell_link(path)

    def receive_path_writable(self, path: Path) -> None:
        """It can take more again."""
        self._context.ready.extend(self._links.unblock(path))
        self._tell_link(path)

    def _tell_link(self, path: Path) -> None:
        if (session := self._sessions.get(self._links.owners.get(path, NOBODY))) is not None:
            session.receive_path_writable(path, path not in self._links.blocked)

    def receive_path_closed(self, path: Path, now: float) -> None:
        """A reliable path is gone: the connection broke, or either side closed it. Must be told of each, once.

        Who was connecting there fails; a session that used it waits for another path (``PathFailed``).
        """
        session = self._sessions.get(self._links.close(path))
        if session is not None:
            session.receive_path_closed(path, now)
            self._register.touch(session)

    def link_state(self, path: Path) -> LinkState:
        """What is known of who is at the other end of a reliable path: for limits to those that never speak."""
        return self._links.state(path)

    def receive_too_big(self, path: Path, size: int, now: float) -> None:
        """The system refused to send a datagram of ``size`` bytes there (EMSGSIZE): no news of congestion."""
        budget = self._register.budgets.get(path)
        for key in () if budget is None else sorted(budget.sessions):
            session = self._sessions[key]
            session.receive_too_big(size, now)
            self._register.touch(session)

    def handle_timer(self, now: float) -> None:
        """Act on what is due at ``now``, of :data:`TIMERS_AT_ONCE` sessions at most; harmless when nothing is.

        Where that many were due, :meth:`next_timer` may be past already: read what has arrived, then call again.
        """
        if self._responder is not None:
            self._responder.handle_timer(now)
        if self._guest is not None:
            self._guest.handle_timer(now)
        for _ in range(TIMERS_AT_ONCE):
            session = self._register.agenda.take(now)
            if session is None:
                break
            session.handle_timer(now)
            self._register.touch(session)

    # --- what to do

    def next_event(self) -> AnyEvent | None:
        """The oldest event not yet taken, or None."""
        events = self._context.events
        if events:
            return events.popleft()
        self._register.bury()
        return None

    def poll_transmit(self, now: float, max_segments: int = 64, max_bytes: int = MAX_DATAGRAM) -> Transmit | None:
        """The next datagrams to send, at most ``max_segments`` of them and ``max_bytes`` in all (one may always be
        there); None once there are none.

        Sessions take turns, a batch each. A system call takes no more than the defaults; more are for who sends by
        several, since a batch costs less for each of its datagrams the more there are.
        """
        if self._replies and (reply := self._links.take(self._replies)) is not None:
            self._counters.sent += 1
            return reply
        ready, held = self._context.ready, self._links.held
        while ready:
            session = self._sessions.get(ready[0])
            if session is None:  # forgotten since it asked
                ready.popleft()
                continue
            if held is not None and not session.path.reliable:
                held.append(ready.popleft())
                continue
            transmit = session.poll_transmit(now, max_segments, max_bytes)
            if transmit is None or not session.wants_to_send:
                ready.popleft()
                session.queued = False
                self._register.touch(session)
            elif len(ready) > 1:
                ready.rotate(-1)
            if transmit is not None:
                self._counters.sent += -(-len(transmit.data) // transmit.segment_size)
                return transmit
        return None

    @property
    def quiet_until(self) -> float:
        """No timer is due before this, monotonic seconds, infinite where there is none. :meth:`next_timer` may be
        later: most timers are set for an answer that comes, and this doesn't look which ones still stand."""
        earliest = self._register.agenda.earliest
        for other in (self._responder, self._guest):
            due = None if other is None else other.next_timer()
            if due is not None and due < earliest:
                earliest = due
        return earliest

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`, monotonic seconds; None for never. Poll for datagrams first."""
        responder = None if self._responder is None else self._responder.next_timer()
        at = self._register.agenda.next()
        if self._guest is not None and (due := self._guest.next_timer()) is not None and (at is None or due < at):
            at = due
        return responder if at is None or (responder is not None and responder < at) else at

    # --- book-keeping

    def _on_established(self, key: SessionKey, now: float) -> None:
        """A session of ours has keys both sides hold."""
        session = self._sessions[key]
        self._counters.sessions_opened += 1
        if session.role is Role.INITIATOR:
            self._register.no_longer_connecting(session)
            self._targets.clear(session.first_path)
        else:
            self._responder_at(now).forget(session.local_cid, now)
        self._resuming.on_established(session, now)

    def _welcome(self, key: SessionKey, now: float) -> None:
        """A proof of its address for the peer's next HELLO, and a ticket to resume with."""
        session = self._sessions[key]
        session.send_address_token(self._responder_at(now).address_token(session.first_path, now))
        self._resuming.on_ticket_due(key, now)

    def _responder_at(self, now: float) -> Responder:
        """The responder, made when first needed: its keys have an age, and this is the first call with a time."""
        if self._responder is None:
            self._responder = Responder(
                config=self.config,
                crypto=self._context.crypto,
                entropy=self._entropy,
                now=now,
                new_cid=lambda: self._routes.new_cid(self._latest),
                parameters_for=self._parameters,
                admit=lambda: self._register.has_room,
                owns_nonce=self._register.owns_nonce,
                identity=self._identity,
                judge=self._resuming.judge,
            )
        return self._responder

    def _parameters(self, cid: bytes, *, dht_only: bool = False) -> TransportParameters:
        return self._declared._replace(reset_token=self._routes.reset_token(cid), dht_only=dht_only)

    def _reply(self, data: bytes, path: Path) -> None:
        if len(self._replies) < MAX_REPLIES:
            self._replies.append(Transmit(data, path, len(data)))


_ESTABLISHED = (SessionState.ESTABLISHED, SessionState.CLOSING)
