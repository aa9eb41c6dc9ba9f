"""Which session goes on in which: tickets given and taken, sessions detached, resumed and superseded.

Rule: nothing is spent, and no session touched, before the first packet opened under the new keys, for an AUTH_PROOF may
be a replay. The newest wins: whoever held the session before is told that it was superseded. Where the store can't
answer, no streams go on: who has a proven identity is known by it, for all others the session begins afresh
(docs/resumption.md).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

from stt_core import frames
from stt_core.context import Context, Receiver
from stt_core.errors import (
    ConfigurationError,
    ConnectError,
    ErrorCode,
    StoreError,
    STTError,
    Violation,
)
from stt_core.handshake import HandshakeResult, Identity, Initiator
from stt_core.handshake.identity import Binding
from stt_core.handshake.resume import NO_SESSION, Grant, Offer, Wish, heir_secret
from stt_core.handshake.sealed import SealedContent
from stt_core.register import Register
from stt_core.resumption import (
    KEY_LIFE,
    Claims,
    Detached,
    Record,
    Records,
    TicketStore,
    TokenContent,
    open_ticket_untrusted,
    seal_ticket,
    ticket_secret,
)
from stt_core.resumption.ticket import NONCE_SIZE, RECORD_ID_SIZE, TICKET_ID_SIZE, ticket_key_id_untrusted
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.types import Path, Resumed, Role, SessionKey

SESSION_COST: Final = 8192
"""Bytes that a detached session without streams takes, its objects and what names it elsewhere."""
MOST_EPITAPHS: Final = 1024
ANSWERS: Final = 16
"""How often whoever still sends to a session that went on elsewhere is told so."""

_RESUMABLE: Final = (SessionState.ESTABLISHED, SessionState.DETACHED)

Fallback = Callable[[float, bytes], Initiator]
"""``fallback(now, cid)``: a handshake to the same peer that asks for nothing earlier."""


class _Attempt(NamedTuple):
    wish: Wish
    fallback: Fallback


class _Epitaph:
    """The last words of keys that are gone, sealed once and said as often as asked (RFC 9000 section 10.2.1)."""

    __slots__ = ("answers", "datagram")

    def __init__(self, datagram: bytes) -> None:
        self.datagram = datagram
        self.answers = ANSWERS


@dataclass(slots=True)
class Counters:
    """Since the endpoint was made; ``store_failures`` are questions the ticket store didn't answer."""

    resumed_full: int = 0
    resumed_identity: int = 0
    resumptions_refused: int = 0
    tickets_spent_twice: int = 0
    store_failures: int = 0
    detached_evicted: int = 0


class Resuming:
    """One endpoint's part in resuming, on both sides. Implements :class:`~stt_core.context.Succession`."""

    __slots__ = (
        "_attempts", "_context", "_detached", "_epitaphs", "_identity", "_own", "_records", "_register", "_say",
        "_store", "counters",
    )  # fmt: skip

    def __init__(self, identity: Identity, store: TicketStore, say: Callable[[bytes, Path], None]) -> None:
        self._identity = identity
        self._store = store
        self._say = say
        self._records = Records()
        self._own: dict[bytes, SessionKey] = {}
        """The sessions that this side initiated, by their ids."""
        self._attempts: dict[SessionKey, _Attempt] = {}
        self._epitaphs: OrderedDict[bytes, _Epitaph] = OrderedDict()
        self.counters = Counters()

    def attach(self, context: Context, register: Register) -> None:
        """What this is about; it is made before, because the sessions know of it."""
        self._context = context
        self._register = register
        self._detached = Detached(context.config.detached_memory)

    @property
    def detached(self) -> list[SessionKey]:
        """The sessions that are detached."""
        return list(self._detached)

    def statistics(self) -> dict[str, int]:
        """The counters by name, and what is detached at the moment."""
        counters = {item.name: getattr(self.counters, item.name) for item in fields(self.counters)}
        return counters | {"detached": len(self._detached), "detached_bytes": self._detached.total}

    def _wall(self, now: float) -> float:
        return now + self._context.wall_offset

    # --- the initiator's side

    def wish_for(self, token: bytes | None, *, takeover: bool) -> tuple[Wish, bytes | None]:
        """What to ask of the peer, and the identity key it must have.

        :raises ConfigurationError: where ``token`` is none, or there is none and no identity to ask by.
        """
        if token is None:
            if not self._identity.configured:
                raise ConfigurationError("to resume without a token takes a node_seed: it tells the peer who asks")
            return Wish(takeover=takeover), None
        content = TokenContent.of(token)
        session = self._register.sessions.get(self._own.get(content.session_id, SessionKey(0)))
        session_id = NO_SESSION
        if session is not None and session.state in _RESUMABLE:
            session_id = content.session_id
            content = session.ticket or content  # the application's may be an older one
        return Wish(content.ticket, content.rpsk, session_id, takeover, content.heir), content.peer_key

    def expect(self, key: SessionKey, wish: Wish, fallback: Fallback) -> None:
        """Session ``key`` is an attempt to resume."""
        self._attempts[key] = _Attempt(wish, fallback)

    def on_ticket_spent(self, key: SessionKey, attempt: SessionKey, now: float) -> None:
        """See :class:`~stt_core.context.Succession`."""
        sessions = self._register.sessions
        if key != attempt:
            sessions[key].supersede(ErrorCode.TICKET_SPENT, "it was resumed elsewhere", now, quietly=True)
            self._register.touch(sessions[key])
        trying = sessions.get(attempt)
        expected = self._attempts.pop(attempt, None)
        if trying is None or trying.finished:
            return
        if expected is None or trying.first_path.reliable:
            # On a connection the peer would take no second handshake.
            self.release(attempt, ConnectError("another has resumed this session; connect anew"))
            return
        self._register.unroute(trying)
        cid = self._register.routes.new_cid(now)
        self._register.routes.sessions[cid] = trying
        fallback = expected.fallback
        trying.restart(lambda at: fallback(at, cid), cid, now)
        self._register.touch(trying)

    def release(self, attempt: SessionKey, error: STTError | None) -> None:
        """See :class:`~stt_core.context.Succession`."""
        self._attempts.pop(attempt, None)
        session = self._register.sessions.get(attempt)
        if session is not None and not session.finished and session.role is Role.INITIATOR:
            session.end_attempt(error)
            self._register.touch(session)

    def _granted(self, session: Session, result: HandshakeResult, grant: Grant, now: float) -> Receiver | None:
        """What the peer answered to our wish."""
        expected = self._attempts.get(session.key)
        session_id = NO_SESSION if expected is None else expected.wish.session_id
        earlier = self._register.sessions.get(self._own.get(session_id, SessionKey(0)))
        if earlier is not None and earlier.state not in _RESUMABLE:
            earlier = None
        if grant.extent is not Resumed.FULL:
            if earlier is not None and (grant.extent is Resumed.IDENTITY or earlier.state is SessionState.DETACHED):
                self._supersede(earlier, ErrorCode.RESUME_GAP, "the peer has lost its streams", now)
            return None
        self._context.session_ids.discard(result.session_id)
        if earlier is None:  # it was closed here while we asked
            session.end_attempt(ConnectError("the session was closed while it was being resumed"))
            return _nowhere
        return self._succeed(earlier, session, result, now)

    # --- the responder's side

    def judge(self, offer: Offer, peer: SealedContent, binding: Binding, now: float) -> Grant | None:
        """What an initiator that asks to resume is granted; nothing is spent or changed yet."""
        try:
            grant = self._by_ticket(offer, peer, binding, now) if offer.ticket else self._by_identity(offer, peer)
        except Violation:
            grant = None
        except StoreError:
            self.counters.store_failures += 1
            grant = None
        if grant is None:
            self.counters.resumptions_refused += 1
        return grant

    def _by_ticket(self, offer: Offer, peer: SealedContent, binding: Binding, now: float) -> Grant | None:
        wall = self._wall(now)
        key = self._store.find(ticket_key_id_untrusted(offer.ticket), wall)
        if key is None:
            return None
        claims = open_ticket_untrusted(self._context.crypto, key, offer.ticket)
        if not claims.is_good(wall):
            return None
        if claims.identity_key is not None and claims.identity_key != peer.identity_key:
            return None
        record = self._records.by_id(claims.record_id)
        session = None if record is None else self._resumable(record)
        rpsk, epoch = claims.rpsk, claims.epoch
        which = offer.binder_of(rpsk, binding.th1, binding.ya)
        heir = False
        if record is not None and session is not None and record.spent == offer.ticket:
            secret = heir_secret(session.resumption_secret, offer.ticket)
            inherited = offer.binder_of(secret, binding.th1, binding.ya)
            if inherited is not None:
                rpsk, epoch, which, heir = secret, record.epoch, inherited, True
        if which is None:
            return None
        certain = heir or self._is_unspent(claims.ticket_id, wall)
        if certain is False:
            self.counters.tickets_spent_twice += 1
            return None
        if certain is None and claims.identity_key is None:
            return None
        if record is not None and record.epoch != epoch:
            return None  # it was resumed since by another ticket, or by identity
        full = (
            session is not None
            and certain is not None
            and offer.session_id == session.session_id
            and claims.node_hash == _node_hash(peer.node_id)
        )
        return Grant(
            Resumed.FULL if full else Resumed.IDENTITY,
            rpsk,
            epoch + 1,
            offer.session_id if full else NO_SESSION,
            offer.ticket,
            claims.ticket_id if certain else b"",
            claims.expires,
            claims.record_id,
            heir=heir,
            second=which == 1,
        )

    def _is_unspent(self, ticket_id: bytes, wall: float) -> bool | None:
        """None where the store doesn't answer. Such a ticket may have been spent elsewhere, so that no streams go on by
        it; but beside the signature of the identity it is bound to, it shows nothing that the signature doesn't."""
        try:
            return not self._store.is_spent(ticket_id, wall)
        except StoreError:
            self.counters.store_failures += 1
            return None

    def _by_identity(self, offer: Offer, peer: SealedContent) -> Grant | None:
        if peer.identity_key is None or not peer.identity_kept:
            return None
        records = {record.key: record for record in self._records.by_identity(peer.identity_key)}
        newest = self._detached.newest(list(records))
        if newest is None and offer.takeover:
            newest = next((key for key in reversed(records) if self._resumable(records[key]) is not None), None)
        if newest is None:
            return None
        record = records[newest]
        session = self._resumable(record)
        full = session is not None and offer.session_id == session.session_id
        extent, session_id = (Resumed.FULL, offer.session_id) if full else (Resumed.IDENTITY, NO_SESSION)
        return Grant(extent, None, record.epoch + 1, session_id, record_id=record.record_id)

    def _resumable(self, record: Record) -> Session | None:
        session = self._register.sessions.get(record.key)
        return session if session is not None and session.state in _RESUMABLE else None

    def _first_packet(self, session: Session, result: HandshakeResult, grant: Grant, now: float) -> Receiver | None:
        record = self._records.by_id(grant.record_id)
        earlier = None if record is None else self._resumable(record)
        outdated = record is not None and record.epoch + 1 != grant.epoch
        if outdated or (grant.extent is Resumed.FULL and earlier is None) or not self._spend(grant, now):
            self.counters.tickets_spent_twice += 1
            session.refuse_resumption(now)
            return None
        if grant.extent is Resumed.FULL and earlier is not None and record is not None:
            record.epoch, record.spent = grant.epoch, grant.ticket
            return self._succeed(earlier, session, result, now)
        if record is not None:
            self._records.discard(record)
        if earlier is not None:
            self._supersede(earlier, ErrorCode.SUPERSEDED, "its peer has lost the streams and begun anew", now)
        self._note(session, Record(grant.record_id, session.key, None, grant.epoch, grant.ticket))
        self.counters.resumed_identity += 1
        return None

    def _spend(self, grant: Grant, now: float) -> bool:
        if grant.heir or not grant.ticket_id:
            return True
        try:
            return self._store.spend(grant.ticket_id, grant.expires, self._wall(now))
        except StoreError:
            self.counters.store_failures += 1
            return False

    # --- both sides

    def on_resumed(self, key: SessionKey, result: HandshakeResult, now: float) -> Receiver | None:
        """See :class:`~stt_core.context.Succession`."""
        session = self._register.sessions[key]
        grant = result.grant
        if grant is None:
            return None
        step = self._granted if session.role is Role.INITIATOR else self._first_packet
        return step(session, result, grant, now)

    def _succeed(self, earlier: Session, attempt: Session, result: HandshakeResult, now: float) -> Receiver:
        """``earlier`` goes on with the keys that ``attempt`` made, at the peer and on the path that it found."""
        register = self._register
        if earlier.role is Role.RESPONDER and earlier.state is SessionState.ESTABLISHED:
            self._bury(earlier, now)
        register.unroute(earlier)
        self._detached.discard(earlier.key)
        path, cid = attempt.first_path, attempt.local_cid
        register.routes.sessions[cid] = earlier
        if path.reliable:
            self._context.links.hand_over(path, earlier.key)
        register.live.add(earlier.key)
        earlier.adopt(result, path, attempt.key, now)
        if attempt.role is Role.RESPONDER:
            attempt.end_attempt(None)
        else:
            attempt.await_confirmation()
        register.touch(earlier)

        def receive(numbers: Sequence[int], plains: list[bytes], path: Path, now: float, ecn: int, cid: bytes) -> None:
            earlier.receive_opened(numbers, plains, path, now, ecn, cid)
            register.touch(earlier)

        return receive

    def _bury(self, session: Session, now: float) -> None:
        """Whoever still uses the old keys learns that they are void."""
        datagram = session.last_words(ErrorCode.SUPERSEDED, now)
        if datagram is None:
            return
        self._say(datagram, session.path)
        epitaph = _Epitaph(datagram)
        for cid in session.local_cids:
            self._epitaphs[cid] = epitaph
        while len(self._epitaphs) > MOST_EPITAPHS:
            self._epitaphs.popitem(last=False)

    def epitaph(self, cid: bytes) -> bytes | None:
        """What to tell who sends to ``cid``, which was given up for other keys; None where it wasn't, or often enough
        said."""
        found = self._epitaphs.get(cid)
        if found is None or not found.answers:
            return None
        found.answers -= 1
        return found.datagram

    def _supersede(self, session: Session, code: ErrorCode, message: str, now: float) -> None:
        self._detached.discard(session.key)
        session.supersede(code, message, now)
        self._register.touch(session)

    def on_confirmed(self, key: SessionKey, attempt: SessionKey) -> None:
        """See :class:`~stt_core.context.Succession`."""
        self.counters.resumed_full += 1
        self.release(attempt, None)

    # --- tickets

    def on_established(self, session: Session, now: float) -> None:
        """A session has keys that both sides hold, its first or others."""
        if session.role is Role.INITIATOR:
            self._own[session.session_id] = session.key

    def _note(self, session: Session, record: Record) -> Record:
        record.identity_key = session.peer_identity_key if session.peer_identity_kept else None
        session.record = record
        self._records.add(record)
        return record

    def on_ticket_due(self, key: SessionKey, now: float) -> None:
        """See :class:`~stt_core.context.Succession`."""
        session = self._register.sessions[key]
        if session.dht_only or self._context.config.ticket_lifetime < 1:
            return
        record = session.record
        if record is None:
            record = self._note(session, Record(self._context.entropy(RECORD_ID_SIZE), key, None))
        wall = self._wall(now)
        noise = self._context.entropy(TICKET_ID_SIZE + NONCE_SIZE)
        ticket_id, nonce = noise[:TICKET_ID_SIZE], noise[TICKET_ID_SIZE:]
        lifetime = int(self._context.config.ticket_lifetime)
        try:
            sealing = self._store.current(wall)
        except StoreError:
            self.counters.store_failures += 1
            return
        claims = Claims(
            ticket_id,
            record.record_id,
            ticket_secret(session.resumption_secret, ticket_id),
            wall,
            lifetime,
            _node_hash(session.peer_node_id),
            record.identity_key,
            record.epoch,
        )
        ticket = seal_ticket(self._context.crypto, sealing, nonce, claims)
        session.send_ticket(frames.Ticket(lifetime, ticket_id, ticket), now + KEY_LIFE)

    # --- detached sessions

    def on_silence(self, key: SessionKey, message: str, now: float) -> bool:
        """See :class:`~stt_core.context.Succession`."""
        session = self._register.sessions[key]
        config = self._context.config
        if not config.resumable or not (session.record is not None or session.ticket is not None):
            return False
        size = SESSION_COST + session.held_bytes
        if size > config.detached_memory:
            return False
        self._register.unroute(session)
        self._register.live.discard(key)
        session.detach(message, now + config.detached_timeout)
        for evicted in self._detached.add(key, size):
            oldest = self._register.sessions[evicted]
            oldest.evict()
            self.counters.detached_evicted += 1
            self._context.session_ids.discard(oldest.session_id)
            self._register.touch(oldest)
        return True

    def on_over(self, session: Session) -> None:
        """A session is over: nothing of it can be resumed."""
        key = session.key
        if key in self._detached:
            self._detached.discard(key)
            self._context.session_ids.discard(session.session_id)
        if session.record is not None:
            self._records.discard(session.record)
        if self._own.get(session.session_id) == key:
            del self._own[session.session_id]
        self._attempts.pop(key, None)


def _node_hash(node_id: bytes) -> bytes:
    return hashlib.sha256(node_id).digest()


def _nowhere(_numbers: Sequence[int], _plains: list[bytes], _path: Path, _now: float, _ecn: int, _cid: bytes) -> None:
    """For packets of a session that was closed meanwhile."""
