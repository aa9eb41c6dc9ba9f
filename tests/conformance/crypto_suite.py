"""What :mod:`stt_core.crypto` promises, as checks that any provider can be put through.

Rule: a check takes a provider, returns nothing, and fails by an assertion. Call :func:`check_crypto` on your own
provider; ``PROMISES`` are the behaviours the core leans on, ``VECTORS`` the published results.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from stt_core.crypto import Crypto
from stt_core.types import Suite

Check = Callable[[Crypto], None]

TAG: Final = 16
NONCE: Final = bytes(range(12))
GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519 (RFC 8032 section 5.1)."""


def check_crypto(crypto: Crypto) -> None:
    """Put a provider through everything."""
    for check in PROMISES + VECTORS:
        check(crypto)


def low_order_points() -> tuple[list[bytes], list[bytes]]:
    """CPace's published points (draft-irtf-cfrg-cpace, B.1.10): those to refuse, and those that only look like it.

    The latter have bit 255 set, which RFC 7748 section 5 says to ignore, and are of high order without it.
    """
    path = Path(__file__).parents[1] / "vectors" / "cpace_x25519_sha512.json"
    points = [bytes.fromhex(point) for point in json.loads(path.read_text())["X25519_points"].values()]
    return [p for p in points if not p[31] & 0x80], [p for p in points if p[31] & 0x80]


# --- promises: X25519 ---


def x25519_agrees_from_both_sides(crypto: Crypto) -> None:
    base = (9).to_bytes(32, "little")
    a, b = bytes(range(32)), bytes(range(32, 64))
    assert crypto.x25519(a)(crypto.x25519(b)(base)) == crypto.x25519(b)(crypto.x25519(a)(base))


def x25519_raises_on_low_order_points(crypto: Crypto) -> None:
    refused, _ = low_order_points()
    assert len(refused) == 7
    multiply = crypto.x25519(bytes(range(32)))
    for point in refused:
        with pytest.raises(ValueError):  # noqa: PT011 - the message is the provider's own
            multiply(point)


def x25519_ignores_the_top_bit_of_a_point(crypto: Crypto) -> None:
    _, accepted = low_order_points()
    multiply = crypto.x25519(bytes(range(32)))
    for point in accepted:
        cleared = point[:31] + bytes([point[31] & 0x7F])
        assert multiply(point) == multiply(cleared)


def x25519_ignores_the_clamped_bits_of_a_scalar(crypto: Crypto) -> None:
    base = (9).to_bytes(32, "little")
    inner = bytes(range(1, 31))
    assert crypto.x25519(b"\x08" + inner + b"\x41")(base) == crypto.x25519(b"\x0f" + inner + b"\x81")(base)


def x25519_raises_on_wrong_lengths(crypto: Crypto) -> None:
    good = bytes(range(32))
    for scalar, point in ((good[:31], good), (good, good[:31]), (good + b"\0", good), (good, good + b"\0"), (b"", b"")):
        with pytest.raises(ValueError):  # noqa: PT011 - the message is the provider's own
            crypto.x25519(scalar)(point)


# --- promises: AEAD ---


def suites_are_distinct_and_there_is_one(crypto: Crypto) -> None:
    assert crypto.suites
    assert len(set(crypto.suites)) == len(crypto.suites)
    sealed = {crypto.aead(suite, bytes(32)).encrypt(NONCE, b"text", b"") for suite in crypto.suites}
    assert len(sealed) == len(crypto.suites)


def aead_takes_32_byte_keys_only(crypto: Crypto) -> None:
    for suite in crypto.suites:
        for size in (0, 16, 24, 31, 33):
            with pytest.raises(ValueError):  # noqa: PT011 - the message is the provider's own
                crypto.aead(suite, bytes(size))


def aead_opens_what_it_sealed(crypto: Crypto) -> None:
    for suite in crypto.suites:
        ours, theirs = crypto.aead(suite, b"k" * 32), crypto.aead(suite, b"k" * 32)
        for size in (0, 1, 15, 16, 17, 1171, 65443):
            text = bytes(i & 0xFF for i in range(size))
            sealed = ours.encrypt(NONCE, text, b"head")
            assert len(sealed) == size + TAG
            assert theirs.decrypt(NONCE, sealed, b"head") == text


def aead_is_a_function_of_its_inputs(crypto: Crypto) -> None:
    for suite in crypto.suites:
        aead = crypto.aead(suite, b"k" * 32)
        assert aead.encrypt(NONCE, b"text", b"head") == aead.encrypt(NONCE, b"text", b"head")
        assert aead.encrypt(NONCE, b"text", None) == aead.encrypt(NONCE, b"text", b"")


def aead_raises_invalid_tag_on_any_change(crypto: Crypto) -> None:
    for suite in crypto.suites:
        aead = crypto.aead(suite, b"k" * 32)
        sealed = aead.encrypt(NONCE, b"some text", b"head")
        for bit in range(8 * len(sealed)):
            flipped = (int.from_bytes(sealed, "big") ^ 1 << bit).to_bytes(len(sealed), "big")
            _refuses(crypto, aead.decrypt, NONCE, flipped, b"head")
        _refuses(crypto, aead.decrypt, bytes(12), sealed, b"head")
        _refuses(crypto, aead.decrypt, NONCE, sealed, b"heat")
        _refuses(crypto, aead.decrypt, NONCE, sealed, None)
        _refuses(crypto, aead.decrypt, NONCE, sealed + b"\0", b"head")
        _refuses(crypto, crypto.aead(suite, b"l" * 32).decrypt, NONCE, sealed, b"head")
        assert aead.decrypt(NONCE, sealed, b"head") == b"some text", "a forgery must leave the object usable"
        view = memoryview(bytearray(b"..." + sealed))[3:]
        assert aead.decrypt(NONCE, view, b"head") == b"some text", "a large packet is opened where it lies"


def aead_raises_invalid_tag_on_what_is_too_short_to_have_one(crypto: Crypto) -> None:
    for suite in crypto.suites:
        aead = crypto.aead(suite, b"k" * 32)
        sealed = aead.encrypt(NONCE, b"text", b"")
        for size in range(len(sealed)):
            _refuses(crypto, aead.decrypt, NONCE, sealed[:size], b"")


def a_forgery_amid_a_column_costs_itself_only(crypto: Crypto) -> None:
    """The receive path extends a list from ``map(decrypt, …)``: what came before a forgery must stay, and the rest
    of the map must go on after it.
    """
    for suite in crypto.suites:
        aead = crypto.aead(suite, b"k" * 32)
        nonces = [n.to_bytes(12, "big") for n in range(10)]
        heads = [b"head%d" % n for n in range(10)]
        texts = [b"text%d" % n for n in range(10)]
        sealed = list(map(aead.encrypt, nonces, texts, heads))
        forged = {0, 4, 5, 9}
        for n in forged:
            sealed[n] = bytes(len(sealed[n]))
        plains: list[bytes | None] = []
        opened = map(aead.decrypt, nonces, sealed, heads)
        for _ in range(len(forged) + 1):
            try:
                plains.extend(opened)
            except crypto.invalid_tag:
                plains.append(None)
        assert plains == [None if n in forged else text for n, text in enumerate(texts)]


def _refuses(
    crypto: Crypto,
    decrypt: Callable[[bytes, bytes, bytes | None], bytes],
    nonce: bytes,
    sealed: bytes,
    associated_data: bytes | None,
) -> None:
    with pytest.raises(crypto.invalid_tag):
        decrypt(nonce, sealed, associated_data)


# --- promises: signatures ---


def signatures_verify_under_the_right_key_and_message(crypto: Crypto) -> None:
    seed, message = bytes(range(32)), b"message"
    signer = crypto.ed25519(seed)
    public, signature = signer.public, signer.sign(message)
    assert (len(public), len(signature)) == (32, 64)
    assert crypto.ed25519_verify(public, signature, message)
    assert not crypto.ed25519_verify(public, signature, b"another")
    assert not crypto.ed25519_verify(crypto.ed25519(bytes(32)).public, signature, message)
    for bit in range(0, 512, 7):
        flipped = (int.from_bytes(signature, "big") ^ 1 << bit).to_bytes(64, "big")
        assert not crypto.ed25519_verify(public, flipped, message)


def ed25519_takes_32_byte_seeds_only(crypto: Crypto) -> None:
    for size in (0, 31, 33, 64):
        with pytest.raises(ValueError):  # noqa: PT011 - the message is the provider's own
            crypto.ed25519(bytes(size))


def malformed_signatures_are_false_and_raise_nothing(crypto: Crypto) -> None:
    seed = bytes(range(32))
    signer = crypto.ed25519(seed)
    public, signature = signer.public, signer.sign(b"message")
    for key in (b"", public[:31], public + b"\0", bytes(32), b"\xff" * 32):
        assert not crypto.ed25519_verify(key, signature, b"message")
    for made_up in (b"", signature[:63], signature + b"\0", bytes(64), b"\xff" * 64):
        assert not crypto.ed25519_verify(public, made_up, b"message")


PROMISES: Final[tuple[Check, ...]] = (
    x25519_agrees_from_both_sides,
    x25519_raises_on_low_order_points,
    x25519_ignores_the_top_bit_of_a_point,
    x25519_ignores_the_clamped_bits_of_a_scalar,
    x25519_raises_on_wrong_lengths,
    suites_are_distinct_and_there_is_one,
    aead_takes_32_byte_keys_only,
    aead_opens_what_it_sealed,
    aead_is_a_function_of_its_inputs,
    aead_raises_invalid_tag_on_any_change,
    aead_raises_invalid_tag_on_what_is_too_short_to_have_one,
    a_forgery_amid_a_column_costs_itself_only,
    signatures_verify_under_the_right_key_and_message,
    ed25519_takes_32_byte_seeds_only,
    malformed_signatures_are_false_and_raise_nothing,
)


# --- vectors ---


def x25519_gives_the_rfc_7748_results(crypto: Crypto) -> None:
    for scalar, point, result in (
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ):
        assert crypto.x25519(bytes.fromhex(scalar))(bytes.fromhex(point)).hex() == result


def x25519_iterated_gives_the_rfc_7748_results(crypto: Crypto) -> None:
    k = u = (9).to_bytes(32, "little")
    expected = {
        1: "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
        1000: "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
    }
    for n in range(1, 1001):
        k, u = crypto.x25519(k)(u), k
        if n in expected:
            assert k.hex() == expected[n]


def aes_256_gcm_gives_the_published_results(crypto: Crypto) -> None:
    """Test cases 13, 14 and 16 of the GCM specification (McGrew and Viega, appendix B)."""
    if Suite.AES_256_GCM not in crypto.suites:
        return
    _seals(crypto, Suite.AES_256_GCM, "00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b")
    sealed = "cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919"
    _seals(crypto, Suite.AES_256_GCM, "00" * 32, "00" * 12, "00" * 16, "", sealed)
    _seals(
        crypto,
        Suite.AES_256_GCM,
        "feffe9928665731c6d6a8f9467308308" * 2,
        "cafebabefacedbaddecaf888",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b",
    )


def chacha20_poly1305_gives_the_rfc_8439_result(crypto: Crypto) -> None:
    """RFC 8439 section 2.8.2."""
    if Suite.CHACHA20_POLY1305 not in crypto.suites:
        return
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    _seals(
        crypto,
        Suite.CHACHA20_POLY1305,
        bytes(range(0x80, 0xA0)).hex(),
        "070000004041424344454647",
        text.hex(),
        "50515253c0c1c2c3c4c5c6c7",
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
        "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
        "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
        "3ff4def08e4b7a9de576d26586cec64b6116"
        "1ae10b594f09e26a7e902ecbd0600691",
    )


def _seals(crypto: Crypto, suite: Suite, key: str, nonce: str, text: str, head: str, sealed: str) -> None:
    aead = crypto.aead(suite, bytes.fromhex(key))
    assert aead.encrypt(bytes.fromhex(nonce), bytes.fromhex(text), bytes.fromhex(head)).hex() == sealed
    assert aead.decrypt(bytes.fromhex(nonce), bytes.fromhex(sealed), bytes.fromhex(head)).hex() == text


# RFC 8032 section 7.1, tests 1 to 3: seed, public key, message, signature.
_ED25519: Final = (
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
)


def ed25519_gives_the_rfc_8032_results(crypto: Crypto) -> None:
    for row in _ED25519:
        seed, public, message, signature = map(bytes.fromhex, row)
        signer = crypto.ed25519(seed)
        assert signer.public == public
        assert signer.sign(message) == signature
        assert crypto.ed25519_verify(public, signature, message)


def ed25519_refuses_the_second_form_of_a_signature(crypto: Crypto) -> None:
    """RFC 8032 section 5.1.7: S must be below the group order, or each signature has a twin."""
    _, public, message, signature = map(bytes.fromhex, _ED25519[0])
    s = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    assert not crypto.ed25519_verify(public, signature[:32] + s.to_bytes(32, "little"), message)


VECTORS: Final[tuple[Check, ...]] = (
    x25519_gives_the_rfc_7748_results,
    x25519_iterated_gives_the_rfc_7748_results,
    aes_256_gcm_gives_the_published_results,
    chacha20_poly1305_gives_the_rfc_8439_result,
    ed25519_gives_the_rfc_8032_results,
    ed25519_refuses_the_second_form_of_a_signature,
)
