"""What a responder gives away instead of remembering: bound to a path, to a time, and to keys that die."""

from __future__ import annotations

import gc
import weakref

import pytest

from stt_core.crypto import ScalarMult
from stt_core.handshake.cookie import ADDRESS_TOKEN_LIFE, BOUND_SCALARS, AddressTokens, EpochKeys
from stt_core.packet import VERSION, AuthProof, Challenge
from stt_core.types import Path
from tests.handshake.pair import CRYPTO, PATH, entropy_of, flipped

NONCE = bytes(32)
BASE = (9).to_bytes(32, "little")
OTHER_PORT = Path("udp", ("203.0.113.7", 4434))
OTHER_HOST = Path("udp", ("203.0.113.8", 4433))
OTHER_TRANSPORT = Path("websocket", ("203.0.113.7", 4433))
CHALLENGE = Challenge(VERSION, b"dcid-of-", b"scid-of-", b"r" * 32, b"Y" * 32, suite=1, flags=1)
TH1 = b"t" * 32


def proof_with(cookie: bytes) -> AuthProof:
    return AuthProof(VERSION, b"scid-of-", b"dcid-of-", NONCE, b"r" * 32, 1, 1, cookie, b"Y" * 32, b"y" * 32)


def issue(keys: EpochKeys, now: float = 0.0, *, known: bool = False) -> bytes:
    return keys.issue(PATH, NONCE, CHALLENGE, TH1, now, known=known)


@pytest.mark.parametrize("known", [False, True])
def test_a_cookie_brings_back_what_it_was_made_of(known: bool) -> None:
    keys = EpochKeys(entropy_of("cookie"), CRYPTO.x25519)
    multiply = keys.scalar(NONCE, b"r" * 32, 5.0)
    found = keys.check(PATH, proof_with(issue(keys, 5.0, known=known)))
    assert found is not None
    assert (found.th1, found.known) == (TH1, known)
    assert found.scalar()(BASE) == multiply(BASE)
    assert found.issued_at == pytest.approx(5.0, abs=0.001)
    assert "scalar" not in repr(found)


@pytest.mark.parametrize(
    "change",
    [
        {"dcid": b"another-"},
        {"scid": b"another-"},
        {"nonce_i": b"n" * 32},
        {"nonce_r": b"n" * 32},
        {"suite": 2},
        {"flags": 0},
        {"yb": b"n" * 32},
    ],
)
def test_a_cookie_is_worth_nothing_in_another_handshake(change: dict[str, bytes | int]) -> None:
    keys = EpochKeys(entropy_of("cookie"), CRYPTO.x25519)
    proof = proof_with(issue(keys))
    assert keys.check(PATH, proof) is not None
    assert keys.check(PATH, proof._replace(**change)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [OTHER_PORT, OTHER_HOST, OTHER_TRANSPORT])
def test_a_cookie_is_worth_nothing_on_another_path(path: Path) -> None:
    keys = EpochKeys(entropy_of("cookie"), CRYPTO.x25519)
    assert keys.check(path, proof_with(issue(keys))) is None


def test_every_bit_of_a_cookie_is_covered() -> None:
    keys = EpochKeys(entropy_of("cookie"), CRYPTO.x25519)
    cookie = issue(keys)
    for bit in range(8 * len(cookie)):
        changed = bytearray(cookie)
        changed[bit // 8] ^= 1 << bit % 8
        assert keys.check(PATH, proof_with(bytes(changed))) is None, bit


def test_a_flow_label_does_not_make_another_path() -> None:
    keys = EpochKeys(entropy_of("cookie"), CRYPTO.x25519)
    one, two, other = (Path("udp", ("fe80::1", 1, flow, scope)) for flow, scope in ((0, 2), (9, 2), (0, 3)))
    token = keys.retry_token(one, NONCE, 0.0)
    assert keys.check_retry(token, two, NONCE, 0.0)
    assert not keys.check_retry(token, other, NONCE, 0.0)


def test_keys_are_made_when_needed_and_gone_after_a_minute() -> None:
    keys = EpochKeys(entropy_of("cookie"), CRYPTO.x25519)
    assert keys.next_timer() is None
    cookie = issue(keys, 100.0)
    assert keys.next_timer() == 130.0
    keys.expire(130.0)
    assert keys.check(PATH, proof_with(cookie)) is not None
    assert keys.next_timer() == 160.0
    keys.expire(160.0)
    assert keys.check(PATH, proof_with(cookie)) is None
    assert keys.next_timer() is None


def test_a_scalar_belongs_to_its_epoch() -> None:
    keys = EpochKeys(entropy_of("cookie"), CRYPTO.x25519)
    first, again, another = (keys.scalar(NONCE, NONCE, at)(BASE) for at in (0.0, 29.0, 30.0))
    assert first == again != another


def test_a_scalar_is_bound_once_and_forgotten_with_its_epoch_or_when_many_others_came() -> None:
    bound: list[bytes] = []

    def x25519(scalar: bytes) -> ScalarMult:
        bound.append(scalar)
        return CRYPTO.x25519(scalar)

    keys = EpochKeys(entropy_of("cookie"), x25519)
    keys.scalar(NONCE, b"r" * 32, 0.0)
    found = keys.check(PATH, proof_with(issue(keys)))
    assert found is not None
    assert len(bound) == 1
    found.scalar()
    assert len(bound) == 1
    for number in range(BOUND_SCALARS):
        keys.scalar(NONCE, number.to_bytes(32, "big"), 1.0)
    found.scalar()
    assert len(bound) == 1 + BOUND_SCALARS + 1
    assert bound[-1] == bound[0]
    kept = weakref.ref(found.scalar())
    del found
    keys.expire(30.0)
    assert kept() is not None
    keys.expire(60.0)
    gc.collect()
    assert kept() is None


def test_key_ids_go_round_and_old_cookies_do_not_come_back() -> None:
    keys = EpochKeys(entropy_of("cookie"), CRYPTO.x25519)
    first = issue(keys, 0.0)
    for epoch in range(1, 129):
        again = issue(keys, 30.0 * epoch)
    assert again[0] == first[0]
    assert keys.check(PATH, proof_with(first)) is None


def test_a_retry_token_is_for_one_path_one_nonce_and_ten_seconds() -> None:
    keys = EpochKeys(entropy_of("cookie"), CRYPTO.x25519)
    token = keys.retry_token(PATH, NONCE, 25.0)
    assert len(token) == 21
    assert keys.check_retry(token, PATH, NONCE, 34.9)
    assert not keys.check_retry(token, PATH, NONCE, 35.1)
    assert not keys.check_retry(token, PATH, b"n" * 32, 25.0)
    assert not keys.check_retry(token, OTHER_PORT, NONCE, 25.0)
    assert not keys.check_retry(token[:-1] + b"\0", PATH, NONCE, 25.0)
    assert not keys.check_retry(b"", PATH, NONCE, 25.0)


def test_an_address_token_is_for_one_host_on_any_port_for_a_day() -> None:
    tokens = AddressTokens(entropy_of("token"))
    token = tokens.issue(PATH, 50.0)
    assert len(token) == 45
    for path in (PATH, OTHER_PORT, OTHER_TRANSPORT):
        assert tokens.check(token, path, 50.0)
    assert not tokens.check(token, OTHER_HOST, 50.0)
    assert tokens.check(token, PATH, 50.0 + ADDRESS_TOKEN_LIFE - 1)
    assert not tokens.check(token, PATH, 50.0 + ADDRESS_TOKEN_LIFE)
    assert not tokens.check(bytes(45), PATH, 50.0)


def test_address_tokens_of_one_second_have_nothing_in_common_that_tells_them_from_others() -> None:
    tokens = AddressTokens(entropy_of("token"))
    tokens.issue(PATH, 0.0)
    now, later = ([tokens.issue(PATH, at) for _ in range(50)] for at in (100.0, 200.0))
    for field in (slice(1, 9), slice(9, 13), slice(13, 45)):
        assert len({token[field] for token in now + later}) == 100, "an age in the clear would be two values"
    assert len({token[0] for token in now + later}) == 1
    assert all(tokens.check(token, PATH, 200.0) for token in now + later)


def test_every_bit_of_an_address_token_is_covered() -> None:
    tokens = AddressTokens(entropy_of("token"))
    token = tokens.issue(PATH, 50.0)
    for bit in range(8 * len(token)):
        assert not tokens.check(flipped(token, bit), PATH, 50.0), bit


def test_an_address_token_outlives_the_change_of_its_key() -> None:
    tokens = AddressTokens(entropy_of("token"))
    tokens.issue(PATH, 0.0)
    late = tokens.issue(PATH, ADDRESS_TOKEN_LIFE - 10)
    newer = tokens.issue(PATH, ADDRESS_TOKEN_LIFE + 10)
    assert newer[0] != late[0]
    assert tokens.check(late, PATH, 2 * ADDRESS_TOKEN_LIFE - 20)
    assert not tokens.check(late, PATH, 2 * ADDRESS_TOKEN_LIFE)


def test_another_process_takes_none_of_ours() -> None:
    ours, theirs = EpochKeys(entropy_of("ours"), CRYPTO.x25519), EpochKeys(entropy_of("theirs"), CRYPTO.x25519)
    issue(theirs)
    assert theirs.check(PATH, proof_with(issue(ours))) is None
    tokens = AddressTokens(entropy_of("theirs"))
    tokens.issue(PATH, 0.0)
    assert not tokens.check(AddressTokens(entropy_of("ours")).issue(PATH, 0.0), PATH, 0.0)
