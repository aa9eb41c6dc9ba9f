"""The toy provider keeps the promises of a real one that core tests lean on."""

from __future__ import annotations

import pytest

from stt_core.crypto import Crypto
from stt_core.types import Suite
from tests.core.toy import ToyCrypto, ToyInvalidTag


def test_it_is_a_provider() -> None:
    crypto: Crypto = ToyCrypto()
    assert crypto.invalid_tag is ToyInvalidTag


def test_x25519_gives_the_rfc_7748_result() -> None:
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    expected = bytes.fromhex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
    assert ToyCrypto().x25519(scalar)(point) == expected


@pytest.mark.parametrize("point", [bytes(32), bytes([1]) + bytes(31)])
def test_x25519_refuses_low_order_points(point: bytes) -> None:
    with pytest.raises(ValueError, match="low-order"):
        ToyCrypto().x25519(bytes(range(32)))(point)


@pytest.mark.parametrize("suite", list(Suite))
def test_aead_opens_what_it_sealed_and_nothing_else(suite: Suite) -> None:
    aead = ToyCrypto().aead(suite, bytes(32))
    sealed = aead.encrypt(bytes(12), b"text", b"head")
    assert len(sealed) == 4 + 16
    assert aead.decrypt(bytes(12), sealed, b"head") == b"text"
    for bit in range(8 * len(sealed)):
        forged = (int.from_bytes(sealed, "big") ^ (1 << bit)).to_bytes(len(sealed), "big")
        with pytest.raises(ToyInvalidTag):
            aead.decrypt(bytes(12), forged, b"head")
    with pytest.raises(ToyInvalidTag):
        aead.decrypt(bytes(12), sealed, b"other head")
    with pytest.raises(ToyInvalidTag):
        aead.decrypt(bytes(11) + b"\1", sealed, b"head")
    with pytest.raises(ToyInvalidTag):
        ToyCrypto().aead(suite, bytes(31) + b"\1").decrypt(bytes(12), sealed, b"head")


def test_signatures_verify_under_the_right_key_only() -> None:
    crypto = ToyCrypto()
    signer = crypto.ed25519(b"s" * 32)
    signature = signer.sign(b"message")
    assert crypto.ed25519_verify(signer.public, signature, b"message")
    assert not crypto.ed25519_verify(crypto.ed25519(b"t" * 32).public, signature, b"message")
    assert not crypto.ed25519_verify(b"", b"", b"message")
