"""CPace against the published vectors, and the blinding of its map against everything it must not change."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from stt_core import cpace
from stt_core.cpace import (
    FIELD_PRIME,
    generator,
    generator_string,
    leb128,
    lv,
    map_to_curve,
    non_residue,
    share,
    shared_key,
)
from stt_core.types import Entropy
from tests.core.toy import ToyCrypto

_PUBLISHED = json.loads((Path(__file__).parents[1] / "vectors" / "cpace_x25519_sha512.json").read_text())
VECTOR = {name: bytes.fromhex(value) for name, value in _PUBLISHED["G_25519"].items()}
POINTS = {name: bytes.fromhex(value) for name, value in _PUBLISHED["X25519_points"].items()}
# The published points with bit 255 set decode, once that bit is ignored, to points of high order (the draft, B.1.10:
# u0 to u5 and u7 must abort, the others must give a result).
LOW_ORDER = [name for name, point in POINTS.items() if not point[31] & 0x80]
HIGH_ORDER = [name for name, point in POINTS.items() if point[31] & 0x80]


def noise(seed: int) -> Entropy:
    """Entropy that can be repeated."""
    return lambda n: hashlib.shake_256(b"noise%d" % seed).digest(n)


@pytest.fixture
def crypto() -> ToyCrypto:
    return ToyCrypto()


def test_generator_is_the_published_one() -> None:
    assert generator(VECTOR["PRS"], VECTOR["CI"], VECTOR["sid"], noise(0)) == VECTOR["g"]


@pytest.mark.parametrize("side", ["a", "b"])
def test_shares_are_the_published_ones(crypto: ToyCrypto, side: str) -> None:
    assert share(crypto.x25519(VECTOR["y" + side]), VECTOR["g"]) == VECTOR["Y" + side]


@pytest.mark.parametrize(("scalar", "point"), [("ya", "Yb"), ("yb", "Ya")])
def test_both_sides_reach_the_published_isk(crypto: ToyCrypto, scalar: str, point: str) -> None:
    shared_point = crypto.x25519(VECTOR[scalar])(VECTOR[point])
    assert shared_point == VECTOR["K"]
    transcript = cpace.transcript_ir(VECTOR["Ya"], VECTOR["ADa"], VECTOR["Yb"], VECTOR["ADb"])
    assert cpace.intermediate_key(VECTOR["sid"], shared_point, transcript) == VECTOR["ISK_IR"]
    assert hashlib.sha512(b"CPaceSidOutput" + transcript).digest() == VECTOR["sid_output_ir"]


def test_seven_of_the_published_points_are_to_be_refused() -> None:
    assert [int(name.removeprefix("Invalid Y")) for name in LOW_ORDER] == [0, 1, 2, 3, 4, 5, 7]


@pytest.mark.parametrize("name", LOW_ORDER)
def test_low_order_points_end_the_exchange(crypto: ToyCrypto, name: str) -> None:
    with pytest.raises(ValueError, match="low-order"):
        share(crypto.x25519(VECTOR["ya"]), POINTS[name])
    with pytest.raises(ValueError, match="low-order"):
        shared_key(crypto.x25519(VECTOR["ya"]), POINTS[name], VECTOR["sid"], VECTOR["Ya"], POINTS[name])
    with pytest.raises(ValueError, match="low-order"):
        shared_key(crypto.x25519(VECTOR["yb"]), POINTS[name], VECTOR["sid"], POINTS[name], VECTOR["Yb"])


@pytest.mark.parametrize("name", HIGH_ORDER)
def test_the_top_bit_of_a_point_is_ignored(crypto: ToyCrypto, name: str) -> None:
    point = POINTS[name]
    cleared = point[:31] + bytes([point[31] & 0x7F])
    assert share(crypto.x25519(VECTOR["ya"]), point) == share(crypto.x25519(VECTOR["ya"]), cleared) != bytes(32)


def test_same_password_gives_one_key_to_both_sides(crypto: ToyCrypto) -> None:
    a, b, session_id = bytes(range(32)), bytes(range(32, 64)), b"session"
    g_a = generator(b"seed", b"channel", session_id, noise(1))
    g_b = generator(b"seed", b"channel", session_id, noise(2))
    ya, yb = share(crypto.x25519(a), g_a), share(crypto.x25519(b), g_b)
    isk = shared_key(crypto.x25519(a), yb, session_id, ya, yb)
    assert isk == shared_key(crypto.x25519(b), ya, session_id, ya, yb)
    assert len(isk) == cpace.ISK_SIZE
    assert isk != shared_key(crypto.x25519(b), ya, b"another session", ya, yb)
    assert isk != shared_key(crypto.x25519(b), ya, session_id, yb, ya), "the roles are part of the transcript"


@pytest.mark.parametrize(
    "other",
    [(b"seed2", b"channel", b"session"), (b"seed", b"channel2", b"session"), (b"seed", b"channel", b"session2")],
)
def test_generator_depends_on_password_channel_and_session(other: tuple[bytes, bytes, bytes]) -> None:
    assert generator(*other, noise(0)) != generator(b"seed", b"channel", b"session", noise(0))


def test_parts_of_the_generator_string_can_not_be_shifted() -> None:
    assert generator_string(b"ab", b"c", b"d") != generator_string(b"a", b"bc", b"d")
    assert generator_string(b"a", b"bc", b"d") != generator_string(b"a", b"b", b"cd")


@pytest.mark.parametrize("size", [0, 1, 8, 116, 117, 118, 127, 128, 1024])
def test_zeros_fill_the_first_hash_block_after_the_password(size: int) -> None:
    text = generator_string(b"p" * size, b"", b"")
    before = lv(b"CPace255", b"p" * size)
    after = lv(b"", b"")
    assert text.startswith(before)
    assert text.endswith(after)
    padding = text[len(before) : -len(after)]
    assert not any(padding[1:])
    assert padding[0] == len(padding) - 1
    assert len(before) + len(padding) == max(128, len(before) + 1)


# --- the map ---


def plain_map(field_bytes: bytes) -> bytes:
    """Elligator 2 as the draft's appendix writes it, with no blinding."""
    p, a = FIELD_PRIME, 486662
    r = int.from_bytes(field_bytes, "little") % 2**255
    v = -a * pow(1 + 2 * r * r, p - 2, p) % p
    epsilon = pow(v**3 + a * v**2 + v, (p - 1) // 2, p)
    x = (epsilon * v - (1 - epsilon) * a * pow(2, p - 2, p)) % p
    return x.to_bytes(32, "little")


SPECIAL = [0, 1, 2, FIELD_PRIME - 1, FIELD_PRIME, FIELD_PRIME + 1, 2**255 - 1, 2**255, 2**256 - 1]


@pytest.mark.parametrize("value", SPECIAL)
def test_map_agrees_with_the_plain_formula_at_the_edges_of_the_field(value: int) -> None:
    field_bytes = value.to_bytes(32, "little")
    assert map_to_curve(field_bytes, noise(value % 7)) == plain_map(field_bytes)


def test_map_agrees_with_the_plain_formula_on_both_of_its_branches() -> None:
    on_curve = {False: 0, True: 0}
    for n in range(40):
        field_bytes = hashlib.sha256(b"element%d" % n).digest()
        mapped = map_to_curve(field_bytes, noise(n))
        assert mapped == plain_map(field_bytes)
        r = int.from_bytes(field_bytes, "little") % 2**255
        v = -486662 * pow(1 + 2 * r * r, -1, FIELD_PRIME) % FIELD_PRIME
        on_curve[v == int.from_bytes(mapped, "little")] += 1
    assert min(on_curve.values()) > 5


@pytest.mark.parametrize(
    "blinding",
    [
        bytes(65),
        bytes(64) + b"\x01",
        b"\xff" * 65,
        (FIELD_PRIME - 1).to_bytes(32, "little") * 2 + b"\x00",
        (FIELD_PRIME - 2).to_bytes(32, "little") * 2 + b"\x01",
    ],
)
def test_no_entropy_however_unlucky_changes_the_result(blinding: bytes) -> None:
    for n in range(8):
        field_bytes = hashlib.sha256(b"element%d" % n).digest()
        assert map_to_curve(field_bytes, lambda count: blinding[:count]) == plain_map(field_bytes)


def record_slow_steps(monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[tuple[int, int]]]:
    """What is inverted, and the operands and outcomes of the square test, from here on."""
    inverted: list[int] = []
    tested: list[tuple[int, int]] = []

    def recording_pow(base: int, exponent: int, modulus: int) -> int:
        assert exponent == -1
        inverted.append(base)
        return pow(base, exponent, modulus)

    def recording_non_residue(a: int) -> int:
        tested.append((a, non_residue(a)))
        return tested[-1][1]

    monkeypatch.setattr(cpace, "pow", recording_pow, raising=False)
    monkeypatch.setattr(cpace, "non_residue", recording_non_residue)
    return inverted, tested


def test_slow_steps_never_see_the_same_operand_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    inverted, tested = record_slow_steps(monkeypatch)
    for n in range(16):
        generator(b"one password", b"channel", b"session", noise(n))
    assert len(set(inverted)) == 16
    assert len({operand for operand, _ in tested}) == 16


def test_outcome_of_the_square_test_is_a_coin_toss(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tested = record_slow_steps(monkeypatch)
    for n in range(64):
        generator(b"one password", b"channel", b"session", noise(n))
    outcomes = [outcome for _, outcome in tested]
    assert set(outcomes) == {0, 1}
    assert 16 < outcomes.count(1) < 48


def test_square_test_agrees_with_eulers_criterion() -> None:
    values = [1, 2, 3, 4, 19, 20, 2**254, FIELD_PRIME - 1, FIELD_PRIME - 2, FIELD_PRIME - 19]
    values += [int.from_bytes(hashlib.sha256(b"element%d" % n).digest(), "little") % FIELD_PRIME for n in range(500)]
    for value in values:
        assert (pow(value, (FIELD_PRIME - 1) // 2, FIELD_PRIME) == 1) == (not non_residue(value)), value


# --- lengths ---


@pytest.mark.parametrize(
    ("n", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (300, "ac02"), (16383, "ff7f"), (16384, "808001")],
)
def test_leb128_is_the_shortest_form(n: int, encoded: str) -> None:
    assert leb128(n).hex() == encoded


def test_leb128_has_no_negative_numbers() -> None:
    with pytest.raises(ValueError, match="-1"):
        leb128(-1)


def test_lv_puts_the_length_before_each_part() -> None:
    assert lv() == b""
    assert lv(b"1234", b"5", b"", b"678") == b"\x041234\x015\x00\x03678"
    assert lv(bytes(200)) == b"\xc8\x01" + bytes(200)
