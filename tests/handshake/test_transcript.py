"""The key schedule of a handshake, recomputed here from the published formulas with hashlib and hmac alone."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pytest

from stt_core.errors import Violation
from stt_core.handshake.transcript import Transcript, channel_id, first_hash, session_id
from stt_core.types import Suite
from tests.handshake.pair import CRYPTO

ISK = bytes(range(64))
HELLO = b"h" * 256
CHALLENGE = b"c" * 142
PROOF_HEAD = b"p" * 206
FINAL_HEAD = b"f" * 22


def lv(*parts: bytes) -> bytes:
    """Short or up to two bytes of LEB128: enough for all that is hashed here."""
    out = b""
    for part in parts:
        size = len(part)
        out += (bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))) + part
    return out


def derive(prk: bytes, label: str, context: bytes = b"") -> bytes:
    return hmac.digest(prk, lv(b"STT1 " + label.encode(), context) + b"\x01", "sha256")


def test_both_tags_and_the_master_secret_follow_the_published_formulas() -> None:
    th1 = hashlib.sha256(lv(b"STT1 th1", HELLO, CHALLENGE[:89])).digest()
    assert first_hash(HELLO, CHALLENGE) == th1
    hs = hmac.digest(th1, ISK, "sha256")
    transcript = Transcript(CRYPTO, Suite.AES_256_GCM, ISK, th1)

    proof = transcript.make_proof(PROOF_HEAD, b"from i".ljust(944, b"\0"))
    sealed = CRYPTO.aead(Suite.AES_256_GCM, derive(hs, "hs key i")).encrypt(
        bytes(12), b"from i".ljust(944, b"\0"), PROOF_HEAD
    )
    th2 = hashlib.sha256(lv(b"STT1 th2", th1, PROOF_HEAD + (960).to_bytes(2, "big") + sealed)).digest()
    ta = hmac.digest(derive(hs, "confirm i"), lv(th2), "sha256")
    assert proof == PROOF_HEAD + ta + (960).to_bytes(2, "big") + sealed

    final = transcript.make_final(FINAL_HEAD, b"from r".ljust(1128, b"\0"))
    sealed = CRYPTO.aead(Suite.AES_256_GCM, derive(hs, "hs key r")).encrypt(
        bytes(12), b"from r".ljust(1128, b"\0"), FINAL_HEAD
    )
    th3 = hashlib.sha256(lv(b"STT1 th3", th2, ta, FINAL_HEAD + (1144).to_bytes(2, "big") + sealed)).digest()
    tb = hmac.digest(derive(hs, "confirm r"), lv(th3), "sha256")
    assert final == FINAL_HEAD + tb + (1144).to_bytes(2, "big") + sealed

    assert transcript.master() == derive(derive(hs, "master"), "traffic master", th3)
    rpsk = b"r" * 32
    assert transcript.master(rpsk) == hmac.digest(transcript.master(), rpsk, "sha256")


def test_a_forged_final_in_between_does_not_change_what_the_right_one_gives() -> None:
    one, other = (Transcript(CRYPTO, Suite.CHACHA20_POLY1305, ISK, bytes(32)) for _ in range(2))
    assert other.verify_proof(one.make_proof(PROOF_HEAD, b"x" * 944))
    final = other.make_final(FINAL_HEAD, b"y" * 1128)
    assert not one.verify_final(final[:100] + b"\0" + final[101:])
    assert one.verify_final(final)
    assert one.master() == other.master()
    assert one.open_final_untrusted(final) == b"y" * 1128


def test_a_tag_that_verifies_over_a_text_that_does_not_open_is_a_violation() -> None:
    """Only a holder of the keys could make one, so nobody but a faulty peer does."""
    faulty, other = (Transcript(CRYPTO, Suite.AES_256_GCM, ISK, bytes(32)) for _ in range(2))
    faulty._keys = replace(faulty._keys, sealed_i=bytes(32))
    proof = faulty.make_proof(PROOF_HEAD, b"x" * 944)
    assert other.verify_proof(proof)
    with pytest.raises(Violation):
        other.open_proof_untrusted(proof)


def test_the_session_id_is_the_xor_of_nonces_and_hashed_ids() -> None:
    nonce_i, nonce_r = b"\x0f" * 32, b"\xf0" * 32
    a, b = (hashlib.sha256(name).digest() for name in (b"a", b"b"))
    expected = bytes(255 ^ x ^ y for x, y in zip(a, b, strict=True))[:8]
    assert session_id(nonce_i, nonce_r, b"a", b"b") == expected
    assert session_id(nonce_i, nonce_r, None, None) == b"\xff" * 8


def test_the_channel_names_the_responder_or_nobody() -> None:
    assert channel_id(b"Bob") == b"\x04STT1\x03Bob"
    assert channel_id(None) == b"\x04STT1\x00"


def test_nothing_secret_is_shown() -> None:
    assert repr(Transcript(CRYPTO, Suite.AES_256_GCM, ISK, bytes(32))) == "<Transcript>"
