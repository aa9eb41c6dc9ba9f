"""One attempt of an initiator: one nonce, the HELLOs sent with it, and at most one AUTH_PROOF.

Rule: bytes and facts, no decisions. What to repeat when, and what to believe, is the
:class:`~stt_core.handshake.initiator.Initiator`'s affair. Retransmissions are the cached bytes, never made anew.
"""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass, field
from typing import Final

from stt_core import cpace
from stt_core.config import EndpointConfig
from stt_core.crypto import Crypto
from stt_core.errors import STTError
from stt_core.handshake.identity import Binding, Identity
from stt_core.handshake.result import HandshakeResult
from stt_core.handshake.resume import Grant, Wish
from stt_core.handshake.sealed import SealedContent, parse_sealed_untrusted, seal_content
from stt_core.handshake.transcript import Transcript, channel_id, echo, first_hash, proof_digest, session_id
from stt_core.packet import (
    COOKIE_TH1,
    HELLO_MIN,
    NONCE_SIZE,
    PROOF_ROOM,
    AuthProof,
    Challenge,
    Flags,
    Hello,
    parse_challenge_untrusted,
)
from stt_core.parameters import TransportParameters
from stt_core.types import Entropy, Role, Suite

AMBIGUOUS_WAIT: Final = 1.6
"""The longest first wait, in seconds, for an answer to AUTH_PROOF where it isn't clear which HELLO was answered."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the attempts of one connect share. ``padded``: the path is UDP, where sizes matter."""

    config: EndpointConfig = field(repr=False)
    crypto: Crypto
    entropy: Entropy = field(repr=False)
    identity: Identity
    local_cid: bytes
    parameters: TransportParameters
    peer_node_id: bytes | None
    versions: tuple[int, ...]
    padded: bool
    wish: Wish | None = None


class _Text:
    """A HELLO as sent: how often, and the last two times."""

    __slots__ = ("data", "latest", "previous", "sent")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sent = 0
        self.previous = self.latest = -math.inf


class Attempt:
    """Holds the datagrams that may have to be repeated, and the state that a FINAL is checked against.

    ``next_at`` is when to repeat; ``verdict`` an error that is remembered but not yet believed, until ``verdict_at``,
    which is known once the last repetition that could refute it has left.
    """

    __slots__ = (
        "_binding",
        "_hello_rtt",
        "_nonce_r",
        "_setup",
        "_texts",
        "_transcript",
        "challenged_at",
        "digest",
        "interval",
        "next_at",
        "nonce_i",
        "peer_cid",
        "proof",
        "proof_sent_at",
        "proofs_sent",
        "repeats",
        "retried",
        "verdict",
        "verdict_at",
        "version",
        "versioned",
        "wait",
    )

    def __init__(self, setup: Setup, token: bytes) -> None:
        self._setup = setup
        self._texts: list[_Text] = []
        self._transcript: Transcript | None = None
        self._binding: Binding | None = None
        self._nonce_r = b""
        self._hello_rtt: float | None = None
        self.nonce_i = setup.entropy(NONCE_SIZE)
        self.version = setup.versions[0]
        self.retried = False
        self.versioned = False
        self.peer_cid = b""
        self.proof: bytes | None = None
        self.digest = b""
        self.challenged_at = math.inf
        self.proofs_sent = 0
        self.proof_sent_at = math.inf
        self.wait = 0.0
        """Twice the time from HELLO to its answer, and at least the smallest wait, once there was an answer."""
        self.interval = 0.0
        self.repeats = 0
        self.next_at = math.inf
        self.verdict: STTError | None = None
        self.verdict_at = math.inf
        self.write_hello(token)

    def write_hello(self, token: bytes) -> None:
        """Go on with another HELLO of the same nonce: after RETRY or VERSIONS. A CHALLENGE to an earlier one counts."""
        setup = self._setup
        flags = 0 if setup.peer_node_id is None else int(Flags.NAMED)
        if setup.config.prefer_chacha:
            flags |= Flags.PREFER_CHACHA
        hello = Hello(
            version=self.version,
            scid=setup.local_cid,
            nonce_i=self.nonce_i,
            suites=sum(setup.crypto.suites),
            flags=flags,
            hint=b"",
            token=token,
            versions=setup.versions,
        )
        self._texts.append(_Text(hello.encode(HELLO_MIN if setup.padded else 0)))

    def hello(self, now: float) -> bytes:
        """The current HELLO, which is being sent now."""
        text = self._texts[-1]
        text.sent += 1
        text.previous, text.latest = text.latest if text.sent > 1 else now, now
        return text.data

    def silence(self, now: float) -> float:
        """Seconds since the HELLO before the last one, or the only one.

        Not since the last: with waits that double, twice this is more than a round trip whichever HELLO was answered.
        """
        return now - self._texts[-1].previous

    def accept_challenge_untrusted(self, data: bytes, now: float) -> bool:
        """Make the AUTH_PROOF that answers this CHALLENGE; false where it answers no HELLO of this attempt.

        Nothing is revealed until the proof is sent. A share of low order is no answer either.

        :raises Violation: if it is malformed.
        """
        challenge = parse_challenge_untrusted(data)
        setup = self._setup
        if self.proof is not None or challenge.version != self.version:
            return False
        if challenge.suite not in setup.crypto.suites:
            return False
        if bool(challenge.flags & Flags.NAMED) != (setup.peer_node_id is not None):
            return False
        th1 = challenge.cookie[COOKIE_TH1]
        text = next((t for t in self._texts if hmac.compare_digest(first_hash(t.data, data), th1)), None)
        if text is None or not self._make_proof(challenge, th1):
            return False
        self.challenged_at = now
        if text.sent == 1:
            self._hello_rtt = now - text.latest
            self.wait = 2 * self._hello_rtt
        else:
            self.wait = min(2 * (now - text.previous), AMBIGUOUS_WAIT)
        return True

    def _make_proof(self, challenge: Challenge, th1: bytes) -> bool:
        setup = self._setup
        crypto = setup.crypto
        sid = self.nonce_i + challenge.nonce_r
        multiply = crypto.x25519(setup.entropy(cpace.ELEMENT_SIZE))
        base = cpace.generator(setup.config.shared_seed, channel_id(setup.peer_node_id), sid, setup.entropy)
        try:
            ya = cpace.share(multiply, base)
            isk = cpace.shared_key(multiply, challenge.yb, sid, ya, challenge.yb)
        except ValueError:
            return False
        head = AuthProof(
            version=self.version,
            dcid=challenge.scid,
            scid=setup.local_cid,
            nonce_i=self.nonce_i,
            nonce_r=challenge.nonce_r,
            suite=challenge.suite,
            flags=challenge.flags,
            cookie=challenge.cookie,
            yb=challenge.yb,
            ya=ya,
        ).head()
        self._transcript = Transcript(crypto, Suite(challenge.suite), isk, th1)
        self._binding = Binding(th1, ya, challenge.yb)
        content = seal_content(
            Role.INITIATOR,
            setup.config.node_id,
            setup.parameters,
            setup.identity,
            self._binding,
            PROOF_ROOM if setup.padded else 0,
            None if setup.wish is None else setup.wish.offer(th1, ya),
        )
        self.proof = self._transcript.make_proof(head, content)
        self.digest = proof_digest(self.proof)
        self.peer_cid = challenge.scid
        self._nonce_r = challenge.nonce_r
        return True

    def send_proof(self, now: float) -> bytes:
        """The AUTH_PROOF, which is being sent now."""
        if self.proof is None:
            raise LookupError("no AUTH_PROOF to send before a CHALLENGE")
        if not self.proofs_sent:
            self.proof_sent_at = now
            self._texts.clear()
        self.proofs_sent += 1
        return self.proof

    def drop_unsent_proof(self) -> None:
        """Its cookie expired while it waited; the next CHALLENGE makes another."""
        self.proof = self._transcript = self._binding = None

    def rejected_by(self, echoed: bytes) -> bool:
        """Whether a REJECT with this echo means the proof this attempt sent."""
        return self.proofs_sent > 0 and hmac.compare_digest(echo(self.digest), echoed)

    def verify_final(self, data: bytes) -> bool:
        """Whether this FINAL proves that the peer holds the seed."""
        return self._transcript is not None and self._transcript.verify_final(data)

    def open_final_untrusted(self, data: bytes) -> SealedContent:
        """What the peer says in a FINAL that verified.

        :raises Violation: if it does not open, is malformed, or its identity proof does not hold.
        """
        if self._transcript is None or self._binding is None:
            raise LookupError("no FINAL to open before an AUTH_PROOF")
        content = self._transcript.open_final_untrusted(data)
        return parse_sealed_untrusted(content, self._setup.crypto, Role.RESPONDER, self._binding)

    def grant_untrusted(self, peer: SealedContent) -> Grant | None:
        """What the peer answered to our wish to resume; None where we had none.

        :raises Violation: if it is malformed, or grants what was not asked for.
        """
        return None if self._setup.wish is None else self._setup.wish.read_untrusted(peer.resume)

    def result(self, peer: SealedContent, grant: Grant | None, now: float) -> HandshakeResult:
        """The outcome, after :meth:`verify_final`."""
        if self._transcript is None:
            raise LookupError("no result before a FINAL")
        setup = self._setup
        return HandshakeResult(
            role=Role.INITIATOR,
            session_id=session_id(self.nonce_i, self._nonce_r, setup.config.node_id, peer.node_id),
            suite=self._transcript.suite,
            master=self._transcript.master(None if grant is None else grant.rpsk),
            local_cid=setup.local_cid,
            peer_cid=self.peer_cid,
            peer_node_id=peer.node_id,
            peer_identity_key=peer.identity_key,
            peer_parameters=peer.parameters,
            peer_identity_kept=peer.identity_kept,
            grant=grant,
            rtt=now - self.proof_sent_at if self.proofs_sent == 1 else self._hello_rtt,
        )
