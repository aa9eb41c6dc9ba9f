"""The side that is connected to: one for each endpoint, without state until an AUTH_PROOF with its own cookie comes.

Rule: work and state are spent in the order in which they are earned. A HELLO costs one CPace map and leaves nothing
behind that would be missed; an AUTH_PROOF is checked by length, cookie, age, single use, rates and guess budget, and
only then costs an X25519. Each nonce allows one guess, whatever bytes are sent again with it.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from math import inf
from typing import Final, NamedTuple

from stt_core import cpace
from stt_core.config import EndpointConfig
from stt_core.crypto import Crypto
from stt_core.errors import AuthenticationError, ConnectError, Violation
from stt_core.handshake.cookie import COOKIE_LIFE, AddressTokens, Cookie, EpochKeys, TokenKind
from stt_core.handshake.identity import Binding, Identity
from stt_core.handshake.limits import FailureBudget, Prefix, PrefixBuckets, TokenBucket, address_prefixes, is_loopback
from stt_core.handshake.pinning import pin_error
from stt_core.handshake.result import HandshakeResult
from stt_core.handshake.resume import NO_SESSION, Answer, Grant, Offer, parse_offer_untrusted
from stt_core.handshake.sealed import SealedContent, parse_sealed_untrusted, seal_content
from stt_core.handshake.transcript import Transcript, channel_id, echo, first_hash, proof_digest, session_id
from stt_core.packet import (
    CHALLENGE_HEAD,
    FINAL_ROOM,
    HELLO_MIN,
    NONCE_SIZE,
    PROOF_SIZE,
    SUPPORTED_VERSIONS,
    AuthProof,
    Challenge,
    FinalMessage,
    Flags,
    HandshakeType,
    Header,
    Hello,
    Reject,
    RejectCode,
    Retry,
    Versions,
    choose_version,
    parse_auth_proof_untrusted,
    parse_header_untrusted,
    parse_hello_untrusted,
)
from stt_core.parameters import TransportParameters
from stt_core.types import Entropy, Path, RateLimits, Resumed, Role, Suite

PENDING_LIFETIME: Final = 10.0
"""Seconds an accepted session has for its first protected packet."""
_HELLO_NONCE: Final = slice(21, 53)


class Accepted(NamedTuple):
    """A proof verified: start a pending session, and send ``final`` back on the same path."""

    result: HandshakeResult
    final: bytes


class Refused(NamedTuple):
    """Somebody was turned away for what it proved or failed to prove; send ``reply``, if there is one."""

    error: ConnectError
    reply: bytes | None


Outcome = bytes | Accepted | Refused | None
"""What a datagram leads to; plain bytes are a reply for the path it came on."""


class Verdict(NamedTuple):
    """What became of the one proof a nonce allows: its digest, and the REJECT code, or None if it was accepted."""

    digest: bytes
    code: RejectCode | None


class _Claim(NamedTuple):
    """An AUTH_PROOF whose cookie is ours and young enough: all there is to know before any work."""

    proof: AuthProof
    data: bytes
    digest: bytes
    cookie: Cookie
    path: Path


@dataclass(slots=True)
class Counters:
    """Running totals. ``pake_maps`` are HELLOs worked on, ``pake_operations`` guesses evaluated."""

    challenges_sent: int = 0
    retries_sent: int = 0
    versions_sent: int = 0
    pake_maps: int = 0
    pake_operations: int = 0
    accepted: int = 0
    authentication_failures: int = 0
    refused: int = 0
    busy: int = 0
    replayed: int = 0
    dropped: int = 0


def _always() -> bool:
    return True


def _never(_nonce: bytes) -> bool:
    return False


Judge = Callable[[Offer, SealedContent, Binding, float], Grant | None]
"""``judge(offer, peer, binding, now)``: what is granted to an initiator that asks to resume; None for nothing."""


def _refuse_all(_offer: Offer, _peer: SealedContent, _binding: Binding, _now: float) -> Grant | None:
    return None


class Responder:
    """Answers HELLO and AUTH_PROOF.

    ``new_cid()`` gives a fresh 8-byte cid without remembering it, ``parameters_for(cid)`` what to declare for a
    session that has it; ``admit()`` is false while no session can be taken on; ``owns_nonce(nonce)`` tells our own
    HELLOs when they are thrown back at us; ``judge`` decides about resuming. :meth:`receive_packet` never raises on
    what the network sent.
    """

    __slots__ = (
        "_admit",
        "_config",
        "_crypto",
        "_entropy",
        "_epochs",
        "_failures",
        "_finals",
        "_hellos",
        "_hellos_by_prefix",
        "_identity",
        "_judge",
        "_limits",
        "_new_cid",
        "_next_at",
        "_owns_nonce",
        "_parameters_for",
        "_pending",
        "_pending_ends",
        "_proofs_by_prefix",
        "_retried_by_prefix",
        "_tokens",
        "_used",
        "_used_ends",
        "_used_most",
        "_versions",
        "counters",
    )

    def __init__(
        self,
        *,
        config: EndpointConfig,
        crypto: Crypto,
        entropy: Entropy,
        now: float,
        new_cid: Callable[[], bytes],
        parameters_for: Callable[[bytes], TransportParameters],
        admit: Callable[[], bool] = _always,
        owns_nonce: Callable[[bytes], bool] = _never,
        identity: Identity | None = None,
        versions: tuple[int, ...] = SUPPORTED_VERSIONS,
        judge: Judge = _refuse_all,
    ) -> None:
        self._config = config
        self._crypto = crypto
        self._entropy = entropy
        self._new_cid = new_cid
        self._parameters_for = parameters_for
        self._admit = admit
        self._owns_nonce = owns_nonce
        self._judge = judge
        self._identity = identity or Identity(config.node_seed, crypto, entropy)
        self._versions = versions
        self._epochs = EpochKeys(entropy, crypto.x25519)
        self._tokens = AddressTokens(entropy)
        self._limits = config.rate_limits
        # Without flood limits the guess budget stays, at its defaults: it protects the seed, not the machine.
        limits = config.rate_limits or RateLimits()
        self._failures = FailureBudget(limits)
        self._hellos = TokenBucket(limits.hello_rate, limits.hello_burst)
        hello_rate, proof_rate = limits.validated_hello_rate, limits.validated_proof_rate
        self._hellos_by_prefix = PrefixBuckets(hello_rate, max(1.0, hello_rate), limits.prefixes)
        self._retried_by_prefix = PrefixBuckets(hello_rate, max(1.0, hello_rate), limits.prefixes)
        self._proofs_by_prefix = PrefixBuckets(proof_rate, max(1.0, proof_rate), limits.prefixes)
        self._used_most = limits.used_nonces
        self._used: dict[bytes, Verdict] = {}
        self._used_ends: deque[tuple[float, bytes]] = deque()
        self._pending: dict[bytes, bytes] = {}
        self._pending_ends: deque[tuple[float, bytes]] = deque()
        self._finals: dict[bytes, bytes] = {}
        self._next_at = inf
        """When there is next something to forget."""
        self.counters = Counters()

    def statistics(self) -> dict[str, int]:
        """The counters by name, and how much is remembered at the moment."""
        counters = {item.name: getattr(self.counters, item.name) for item in fields(self.counters)}
        return counters | {"half_open": self.half_open, "used_nonces": self.remembered}

    @property
    def half_open(self) -> int:
        """Accepted sessions whose first protected packet has not come."""
        return len(self._pending)

    @property
    def remembered(self) -> int:
        """Nonces whose one guess is spent and whose cookie has not yet expired."""
        return len(self._used)

    def receive_packet(self, data: bytes, path: Path, now: float) -> Outcome:
        """A handshake message that came on ``path``: what to send back, or what became of it."""
        self.handle_timer(now)
        outcome: Outcome = None
        try:
            header = parse_header_untrusted(data)
            if self._config.accept and header.type is HandshakeType.HELLO:
                outcome = self._receive_hello_untrusted(header, data, path, now)
            elif self._config.accept and header.type is HandshakeType.AUTH_PROOF:
                outcome = self._receive_proof_untrusted(data, path, now)
        except Violation:
            outcome = None
        if outcome is None:
            self.counters.dropped += 1
        if self._next_at == inf:  # what comes later ends later, but for what notes it itself
            self._plan()
        return outcome

    def established(self, local_cid: bytes, now: float) -> None:
        """The session's first protected packet opened: the initiator has its FINAL, which need not be kept."""
        self.forget(local_cid, now)

    def forget(self, local_cid: bytes, now: float) -> None:
        """The pending session is no longer pending; its nonce stays used all the same."""
        nonce_r = self._pending.pop(local_cid, None)
        if nonce_r is not None:
            del self._finals[nonce_r]

    def address_token(self, path: Path, now: float) -> bytes:
        """A token for an established peer to show next time, from the same host within 24 h; 45 bytes."""
        return self._tokens.issue(path, now)

    def handle_timer(self, now: float) -> None:
        """Forget what has had its time: keys, used nonces, sessions that never spoke."""
        if now < self._next_at:
            return
        self._epochs.expire(now)
        for nonce_r in _due(self._used_ends, now):
            del self._used[nonce_r]
        for cid in _due(self._pending_ends, now):
            self.forget(cid, now)
        self._plan()

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called; None while there is nothing to forget."""
        return None if self._next_at == inf else self._next_at

    def _plan(self) -> None:
        ends = [queue[0][0] for queue in (self._used_ends, self._pending_ends) if queue]
        epoch = self._epochs.next_timer()
        self._next_at = min(ends if epoch is None else [*ends, epoch], default=inf)

    # HELLO

    def _receive_hello_untrusted(self, header: Header, data: bytes, path: Path, now: float) -> bytes | None:
        if _padded(path) and len(data) < HELLO_MIN:
            return None
        if header.version not in self._versions:
            return self._offer_versions(header, data, path, now)
        hello = parse_hello_untrusted(data)
        if choose_version(self._versions, hello.versions) != header.version:
            # Somebody talked it out of a better version, or it does not list its own.
            return None
        suite = self._choose_suite(hello)
        if suite is None or self._owns_nonce(hello.nonce_i):
            return None
        token = self._token_kind(hello, path, now)
        if not self._ration_hello(token, path, now):
            # Where others spent the share of this address, a RETRY lets its owner show that it is there now.
            return None if token is TokenKind.RETRY or not _padded(path) else self._retry(hello, path, now)
        return self._challenge(hello, data, suite, path, now, known=token is TokenKind.ADDRESS)

    def _challenge(self, hello: Hello, data: bytes, suite: Suite, path: Path, now: float, *, known: bool) -> bytes:
        nonce_r = self._entropy(NONCE_SIZE)
        named = bool(hello.flags & Flags.NAMED)
        channel = channel_id(self._config.node_id if named else None)
        base = cpace.generator(self._config.shared_seed, channel, hello.nonce_i + nonce_r, self._entropy)
        self.counters.pake_maps += 1
        yb = cpace.share(self._epochs.scalar(hello.nonce_i, nonce_r, now), base)
        flags = int(Flags.NAMED) if named else 0
        if self._both_prefer_chacha(hello):
            flags |= Flags.PREFER_CHACHA
        bare = Challenge(hello.version, hello.scid, self._new_cid(), nonce_r, yb, suite, flags)
        head = bare.encode()[:CHALLENGE_HEAD]
        self.counters.challenges_sent += 1
        return head + self._epochs.issue(path, hello.nonce_i, bare, first_hash(data, head), now, known=known)

    def _offer_versions(self, header: Header, data: bytes, path: Path, now: float) -> bytes | None:
        if len(data) < _HELLO_NONCE.stop:
            return None
        if self._limits is not None and not self._exempt(path) and not self._hellos.take(now):
            return None
        self.counters.versions_sent += 1
        return Versions(header.version, header.scid, data[_HELLO_NONCE], self._versions).encode()

    def _both_prefer_chacha(self, hello: Hello) -> bool:
        return self._config.prefer_chacha and bool(hello.flags & Flags.PREFER_CHACHA)

    def _choose_suite(self, hello: Hello) -> Suite | None:
        return _choose_suite(self._crypto.suites, hello.suites, self._both_prefer_chacha(hello))

    def _token_kind(self, hello: Hello, path: Path, now: float) -> TokenKind:
        if self._tokens.check(hello.token, path, now):
            return TokenKind.ADDRESS
        if self._epochs.check_retry(hello.token, path, hello.nonce_i, now):
            return TokenKind.RETRY
        return TokenKind.NONE

    def _exempt(self, path: Path) -> bool:
        limits = self._limits
        return (limits is None or limits.loopback_exempt) and is_loopback(path.address)

    def _to_validate(self, token: TokenKind, path: Path) -> bool:
        """Whether whoever sent this has yet to show that it can read what is sent to its address."""
        return token is TokenKind.NONE and _padded(path)

    def _ration_hello(self, token: TokenKind, path: Path, now: float) -> bool:
        """Whether this HELLO is worth the work of a CHALLENGE."""
        if self._exempt(path):
            return True
        if self._to_validate(token, path):
            return not self._config.validate_address and (self._limits is None or self._hellos.take(now))
        # Whoever read a HELLO may send its address token from its owner's address without being there. A RETRY token is
        # had by those alone who read what is sent there now, so what they may do is not for others to use up.
        buckets = self._retried_by_prefix if token is TokenKind.RETRY else self._hellos_by_prefix
        return self._limits is None or buckets.take(address_prefixes(path.address), now)

    def _retry(self, hello: Hello, path: Path, now: float) -> bytes:
        self.counters.retries_sent += 1
        token = self._epochs.retry_token(path, hello.nonce_i, now)
        return Retry(hello.version, hello.scid, hello.nonce_i, token).encode()

    # AUTH_PROOF

    def _receive_proof_untrusted(self, data: bytes, path: Path, now: float) -> Outcome:
        claim = self._recognise_untrusted(data, path, now)
        if claim is None:
            return None
        proof, digest = claim.proof, claim.digest
        verdict = self._used.get(proof.nonce_r)
        if verdict is not None:
            return self._repeat(proof, digest, verdict)
        prefixes = address_prefixes(path.address)
        if len(self._used) >= self._used_most or not self._ration_proof(path, prefixes, now):
            return None
        if not self._may_work(path) or not self._failures.allows(prefixes, now, known=claim.cookie.known):
            # Nothing was evaluated, so the nonce is not spent: the same bytes may do better in a moment.
            self.counters.busy += 1
            return _reject(proof, digest, RejectCode.BUSY)
        return self._evaluate(claim, now)

    def _recognise_untrusted(self, data: bytes, path: Path, now: float) -> _Claim | None:
        """An AUTH_PROOF to a CHALLENGE that we sent, to this path, not long ago."""
        if _padded(path) and len(data) != PROOF_SIZE:
            return None
        proof = parse_auth_proof_untrusted(data)
        cookie = self._epochs.check(path, proof) if proof.version in self._versions else None
        if cookie is None or now - cookie.issued_at >= COOKIE_LIFE:
            return None
        return _Claim(proof, data, proof_digest(data), cookie, path)

    def _ration_proof(self, path: Path, prefixes: tuple[Prefix, ...], now: float) -> bool:
        return self._limits is None or self._exempt(path) or self._proofs_by_prefix.take(prefixes, now)

    def _may_work(self, path: Path) -> bool:
        limits = self._limits
        full = limits is not None and not self._exempt(path) and len(self._pending) >= limits.half_open
        return not full and self._admit()

    def _repeat(self, proof: AuthProof, digest: bytes, verdict: Verdict) -> bytes | None:
        """The same bytes get the same answer; other bytes with a used nonce would be a second guess."""
        if not hmac.compare_digest(verdict.digest, digest):
            return None
        reply = self._finals.get(proof.nonce_r) if verdict.code is None else _reject(proof, digest, verdict.code)
        if reply is not None:
            self.counters.replayed += 1
        return reply

    def _evaluate(self, claim: _Claim, now: float) -> Outcome:
        """The one guess this nonce allows."""
        proof, digest = claim.proof, claim.digest
        # First of all spent: whatever goes wrong from here on, it won't be tried again.
        self._used[proof.nonce_r] = Verdict(digest, RejectCode.AUTHENTICATION)
        self._used_ends.append((now + COOKIE_LIFE, proof.nonce_r))
        self._next_at = min(self._next_at, now + COOKIE_LIFE, now + PENDING_LIFETIME)
        self.counters.pake_operations += 1
        transcript = self._verified(claim)
        if transcript is None:
            self._failures.charge(address_prefixes(claim.path.address), now)
            self.counters.authentication_failures += 1
            error = AuthenticationError("the peer does not hold the same shared seed, or took us for somebody else")
            return Refused(error, _reject(proof, digest, RejectCode.AUTHENTICATION))
        binding = Binding(transcript.th1, proof.ya, proof.yb)
        try:
            content = transcript.open_proof_untrusted(claim.data)
            peer = parse_sealed_untrusted(content, self._crypto, Role.INITIATOR, binding)
            offer = None if peer.resume is None else parse_offer_untrusted(peer.resume)
        except Violation as violation:
            return self._refuse(claim, f"the peer holds the seed, but {violation.reason}")
        if peer.node_id == self._config.node_id:
            return self._refuse(claim, "the peer claims our own node id: a reflection, or two nodes of one name")
        refusal = pin_error(self._config.pins, peer)
        if refusal is not None:
            return self._refuse(claim, refusal)
        return self._accept(claim, transcript, peer, offer, now)

    def _verified(self, claim: _Claim) -> Transcript | None:
        """The handshake's keys, if Ta shows that the initiator has them too; a share of low order shows nothing."""
        proof, cookie = claim.proof, claim.cookie
        sid = proof.nonce_i + proof.nonce_r
        try:
            isk = cpace.shared_key(cookie.scalar(), proof.ya, sid, proof.ya, proof.yb)
        except ValueError:
            return None
        transcript = Transcript(self._crypto, Suite(proof.suite), isk, cookie.th1)
        return transcript if transcript.verify_proof(claim.data) else None

    def _refuse(self, claim: _Claim, why: str | ConnectError) -> Refused:
        self._used[claim.proof.nonce_r] = Verdict(claim.digest, RejectCode.REFUSED)
        self.counters.refused += 1
        error = AuthenticationError(why) if isinstance(why, str) else why
        return Refused(error, _reject(claim.proof, claim.digest, RejectCode.REFUSED))

    def _accept(
        self, claim: _Claim, transcript: Transcript, peer: SealedContent, offer: Offer | None, now: float
    ) -> Accepted:
        config = self._config
        proof = claim.proof
        binding = Binding(transcript.th1, proof.ya, proof.yb)
        parameters = self._parameters_for(proof.dcid)
        room = FINAL_ROOM if _padded(claim.path) else 0
        grant = answer = None
        if offer is not None:
            grant = self._judge(offer, peer, binding, now)
            answer = Answer(Resumed.NO, 0, NO_SESSION).encode() if grant is None else grant.answer()
        content = seal_content(Role.RESPONDER, config.node_id, parameters, self._identity, binding, room, answer)
        head = FinalMessage(proof.version, dcid=proof.scid, scid=proof.dcid).head()
        final = transcript.make_final(head, content)
        self._used[proof.nonce_r] = Verdict(claim.digest, None)
        self._finals[proof.nonce_r] = final
        self._pending[proof.dcid] = proof.nonce_r
        self._pending_ends.append((now + PENDING_LIFETIME, proof.dcid))
        self.counters.accepted += 1
        result = HandshakeResult(
            role=Role.RESPONDER,
            session_id=session_id(proof.nonce_i, proof.nonce_r, peer.node_id, config.node_id),
            suite=transcript.suite,
            master=transcript.master(None if grant is None else grant.rpsk),
            local_cid=proof.dcid,
            peer_cid=proof.scid,
            peer_node_id=peer.node_id,
            peer_identity_key=peer.identity_key,
            peer_parameters=peer.parameters,
            peer_identity_kept=peer.identity_kept,
            grant=grant,
        )
        return Accepted(result, final)


@lru_cache(maxsize=64)
def _choose_suite(ours: tuple[Suite, ...], theirs: int, chacha: bool) -> Suite | None:
    """Remembered, because most peers offer the same; and they can't offer more than 2^16 different ones."""
    common = [suite for suite in ours if theirs & suite]
    if chacha and Suite.CHACHA20_POLY1305 in common:
        return Suite.CHACHA20_POLY1305
    return common[0] if common else None


def _padded(path: Path) -> bool:
    """Whether datagrams on this path are filled up and its address is yet to be proved; not so on WebSocket."""
    return path.transport != "websocket"


def _reject(proof: AuthProof, digest: bytes, code: RejectCode) -> bytes:
    return Reject(proof.version, proof.scid, proof.dcid, code, echo(digest)).encode()


def _due(ends: deque[tuple[float, bytes]], now: float) -> Iterator[bytes]:
    """Take from the front of a queue in order of time what is due."""
    while ends and ends[0][0] <= now:
        yield ends.popleft()[1]
