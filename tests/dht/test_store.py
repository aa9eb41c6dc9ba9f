"""What a node keeps for others: how much of it is whose, and who makes room for whom."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from stt_core.dht.records import Store
from stt_core.dht.shares import Shares
from stt_core.dht.wire import Provider, Record, Status

NOW = 1000.0
EXPIRES = 2000


def store(**settings: int) -> Store:
    return Store(**{"most_records": 80, "most_providers": 80, "most_of_one": 16, **settings}, lifetime=86_400.0)


def provider(number: int) -> Provider:
    return Provider(number.to_bytes(32, "big"), "192.0.2.1", 80, EXPIRES, b"", b"")


def record(number: int) -> Record:
    return Record(number.to_bytes(32, "big"), 1, EXPIRES, b"", b"", b"")


def target(number: int) -> bytes:
    return number.to_bytes(32, "little")


def test_a_crowd_from_one_place_makes_room_for_those_from_others() -> None:
    kept = store()
    crowd = [kept.add_provider(target(1), provider(number), "crowd", NOW) for number in range(10)]
    others = [kept.add_provider(target(1), provider(100 + number), number, NOW) for number in range(15)]
    assert set(crowd + others) == {Status.STORED}
    left = [int.from_bytes(each.public, "big") for each in kept.providers(target(1), NOW)]
    assert left == [9, *range(100, 115)], "the oldest of the crowd went"
    assert kept.add_provider(target(1), provider(200), "late", NOW) is Status.REFUSED, "nobody has more than another"
    assert len(kept) == 16


def test_so_it_is_over_all_contents() -> None:
    kept = store(most_providers=32)
    for source in range(8):
        for number in range(4):
            added = kept.add_provider(target(10 * source + number), provider(source), source, NOW)
            assert added is Status.STORED
    assert kept.add_provider(target(99), provider(99), "newcomer", NOW) is Status.STORED
    assert len(kept) == 32
    assert kept.providers(target(99), NOW) == [provider(99)]
    assert kept.add_provider(target(98), provider(0), 0, NOW) is Status.REFUSED, "it has three, and nobody five"
    assert kept.add_provider(target(97), provider(1), 1, NOW) is Status.REFUSED, "an eighth is all it may have"


def test_and_with_records() -> None:
    kept = store(most_records=16)
    for number in range(16):
        assert kept.add_record(record(number), number // 2, NOW) is Status.STORED
    assert kept.add_record(record(16), 0, NOW) is Status.REFUSED
    assert kept.add_record(record(17), "newcomer", NOW) is Status.STORED
    assert kept.record(record(0).target, NOW) is None
    assert len(kept) == 16


def test_what_is_over_leaves_no_share_behind() -> None:
    kept = store()
    for number in range(40):
        kept.add_provider(target(number), provider(number), number % 7, NOW)
        kept.add_record(record(number), number % 7, NOW)
    kept.expire(EXPIRES)
    assert len(kept) == len(kept._provider_shares) == len(kept._record_shares) == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_heaviest_is_found_as_by_counting(seed: int) -> None:
    rng = Random(seed)
    shares: Shares[int] = Shares()
    entries: list[tuple[str, int]] = []
    for number in range(2000):
        if entries and rng.random() < 0.45:
            source, entry = entries.pop(rng.randrange(len(entries)))
            shares.remove(source, entry)
        else:
            entries.append((rng.choice("abcdefgh"), number))
            shares.add(*entries[-1])
        counts = Counter(source for source, _ in entries)
        asking = rng.choice("abcdefghi")
        surplus = shares.surplus(asking)
        most = max(counts.values(), default=0)
        assert shares.count(asking) == counts[asking]
        if surplus is None:
            assert most < counts[asking] + 2
        else:
            owner = next(source for source, entry in entries if entry == surplus)
            assert counts[owner] == most
            assert surplus == min(entry for source, entry in entries if source == owner)
