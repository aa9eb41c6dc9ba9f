"""The observer's tools find what is there and nothing else."""

from __future__ import annotations

import base64
import hashlib

import pytest

from stt_core.packet import HandshakeType
from tests.support.capture import connection_ids, find_leaks, handshake_type, looks_random, reused_nonces

SECRET = b"attack at dawn, from the north"


def noise(size: int, name: str = "") -> bytes:
    return hashlib.shake_128(name.encode()).digest(size)


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("plain", SECRET),
        ("plain", SECRET[7:15]),
        ("reversed", SECRET[::-1]),
        ("hex", SECRET.hex().encode()),
        ("HEX", SECRET.hex().upper().encode()),
        ("base64", base64.b64encode(SECRET)),
        ("base64", base64.b64encode(b"so " + SECRET + b" it is")),
        ("base64", base64.b64encode(b"I say " + SECRET)),
        ("sha256", hashlib.sha256(SECRET).digest()),
    ],
)
def test_a_secret_is_found_in_disguise(form: str, written: bytes) -> None:
    capture = [noise(1200), noise(500, "x") + written + noise(500, "y")]
    leaks = find_leaks(capture, {"the plan": SECRET})
    assert {(leak.name, leak.datagram) for leak in leaks} == {("the plan", 1)}
    assert form in {leak.form for leak in leaks}
    assert leaks[0].offset >= 500


def test_noise_holds_no_secret() -> None:
    assert find_leaks([noise(100_000)], {"the plan": SECRET}) == []


def test_a_secret_too_short_to_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="by chance"):
        find_leaks([], {"pin": b"1234"})


def test_ciphertext_looks_random_and_text_or_padding_does_not() -> None:
    assert looks_random(noise(50_000))
    assert not looks_random(SECRET * 1000)
    assert not looks_random(noise(50_000) + bytes(2000))


def test_datagrams_are_told_apart_and_give_up_their_ids() -> None:
    hello = b"\xc1STT1" + bytes(8) + b"initiatr" + bytes(300)
    packet = b"\x44responde" + noise(60)
    assert [handshake_type(data) for data in (hello, packet, b"", b"\xff")] == [HandshakeType.HELLO, None, None, None]
    assert connection_ids([hello, packet, b"\x40short"]) == {b"initiatr", b"responde"}


def test_two_texts_under_one_number_are_caught() -> None:
    header = b"\x40cid.cid.\0\0\0\7"
    other = b"\x40cid.cid.\0\0\0\x08"
    assert reused_nonces([header + noise(50), header + noise(50), other + noise(50)]) == []
    assert reused_nonces([header + noise(50), header + noise(50, "x")]) == [header[1:]]
