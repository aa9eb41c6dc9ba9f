"""The side that connects: sends HELLO and AUTH_PROOF, repeats them, and decides when to give up and why.

Rule: only what a key proved ends a connect early. A REJECT, a FINAL that fails its tag and a VERSIONS are remembered,
answered with several retransmissions, and believed only after these brought nothing better: anybody on the path can
corrupt or forge a few datagrams. At most two distinct AUTH_PROOFs leave per connect, because each lets an impostor test
one guess.
"""

from __future__ import annotations

import hmac
import math
from collections import deque
from collections.abc import Callable
from typing import Final

from stt_core.config import EndpointConfig
from stt_core.crypto import Crypto
from stt_core.errors import (
    AuthenticationError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    PeerBusyError,
    PeerKeyError,
    STTError,
    VersionError,
    Violation,
)
from stt_core.handshake.attempt import Attempt, Setup
from stt_core.handshake.cookie import COOKIE_LIFE
from stt_core.handshake.identity import Identity
from stt_core.handshake.pinning import pin_error
from stt_core.handshake.result import HandshakeResult
from stt_core.handshake.resume import Wish
from stt_core.packet import (
    SUPPORTED_VERSIONS,
    HandshakeType,
    RejectCode,
    choose_version,
    parse_final_untrusted,
    parse_header_untrusted,
    parse_reject_untrusted,
    parse_retry_untrusted,
    parse_versions_untrusted,
)
from stt_core.parameters import TransportParameters
from stt_core.types import Entropy

FIRST_WAIT: Final = 0.4
"""Seconds to the first retransmission; doubling from there (HELLO at 0, 0.4, 1.2, 2.8 s)."""
LONGEST_WAIT: Final = 3.2
"""Waits double up to here, unless a round trip takes longer: a connect is too few datagrams to harm a network."""
PATIENCE: Final = 2
"""Retransmissions without an answer after which a fresh attempt joins one that had got somewhere."""
DOUBTS: Final = 4
"""Retransmissions, half a wait apart, that must bring nothing better before a remembered error is believed."""
MAX_ATTEMPTS: Final = 2
BUDGET_POLL: Final = 0.025
"""Seconds between asking again for a proof that the target's budget did not allow."""


def _always(_now: float) -> bool:
    return True


class Initiator:
    """One connect, from the first HELLO to a :attr:`result` or a :attr:`failure`; exactly one of them, once.

    Drive it as an endpoint: ``receive_packet``, ``receive_unreachable`` and ``handle_timer`` for what happened, then
    ``poll_transmit`` until it gives None, and ``next_timer``. ``allow_proof(now)`` is asked before each distinct
    AUTH_PROOF leaves; while it says no, the proof waits. ``identity`` is the endpoint's; without one it is made from
    the configuration. ``padded`` is false on WebSocket, where datagrams are not filled up, and none is lost:
    nothing is repeated there, and an answer is believed as soon as it comes, as whoever could forge one could as well
    cut the connection. ``wish`` is what to resume.
    """

    __slots__ = (
        "_allow_proof",
        "_attempts",
        "_begun",
        "_out",
        "_peer_key",
        "_setup",
        "_starved",
        "_timeout",
        "_token",
        "challenged",
        "dropped",
        "expires",
        "failure",
        "peer_verified",
        "result",
    )

    def __init__(
        self,
        *,
        config: EndpointConfig,
        crypto: Crypto,
        entropy: Entropy,
        local_cid: bytes,
        parameters: TransportParameters,
        now: float,
        peer_node_id: bytes | None = None,
        peer_key: bytes | None = None,
        address_token: bytes = b"",
        timeout: float | None = None,
        allow_proof: Callable[[float], bool] = _always,
        identity: Identity | None = None,
        padded: bool = True,
        versions: tuple[int, ...] = SUPPORTED_VERSIONS,
        wish: Wish | None = None,
    ) -> None:
        self._setup = Setup(
            config=config,
            crypto=crypto,
            entropy=entropy,
            identity=identity or Identity(config.node_seed, crypto, entropy),
            local_cid=local_cid,
            parameters=parameters,
            peer_node_id=peer_node_id,
            versions=versions,
            padded=padded,
            wish=wish,
        )
        self._peer_key = peer_key
        self._token = address_token
        self._allow_proof = allow_proof
        self._timeout = config.handshake_timeout if timeout is None else timeout
        self.expires = now + self._timeout
        """When it gives up."""
        self._attempts: list[Attempt] = []
        self._begun = 0
        self._out: deque[bytes] = deque()
        self._starved = False
        self.result: HandshakeResult | None = None
        self.failure: STTError | None = None
        self.challenged = False
        """A CHALLENGE to one of our HELLOs came: somebody is there."""
        self.peer_verified = False
        """A FINAL verified: the peer holds the seed, whether or not it is who it should be."""
        self.dropped = 0
        self._begin(now)

    @property
    def done(self) -> bool:
        """Whether there is a result or a failure; from then on nothing more happens and nothing is kept."""
        return self.result is not None or self.failure is not None

    @property
    def waiting_for_budget(self) -> bool:
        """Whether a proof is ready that ``allow_proof`` did not let go yet."""
        return any(attempt.proof is not None and not attempt.proofs_sent for attempt in self._attempts)

    def owns_nonce(self, nonce: bytes) -> bool:
        """Whether a HELLO with this nonce is ours, thrown back at us."""
        return any(hmac.compare_digest(attempt.nonce_i, nonce) for attempt in self._attempts)

    def receive_packet(self, data: bytes, now: float) -> None:
        """A handshake message addressed to our cid. Never raises; what does not fit is dropped and counted."""
        if self.done:
            return
        try:
            fitted = self._dispatch_untrusted(data, now)
        except Violation:
            fitted = False
        if not fitted:
            self.dropped += 1

    def receive_unreachable(self, now: float) -> None:
        """The network says that nothing listens there; believed until a CHALLENGE shows otherwise."""
        if not self.done and not self.challenged:
            self._fail(ConnectionRefusedError("nothing listens at that address"))

    def receive_closed(self, now: float) -> None:
        """The connection is gone, with nothing more to come."""
        if not self.done:
            self._fail(ConnectionRefusedError("the connection was closed before the handshake was done"))

    def handle_timer(self, now: float) -> None:
        """Repeat what is due, or give up."""
        if self.done:
            return
        for attempt in self._attempts:
            if attempt.verdict is not None and now >= attempt.verdict_at:
                self._fail(attempt.verdict)
                return
        if now >= self.expires:
            self._fail(self._timeout_error())
            return
        for attempt in tuple(self._attempts):
            if now >= attempt.next_at:
                self._repeat(attempt, now)

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called; None once done."""
        if self.done:
            return None
        at = self.expires
        for attempt in self._attempts:
            at = min(at, attempt.next_at, attempt.verdict_at)
        return at

    @property
    def wants_to_send(self) -> bool:
        """Whether :meth:`poll_transmit` has a datagram."""
        return bool(self._out)

    def poll_transmit(self, now: float) -> bytes | None:
        """The next datagram to send, or None."""
        return self._out.popleft() if self._out else None

    # What comes in. Each handler says whether the message meant anything.

    def _dispatch_untrusted(self, data: bytes, now: float) -> bool:
        header = parse_header_untrusted(data)
        if header.dcid != self._setup.local_cid:
            return False
        if header.type is HandshakeType.VERSIONS:
            return self._receive_versions_untrusted(data, now)
        if header.version not in self._setup.versions:
            return False
        match header.type:
            case HandshakeType.CHALLENGE:
                return self._receive_challenge_untrusted(data, now)
            case HandshakeType.FINAL:
                return self._receive_final_untrusted(data, now)
            case HandshakeType.RETRY:
                return self._receive_retry_untrusted(data, now)
            case HandshakeType.REJECT:
                return self._receive_reject_untrusted(data, now)
        return False

    def _receive_challenge_untrusted(self, data: bytes, now: float) -> bool:
        for attempt in self._attempts:
            if attempt.accept_challenge_untrusted(data, now):
                self.challenged = True
                attempt.verdict = None
                attempt.verdict_at = math.inf
                self._release(attempt, now)
                return True
        return False

    def _receive_final_untrusted(self, data: bytes, now: float) -> bool:
        final = parse_final_untrusted(data)
        for attempt in self._attempts:
            if not attempt.proofs_sent or final.scid != attempt.peer_cid:
                continue
            if attempt.verify_final(data):
                self._conclude(attempt, data, now)
            else:
                self._remember(attempt, AuthenticationError(self._wrong_seed()), now)
            return True
        return False

    def _receive_retry_untrusted(self, data: bytes, now: float) -> bool:
        retry = parse_retry_untrusted(data)
        attempt = self._in_hello(retry.nonce_i)
        if attempt is None or attempt.retried or retry.version != attempt.version:
            return False
        attempt.retried = True
        attempt.write_hello(retry.token)
        self._say_hello(attempt, now)
        return True

    def _receive_versions_untrusted(self, data: bytes, now: float) -> bool:
        message = parse_versions_untrusted(data)
        attempt = self._in_hello(message.nonce_i)
        if attempt is None or attempt.versioned or attempt.version in message.versions:
            # A peer that speaks our version would have answered: somebody else wrote this.
            return False
        attempt.versioned = True
        version = choose_version(self._setup.versions, message.versions)
        if version is None:
            self._remember(attempt, VersionError("the peer speaks none of our protocol versions"), now)
        else:
            attempt.version = version
            attempt.write_hello(self._token)
            self._say_hello(attempt, now)
        return True

    def _receive_reject_untrusted(self, data: bytes, now: float) -> bool:
        reject = parse_reject_untrusted(data)
        for attempt in self._attempts:
            if attempt.rejected_by(reject.echo):
                self._remember(attempt, self._reject_error(reject.code), now)
                return True
        return False

    def _in_hello(self, nonce_i: bytes) -> Attempt | None:
        """The attempt with this nonce, if no CHALLENGE came to it yet."""
        for attempt in self._attempts:
            if attempt.proof is None and hmac.compare_digest(attempt.nonce_i, nonce_i):
                return attempt
        return None

    # What goes out.

    def _begin(self, now: float) -> None:
        attempt = Attempt(self._setup, self._token)
        self._attempts.append(attempt)
        self._begun += 1
        self._say_hello(attempt, now)

    def _say_hello(self, attempt: Attempt, now: float) -> None:
        """Send the current HELLO for the first time."""
        attempt.repeats = 0
        attempt.interval = FIRST_WAIT
        attempt.next_at = now + attempt.interval if self._setup.padded else math.inf
        self._out.append(attempt.hello(now))

    def _release(self, attempt: Attempt, now: float) -> None:
        """Send the AUTH_PROOF for the first time, if the target's budget allows."""
        if now > attempt.challenged_at + COOKIE_LIFE:
            attempt.drop_unsent_proof()
            self._say_hello(attempt, now)
            return
        if not self._allow_proof(now):
            self._starved = True
            attempt.next_at = now + BUDGET_POLL
            return
        attempt.repeats = 0
        attempt.wait = attempt.interval = max(FIRST_WAIT, attempt.wait)
        attempt.next_at = now + attempt.interval if self._setup.padded else math.inf
        self._out.append(attempt.send_proof(now))

    def _repeat(self, attempt: Attempt, now: float) -> None:
        if attempt.verdict is not None:
            self._doubt(attempt, now)
            return
        if attempt.proof is None:
            got_somewhere = attempt.retried
            self._out.append(attempt.hello(now))
        elif not attempt.proofs_sent:
            self._release(attempt, now)
            return
        else:
            got_somewhere = True
            if now <= attempt.challenged_at + COOKIE_LIFE:
                self._out.append(attempt.send_proof(now))
        attempt.repeats += 1
        attempt.interval = min(2 * attempt.interval, max(attempt.interval, LONGEST_WAIT))
        attempt.next_at = now + attempt.interval
        # The cookie may have been corrupted on its way here, our proof on its way there, or the peer have started
        # anew: more of the same would not help.
        if got_somewhere and attempt.repeats >= PATIENCE and self._begun < MAX_ATTEMPTS and self._undecided():
            self._begin(now)

    def _undecided(self) -> bool:
        return all(attempt.verdict is None for attempt in self._attempts)

    # How it ends.

    def _remember(self, attempt: Attempt, error: STTError, now: float) -> None:
        """Keep an error that anybody might have caused, and give the truth some more chances to arrive."""
        if attempt.verdict is not None:
            return
        if not self._setup.padded:
            self._fail(error)
            return
        attempt.verdict = error
        if attempt.proof is None:
            attempt.wait = max(FIRST_WAIT, 2 * attempt.silence(now))
        attempt.repeats = 0
        self._doubt(attempt, now)

    def _doubt(self, attempt: Attempt, now: float) -> None:
        """Send once more what the remembered error answered; after the last time, wait as long as an answer takes."""
        self._out.append(attempt.hello(now) if attempt.proof is None else attempt.send_proof(now))
        attempt.repeats += 1
        if attempt.repeats < DOUBTS:
            attempt.next_at = now + attempt.wait / 2
        else:
            attempt.next_at = math.inf
            attempt.verdict_at = now + attempt.wait

    def _conclude(self, attempt: Attempt, data: bytes, now: float) -> None:
        """The peer holds the seed. Is it also who it should be?"""
        self.peer_verified = True
        setup = self._setup
        try:
            peer = attempt.open_final_untrusted(data)
            grant = attempt.grant_untrusted(peer)
        except Violation as violation:
            self._fail(AuthenticationError(f"the peer holds the seed, but {violation.reason}"))
            return
        if peer.node_id == setup.config.node_id:
            self._fail(AuthenticationError("the peer has our own node id: is this an address of our own?"))
        elif setup.peer_node_id is not None and peer.node_id != setup.peer_node_id:
            self._fail(AuthenticationError("the peer holds the seed, but has another node id than the one named"))
        elif self._peer_key is not None and peer.identity_key != self._peer_key:
            reason = "the peer holds the seed, but not the identity key it should have"
            expected, found = self._peer_key, peer.identity_key
            self._fail(PeerKeyError(reason, node_id=peer.node_id, expected=expected, found=found))
        elif (refusal := pin_error(setup.config.pins, peer)) is not None:
            self._fail(refusal)
        else:
            self.result = attempt.result(peer, grant, now)
            self._release_memory()

    def _fail(self, error: STTError) -> None:
        self.failure = error
        self._release_memory()

    def _release_memory(self) -> None:
        self._attempts.clear()
        self._out.clear()

    def _reject_error(self, code: RejectCode) -> STTError:
        match code:
            case RejectCode.BUSY:
                return PeerBusyError("the peer declined for now: its session table or its failure budget is full")
            case RejectCode.REFUSED:
                return ConnectionRefusedError("the peer refused us")
        return AuthenticationError(self._wrong_seed())

    def _wrong_seed(self) -> str:
        if self._setup.peer_node_id is None:
            return "the peer does not hold the same shared seed"
        return "the peer does not hold the same shared seed, or is not the peer named"

    def _timeout_error(self) -> STTError:
        text = f"no valid answer within {self._timeout:g} s"
        if any(attempt.verdict is not None for attempt in self._attempts):
            text += "; it was turned down, with no time left to see whether by the peer itself"
        elif self._starved and self.waiting_for_budget:
            text += "; too many connects to that host proved nothing lately, so no more proofs go there for now"
        elif self.challenged:
            text += "; somebody answered, but never proved to hold the seed"
        return ConnectionTimeoutError(text, challenged=self.challenged)
