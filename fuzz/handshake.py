"""Target: a whole handshake with somebody on the path who changes, drops, repeats and invents datagrams."""

from __future__ import annotations

from typing import Final

from fuzz.entropy import entropy_of
from fuzz.reader import Reader
from stt_backends.pyca import PycaCrypto
from stt_core.config import EndpointConfig
from stt_core.handshake import Accepted, Initiator, Refused, Responder
from stt_core.packet import HandshakeType
from stt_core.parameters import TransportParameters
from stt_core.types import Path

START: Final = 1000.0
TIMEOUT: Final = 8.0
PATH: Final = Path("udp", ("203.0.113.7", 4433))

_CRYPTO: Final = PycaCrypto()
_SEEDS: Final = (b"a seed of the fuzzers", b"another seed of theirs")


class OnPath:
    """Decides what arrives instead of each datagram."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._seen: list[bytes] = []
        self.touched = False

    def __call__(self, data: bytes) -> list[bytes]:
        """The datagrams that arrive where ``data`` was sent."""
        self._seen.append(data)
        choice = self._reader.byte()
        if choice < 0x60:
            return [data]
        self.touched = True
        argument = choice & 0x1F
        if choice < 0x80:
            return []
        if choice < 0xA0:  # beside the genuine one, one that differs in some bytes
            return [self._patched(data, argument), data]
        if choice < 0xC0:  # instead of it
            return [self._patched(data, argument)]
        if choice < 0xE0:  # any type, any content behind a genuine header
            head = bytes((0xC0 | argument & 7,)) + data[1:21]
            return [head + self._reader.take(self._reader.short()), data]
        return [data[: self._reader.short()], self._seen[argument % len(self._seen)], data, data]

    def _patched(self, data: bytes, count: int) -> bytes:
        changed = bytearray(data)
        for _ in range(count + 1):
            changed[self._reader.short() % len(changed)] ^= self._reader.byte()
        return bytes(changed)


def target_handshake(data: bytes) -> None:
    """No exception and no session the two sides see differently; without interference, a session.

    The first byte: 1 the responder validates addresses, 2 it holds another seed, 4 the initiator names the peer.
    """
    reader = Reader(data)
    settings = reader.byte()
    same_seed = not settings & 2
    initiator = Initiator(
        config=EndpointConfig(_SEEDS[0], b"initiator"),
        crypto=_CRYPTO,
        entropy=entropy_of("initiator"),
        local_cid=b"cid of i",
        parameters=TransportParameters(reset_token=b"i" * 16),
        now=START,
        peer_node_id=b"responder" if settings & 4 else None,
        timeout=TIMEOUT,
    )
    responder = Responder(
        config=EndpointConfig(_SEEDS[settings >> 1 & 1], b"responder", validate_address=bool(settings & 1)),
        crypto=_CRYPTO,
        entropy=entropy_of("responder"),
        now=START,
        new_cid=lambda: b"cid of r",
        parameters_for=lambda cid: TransportParameters(reset_token=b"r" * 16),
    )
    on_path = OnPath(reader)
    accepted: list[Accepted] = []
    proofs: set[bytes] = set()
    now = START
    for _ in range(200):
        while (sent := initiator.poll_transmit(now)) is not None:
            if sent[0] & 0x3F == HandshakeType.AUTH_PROOF:
                proofs.add(sent)
            for arriving in on_path(sent):
                _answer(responder, arriving, accepted, on_path, initiator, now)
        if initiator.done:
            break
        at = initiator.next_timer()
        assert at is not None, "neither done nor waiting"
        now = max(now, at)
        initiator.handle_timer(now)
        responder.handle_timer(now)
    assert initiator.done, "the initiator neither succeeds nor gives up"
    assert now <= START + TIMEOUT + 1e-6
    assert len(proofs) <= 2
    result = initiator.result
    if result is None:
        assert initiator.failure is not None
        assert on_path.touched or not same_seed
    else:
        assert same_seed
        theirs = [other.result for other in accepted if other.result.master == result.master]
        assert [other.session_id for other in theirs] == [result.session_id]
        assert (theirs[0].peer_cid, theirs[0].local_cid) == (result.local_cid, result.peer_cid)


def _answer(
    responder: Responder, data: bytes, accepted: list[Accepted], on_path: OnPath, initiator: Initiator, now: float
) -> None:
    outcome = responder.receive_packet(data, PATH, now)
    if isinstance(outcome, Accepted):
        accepted.append(outcome)
        reply: bytes | None = outcome.final
    elif isinstance(outcome, Refused):
        reply = outcome.reply
    else:
        reply = outcome
    if reply is not None:
        for arriving in on_path(reply):
            initiator.receive_packet(arriving, now)
