"""The key schedule against the project's vectors, those against a second implementation, HKDF against its RFC."""

from __future__ import annotations

import hmac
import json
from pathlib import Path

import pytest

from stt_core import cpace, keys
from stt_core.keys import SessionSecrets, TrafficKeys, cid_mask, expand, extract, handshake_keys, hkdf_expand
from stt_core.types import Role
from tests.core import key_schedule_reference as reference
from tests.core.toy import ToyCrypto

_FILE = json.loads((Path(__file__).parents[1] / "vectors" / "key_schedule.json").read_text())
GIVEN, HANDSHAKE, SESSION = (
    {name: bytes.fromhex(value) for name, value in _FILE[section].items()}
    for section in ("inputs", "handshake", "session")
)
SIDES = [(Role.INITIATOR, "i"), (Role.RESPONDER, "r")]


def test_vectors_are_what_the_second_implementation_says() -> None:
    assert reference.vectors() == _FILE


@pytest.mark.parametrize("size", [0, 1, 16, 32, 63, 64, 65, 200])
def test_mac_is_the_hmac_of_the_standard_library(size: int) -> None:
    key = bytes(range(size))
    for text in (b"", b"text", bytes(range(256)) * 5):
        assert keys.mac(key, text) == hmac.digest(key, text, "sha256")


def test_isk_from_seed_and_nonces() -> None:
    crypto = ToyCrypto()
    session_id = GIVEN["nonce_i"] + GIVEN["nonce_r"]
    assert keys.lv(b"STT1", GIVEN["responder_node_id"]) == HANDSHAKE["ci"]
    assert keys.lv(b"STT1", b"") == HANDSHAKE["ci_unnamed"]
    g = cpace.generator(GIVEN["seed"], HANDSHAKE["ci"], session_id, bytes)
    assert g == HANDSHAKE["generator"]
    ya, yb = cpace.share(crypto.x25519(GIVEN["scalar_i"]), g), cpace.share(crypto.x25519(GIVEN["scalar_r"]), g)
    assert (ya, yb) == (HANDSHAKE["share_i"], HANDSHAKE["share_r"])
    assert cpace.shared_key(crypto.x25519(GIVEN["scalar_i"]), yb, session_id, ya, yb) == HANDSHAKE["isk"]
    assert cpace.shared_key(crypto.x25519(GIVEN["scalar_r"]), ya, session_id, ya, yb) == HANDSHAKE["isk"]


def test_transcript_hashes_and_confirmations() -> None:
    th1 = keys.transcript_hash("th1", GIVEN["hello"], GIVEN["challenge_89"])
    assert th1 == HANDSHAKE["th1"]
    ours = handshake_keys(HANDSHAKE["isk"], th1)
    th2 = keys.transcript_hash("th2", th1, GIVEN["auth_proof_without_ta"])
    ta = keys.confirmation(ours.confirm_i, th2)
    th3 = keys.transcript_hash("th3", th2, ta, GIVEN["final_without_tb"])
    tb = keys.confirmation(ours.confirm_r, th3)
    assert (th2, ta, th3, tb) == tuple(HANDSHAKE[name] for name in ("th2", "ta", "th3", "tb"))


@pytest.mark.parametrize("name", ["confirm_i", "confirm_r", "sealed_i", "sealed_r"])
def test_handshake_keys(name: str) -> None:
    assert getattr(handshake_keys(HANDSHAKE["isk"], HANDSHAKE["th1"]), name) == HANDSHAKE[name]


def test_master_secret_fresh_and_resumed() -> None:
    ours = handshake_keys(HANDSHAKE["isk"], HANDSHAKE["th1"])
    assert ours.master(HANDSHAKE["th3"]) == HANDSHAKE["master"]
    assert ours.master(HANDSHAKE["th3"], GIVEN["rpsk"]) == HANDSHAKE["master_resumed"]


@pytest.mark.parametrize(("role", "letter"), SIDES)
def test_traffic_keys_through_an_update(role: Role, letter: str) -> None:
    traffic = SessionSecrets(HANDSHAKE["master"]).traffic(role)
    for phase in (0, 1):
        assert traffic.secret == SESSION[f"traffic_{letter}_{phase}"]
        assert traffic.key == SESSION[f"key_{letter}_{phase}"]
        assert traffic.iv == int.from_bytes(SESSION[f"iv_{letter}_{phase}"], "big")
        traffic = traffic.updated()


def test_secrets_that_outlast_the_keys() -> None:
    secrets = SessionSecrets(HANDSHAKE["master"])
    assert secrets.pn_mask_key == SESSION["pn_mask"]
    assert secrets.resumption == SESSION["resumption"]
    assert secrets.exporter == SESSION["exporter"]


@pytest.mark.parametrize(("role", "letter"), SIDES)
def test_cid_masks(role: Role, letter: str) -> None:
    mask = cid_mask(SESSION["pn_mask"], role, GIVEN["cid"])
    assert mask.cid == GIVEN["cid"]
    assert mask.mask == int.from_bytes(SESSION[f"mask_{letter}"], "big")
    assert bytes([mask.phase]) == SESSION[f"phase_mask_{letter}"]


def test_every_derived_key_differs_from_every_other() -> None:
    ours = handshake_keys(HANDSHAKE["isk"], HANDSHAKE["th1"])
    secrets = SessionSecrets(ours.master(HANDSHAKE["th3"]))
    found = [ours.confirm_i, ours.confirm_r, ours.sealed_i, ours.sealed_r, ours.master_secret]
    found += [secrets.pn_mask_key, secrets.resumption, secrets.exporter]
    for role in Role:
        traffic = secrets.traffic(role)
        for _ in range(3):
            found += [traffic.secret, traffic.key, traffic.iv.to_bytes(12, "big")]
            traffic = traffic.updated()
    assert len(set(found)) == len(found)


def test_label_and_context_can_not_be_shifted_into_each_other() -> None:
    assert expand(bytes(32), "ab", b"c") != expand(bytes(32), "a", b"bc")
    assert expand(bytes(32), "ab") != expand(bytes(32), "a", b"b")


def test_nothing_secret_is_shown() -> None:
    ours = handshake_keys(HANDSHAKE["isk"], HANDSHAKE["th1"])
    secrets = SessionSecrets(HANDSHAKE["master"])
    mask = cid_mask(SESSION["pn_mask"], Role.INITIATOR, GIVEN["cid"])
    shown = [repr(ours), repr(secrets), repr(secrets.traffic(Role.INITIATOR)), repr(TrafficKeys(bytes(32)))]
    assert shown == ["HandshakeKeys()", "<SessionSecrets>", "<TrafficKeys>", "<TrafficKeys>"]
    assert repr(mask) == "CidMask(cid=0123456789abcdef)"


# RFC 5869, appendix A.1 to A.3: ikm, salt, info, prk, okm.
RFC_5869 = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    (
        "0b" * 22,
        "",
        "",
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("ikm", "salt", "info", "prk", "okm"), RFC_5869)
def test_hkdf_gives_the_rfc_5869_results(ikm: str, salt: str, info: str, prk: str, okm: str) -> None:
    assert extract(bytes.fromhex(salt), bytes.fromhex(ikm)).hex() == prk
    assert hkdf_expand(bytes.fromhex(prk), bytes.fromhex(info), len(okm) // 2).hex() == okm


@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 65, 8160])
def test_shorter_output_is_a_prefix_of_longer(length: int) -> None:
    assert hkdf_expand(b"k" * 32, b"info", length) == hkdf_expand(b"k" * 32, b"info", 8160)[:length]


@pytest.mark.parametrize("length", [0, -1, 8161])
def test_lengths_that_hkdf_can_not_give(length: int) -> None:
    with pytest.raises(ValueError, match="8160"):
        hkdf_expand(b"k" * 32, b"info", length)
