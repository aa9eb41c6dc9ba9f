"""Two sides of a handshake and the attacker's chair between them, under virtual time.

Rule: every datagram goes through the test's hands. Entropy is a named, repeatable stream, so a failure replays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from stt_backends.pyca import PycaCrypto
from stt_core.config import EndpointConfig
from stt_core.handshake import Accepted, Initiator, Refused, Responder
from stt_core.parameters import TransportParameters
from stt_core.types import Entropy, Path

SEED = b"nine words nobody printed anywhere"
ALICE = b"Alice-of-the-handshake"
BOB = b"Bob-of-the-handshake"
PATH = Path("udp", ("203.0.113.7", 4433))
START = 1000.0
DELAY = 0.05
"""Seconds one way."""

CRYPTO = PycaCrypto()


def entropy_of(name: str) -> Entropy:
    """A stream of bytes that depends on the name alone."""
    drawn = 0

    def draw(n: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_256(f"{name}:{drawn}".encode()).digest(n)

    return draw


def seed_of(node_id: bytes) -> bytes:
    return hashlib.sha256(b"node seed of " + node_id).digest()


def config_of(node_id: bytes, **settings: Any) -> EndpointConfig:
    return EndpointConfig(**{"shared_seed": SEED, "node_id": node_id, "node_seed": seed_of(node_id)} | settings)


def alice(name: str = "alice", now: float = START, **settings: Any) -> Initiator:
    """An initiator. ``config`` replaces hers; anything else goes to the constructor."""
    entropy = settings.pop("entropy", None) or entropy_of(name)
    arguments: dict[str, Any] = {
        "config": config_of(ALICE),
        "crypto": CRYPTO,
        "entropy": entropy,
        "local_cid": hashlib.sha256(name.encode()).digest()[:8],
        "parameters": TransportParameters(initial_max_data=111, reset_token=b"a" * 16),
        "now": now,
    }
    return Initiator(**arguments | settings)


def bob(name: str = "bob", now: float = START, **settings: Any) -> Responder:
    """A responder. ``config`` replaces his; anything else goes to the constructor."""
    entropy = settings.pop("entropy", None) or entropy_of(name)
    arguments: dict[str, Any] = {
        "config": config_of(BOB),
        "crypto": CRYPTO,
        "entropy": entropy,
        "now": now,
        "new_cid": lambda: entropy(8),
        "parameters_for": lambda cid: TransportParameters(initial_max_data=222, reset_token=cid * 2),
    }
    return Responder(**arguments | settings)


def sent(initiator: Initiator, now: float = START) -> list[bytes]:
    """All that the initiator wants to send now."""
    return list(iter(lambda: initiator.poll_transmit(now), None))


def reply_of(responder: Responder, data: bytes, path: Path = PATH, now: float = START) -> bytes:
    """The datagram that answers this one; there must be one."""
    outcome = responder.receive_packet(data, path, now)
    if isinstance(outcome, Accepted):
        return outcome.final
    reply = outcome.reply if isinstance(outcome, Refused) else outcome
    assert reply is not None
    return reply


def hello_of(initiator: Initiator, now: float = START) -> bytes:
    (hello,) = sent(initiator, now)
    return hello


def proof_of(initiator: Initiator, responder: Responder, path: Path = PATH, now: float = START) -> bytes:
    """The AUTH_PROOF that comes of the first exchange."""
    initiator.receive_packet(reply_of(responder, hello_of(initiator, now), path, now), now)
    (proof,) = sent(initiator, now)
    return proof


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


Tamper = Callable[[bytes, int], bytes | None]
"""Given a datagram and how many went that way before: what arrives, or None."""


def untouched(data: bytes, _index: int) -> bytes | None:
    return data


class Wire:
    """Runs one initiator against one responder to the end, ``DELAY`` each way, both directions open to tampering.

    ``to_responder`` and ``to_initiator`` hold what was sent each way, before the tampering; ``accepted`` and
    ``refused`` what the responder reported.
    """

    def __init__(
        self,
        initiator: Initiator,
        responder: Responder,
        *,
        path: Path = PATH,
        forth: Tamper = untouched,
        back: Tamper = untouched,
        delay: float = DELAY,
    ) -> None:
        self.initiator = initiator
        self.responder = responder
        self.path = path
        self.now = START
        self.to_responder: list[bytes] = []
        self.to_initiator: list[bytes] = []
        self.accepted: list[Accepted] = []
        self.refused: list[Refused] = []
        self._forth = forth
        self._back = back
        self._delay = delay
        self._flying: list[tuple[float, int, bool, bytes]] = []
        self._launched = 0

    def run(self, until: float = 60.0) -> Wire:
        """Until the initiator is done; it must be within ``until`` seconds."""
        for _ in self._steps():
            if self.initiator.done:
                return self
            assert self.now < START + until, "the initiator neither succeeds nor gives up"
        raise AssertionError("nothing left to do, and not done")

    def _steps(self) -> Iterator[None]:
        while True:
            for data in sent(self.initiator, self.now):
                self._launch(data, self._forth(data, len(self.to_responder)), to_responder=True)
            yield
            self._flying.sort()
            timer = self.initiator.next_timer()
            assert timer is not None
            if self._flying and self._flying[0][0] <= timer:
                self.now, _, to_responder, data = self._flying.pop(0)
                self._arrive(data, to_responder=to_responder)
            else:
                self.now = max(self.now, timer)
                self.initiator.handle_timer(self.now)

    def _launch(self, data: bytes, arriving: bytes | None, *, to_responder: bool) -> None:
        (self.to_responder if to_responder else self.to_initiator).append(data)
        if arriving is not None:
            self._launched += 1
            self._flying.append((self.now + self._delay, self._launched, to_responder, arriving))

    def _arrive(self, data: bytes, *, to_responder: bool) -> None:
        if not to_responder:
            self.initiator.receive_packet(data, self.now)
            return
        outcome = self.responder.receive_packet(data, self.path, self.now)
        reply = outcome
        if isinstance(outcome, Accepted):
            self.accepted.append(outcome)
            reply = outcome.final
        elif isinstance(outcome, Refused):
            self.refused.append(outcome)
            reply = outcome.reply
        if isinstance(reply, bytes):
            self._launch(reply, self._back(reply, len(self.to_initiator)), to_responder=False)


def with_seed(node_id: bytes, seed: bytes, **settings: Any) -> EndpointConfig:
    return replace(config_of(node_id, **settings), shared_seed=seed)
