"""Targets: what a peer says about resuming, and the tickets and tokens that come back from where they were kept."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from stt_backends.pyca import PycaCrypto
from stt_core.durable import DurableSource, MemoryLog
from stt_core.errors import ConfigurationError, Violation
from stt_core.frames import ResumeState, parse_frames_untrusted
from stt_core.handshake.resume import Wish, parse_answer_untrusted, parse_offer_untrusted
from stt_core.resumption import Claims, TicketKey, TokenContent, open_ticket_untrusted, seal_ticket
from stt_core.resumption.continuity import ContinuityContent
from stt_core.streams.resuming import PeerState, encode_states, parse_entries_untrusted

_CRYPTO: Final = PycaCrypto()
_KEY: Final = TicketKey(b"name", b"k" * 32, 0.0)
_NONCE: Final = b"n" * 12
_WISH: Final = Wish(b"t" * 178, b"r" * 32, b"s" * 8, heir=b"h" * 32)
MOST: Final = 100


def target_resume_offer(data: bytes) -> None:
    """The TLV of AUTH_PROOF and that of FINAL: what is accepted is written the same way again."""
    with suppress(Violation):
        assert parse_offer_untrusted(data).encode() == data
    with suppress(Violation):
        assert parse_answer_untrusted(data).encode() == data
        _WISH.read_untrusted(data)


def target_resume_state(data: bytes) -> None:
    """A row of RESUME_STATE frames, in any order: bounded, and entries read back as they were."""
    with suppress(Violation):
        entries = parse_entries_untrusted(data)
        again = [frame for part in encode_states(entries) for frame in parse_frames_untrusted(part)]
        assert b"".join(frame.entries for frame in again if isinstance(frame, ResumeState)) == data
    state = PeerState(MOST)
    with suppress(Violation):
        for frame in parse_frames_untrusted(data):
            if isinstance(frame, ResumeState):
                state.receive(frame)
                assert len(state.entries) <= MOST


def target_ticket(data: bytes) -> None:
    """A ticket of ours comes back changed, and bytes that never were one. The first byte says where to change it."""
    claims = Claims(b"t" * 16, b"r" * 16, b"s" * 32, 1.0, 60, b"h" * 32, None, 7)
    ticket = bytearray(seal_ticket(_CRYPTO, _KEY, _NONCE, claims))
    if data:
        ticket[data[0] % len(ticket)] ^= data[-1]
    with suppress(Violation):
        assert open_ticket_untrusted(_CRYPTO, _KEY, bytes(ticket)) == claims
    with suppress(Violation):
        open_ticket_untrusted(_CRYPTO, _KEY, data)


def target_resumption_token(data: bytes) -> None:
    """A token as an application kept it: whole, or told to be damaged."""
    with suppress(ConfigurationError):
        assert TokenContent.of(data).seal() == data
    with suppress(ConfigurationError):
        assert ContinuityContent.of(data, b"the seed of a node").seal(b"the seed of a node") == data


def target_durable_positions(data: bytes) -> None:
    """What a peer says it has consumed, in pieces of a size: nothing is freed that wasn't sent."""
    log = MemoryLog()
    log.append(bytes(1000))
    log.release(10)
    source, size = DurableSource(log), max(1, data[0] if data else 1)
    sent = 0
    with suppress(Violation):
        for at in range(1, len(data), size):
            source.receive_untrusted(data[at : at + size])
            sent = max(sent, log.base) + len(source.next_chunk() or b"")
            assert 10 <= log.base <= max(sent, 10)
