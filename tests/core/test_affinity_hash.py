"""The hash of likeness: alike in its first four bytes where the content is alike, distinct in the rest."""

from __future__ import annotations

from random import Random

import pytest

from stt_core import ConfigurationError, affinity_hash
from stt_core.affinity.likeness import WINDOW, WINDOWS


def text(rng: Random, lines: int) -> list[bytes]:
    return [b" ".join(rng.randbytes(3).hex().encode() for _ in range(8)) + b"\n" for _ in range(lines)]


def apart(one: bytes, other: bytes) -> int:
    """Bits in which the first four bytes differ."""
    return (int.from_bytes(one[:4], "big") ^ int.from_bytes(other[:4], "big")).bit_count()


def test_it_is_32_bytes_and_says_the_same_twice_on_every_machine() -> None:
    assert affinity_hash(b"the same content").hex() == (
        "a89cb89a39df01fc759879193f6ba641e95965df05ae5031fa82e062b439c1e8"
    )
    assert affinity_hash(b"", group="film").hex() == "f3ec10ad7a9bd8fb9bb521e9ad37b088d1c311c8c1339c3c360093ad31248693"


@pytest.mark.parametrize("lines", [40, 400, 3000])
def test_a_changed_text_stays_near(lines: int) -> None:
    rng = Random(lines)
    for _ in range(5):
        before = text(rng, lines)
        after = list(before)
        for _ in range(max(1, lines // 50)):
            after[rng.randrange(lines)] = text(rng, 1)[0]
        after[lines // 3 : lines // 3] = text(rng, 2)
        assert apart(affinity_hash(b"".join(before)), affinity_hash(b"".join(after))) <= 8
        assert affinity_hash(b"".join(before))[4:] != affinity_hash(b"".join(after))[4:]


def test_unrelated_texts_are_about_16_bits_apart() -> None:
    rng = Random(1)
    hashes = [affinity_hash(b"".join(text(rng, 50))) for _ in range(40)]
    distances = [apart(one, other) for index, one in enumerate(hashes) for other in hashes[:index]]
    assert 15 < sum(distances) / len(distances) < 17
    assert sum(distance <= 8 for distance in distances) < 0.02 * len(distances)


def test_what_is_repeated_has_one_vote() -> None:
    rng = Random(2)
    one, other = (b"".join(text(rng, 20)) for _ in range(2))
    padding = b" " * 10_000
    assert apart(affinity_hash(one + padding), affinity_hash(other + padding)) > 8
    assert apart(affinity_hash(one + padding), affinity_hash(one)) <= 2


def test_of_long_content_a_part_is_read_and_that_is_enough() -> None:
    rng = Random(4)
    before = rng.randbytes(4 * WINDOWS * WINDOW)
    after = before[:100_000] + b"inserted" + before[100_000:]
    assert apart(affinity_hash(before), affinity_hash(after)) <= 8
    assert affinity_hash(before)[4:] != affinity_hash(after)[4:]


@pytest.mark.parametrize("size", range(10))
def test_content_shorter_than_a_shingle_has_a_hash_too(size: int) -> None:
    assert len(affinity_hash(b"x" * size)) == 32
    assert affinity_hash(b"x" * size) != affinity_hash(b"x" * (size + 1))


def test_a_group_puts_its_content_in_one_place() -> None:
    one, other = affinity_hash(b"one", group="film"), affinity_hash(b"other", group=b"film")
    assert one[:4] == other[:4] != affinity_hash(b"one", group="song")[:4]
    assert one[4:] != other[4:]
    with pytest.raises(ConfigurationError, match="group is 7"):
        affinity_hash(b"", group=7)  # type: ignore[arg-type]
