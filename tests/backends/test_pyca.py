"""What is PyCA's own in the default provider. What every provider owes is in ``tests/conformance``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from stt_backends.pyca import PycaCrypto
from stt_core import cpace
from stt_core.crypto import Crypto
from stt_core.types import Suite
from tests.core.toy import ToyCrypto

_PUBLISHED = json.loads((Path(__file__).parents[1] / "vectors" / "cpace_x25519_sha512.json").read_text())
VECTOR = {name: bytes.fromhex(value) for name, value in _PUBLISHED["G_25519"].items()}


def test_it_is_a_provider() -> None:
    crypto: Crypto = PycaCrypto()
    assert crypto.invalid_tag is InvalidTag


def test_aes_comes_first() -> None:
    assert PycaCrypto().suites == (Suite.AES_256_GCM, Suite.CHACHA20_POLY1305)


@pytest.mark.parametrize(("suite", "kind"), [(Suite.AES_256_GCM, AESGCM), (Suite.CHACHA20_POLY1305, ChaCha20Poly1305)])
def test_hot_path_gets_the_library_object_itself(suite: Suite, kind: type) -> None:
    assert type(PycaCrypto().aead(suite, bytes(32))) is kind


def test_cpace_gives_the_published_shares_and_isk() -> None:
    crypto = PycaCrypto()
    g = cpace.generator(VECTOR["PRS"], VECTOR["CI"], VECTOR["sid"], bytes)
    assert cpace.share(crypto.x25519(VECTOR["ya"]), g) == VECTOR["Ya"]
    assert cpace.share(crypto.x25519(VECTOR["yb"]), g) == VECTOR["Yb"]
    point = crypto.x25519(VECTOR["ya"])(VECTOR["Yb"])
    assert point == crypto.x25519(VECTOR["yb"])(VECTOR["Ya"]) == VECTOR["K"]
    transcript = cpace.transcript_ir(VECTOR["Ya"], VECTOR["ADa"], VECTOR["Yb"], VECTOR["ADb"])
    assert cpace.intermediate_key(VECTOR["sid"], point, transcript) == VECTOR["ISK_IR"]


@pytest.mark.parametrize("name", [f"Invalid Y{n}" for n in (0, 1, 2, 3, 4, 5, 7)])
def test_low_order_shares_end_the_exchange_from_either_side(name: str) -> None:
    crypto = PycaCrypto()
    point = bytes.fromhex(_PUBLISHED["X25519_points"][name])
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the library's own
        cpace.shared_key(crypto.x25519(VECTOR["ya"]), point, VECTOR["sid"], VECTOR["Ya"], point)
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the library's own
        cpace.shared_key(crypto.x25519(VECTOR["yb"]), point, VECTOR["sid"], point, VECTOR["Yb"])


def test_x25519_agrees_with_the_ladder_the_core_is_tested_with() -> None:
    for n in range(20):
        scalar, point = (hashlib.sha256(b"%s%d" % (what, n)).digest() for what in (b"scalar", b"point"))
        assert PycaCrypto().x25519(scalar)(point) == ToyCrypto().x25519(scalar)(point)
