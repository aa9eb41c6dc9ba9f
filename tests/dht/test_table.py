"""k-buckets: who gets in, who stays, who is asked about."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from stt_core.dht.ids import DHTNode, Neighbourhoods, as_number
from stt_core.dht.table import RoutingTable, load_untrusted
from stt_core.errors import Violation

OWN = bytes(32)


def far(number: int, host: str | None = None) -> DHTNode:
    """One in the farthest bucket, by default in a /24 of its own."""
    node_id = bytes((128,)) + blake2b(b"%d" % number, digest_size=31).digest()
    return DHTNode(node_id, host or f"10.{number >> 8}.{number & 255}.1", 9337)


def table(k: int = 4, exempt: tuple[str, ...] = ()) -> RoutingTable:
    return RoutingTable(OWN, k, 2, Neighbourhoods(exempt))


def test_a_full_bucket_keeps_whom_it_has_and_says_whom_to_ask() -> None:
    t = table()
    for number in range(4):
        assert t.answered(far(number), float(number), 100.0) is None
    assert t.answered(far(9), 50.0, 100.0) is None, "all have been heard of lately"
    doubtful = t.answered(far(9), 110.0, 100.0)
    assert doubtful is not None
    assert doubtful.node == far(0)
    assert t.contact(far(9).node_id) is None
    assert len(t) == 4


def test_who_answers_stays_and_who_is_silent_makes_room_for_the_latest_that_waits() -> None:
    t = table()
    for number in range(4):
        t.answered(far(number), 0.0, 100.0)
    t.answered(far(8), 1.0, 100.0)
    t.answered(far(9), 2.0, 100.0)
    t.failed(far(0).node_id)
    assert t.wants(far(8), 3.0) is not t.wants(far(0), 3.0)
    t.answered(far(0), 3.0, 100.0)
    t.failed(far(0).node_id)
    assert t.contact(far(0).node_id) is not None, "one answer makes up for one failure"
    t.failed(far(0).node_id)
    assert t.contact(far(0).node_id) is None
    assert t.contact(far(9).node_id) is not None
    assert len(t) == 4


def test_of_one_neighbourhood_two_get_in() -> None:
    t = table()
    for number in range(4):
        t.answered(far(number, f"10.0.0.{number + 1}"), 0.0, 100.0)
    assert len(t) == 2
    assert not t.wants(far(5, "10.0.0.77"), 0.0)
    assert t.wants(far(5, "10.0.1.77"), 0.0)


def test_the_limit_is_by_56_bits_of_ipv6_and_not_for_exempt_networks() -> None:
    t = table(exempt=("127.0.0.0/8",))
    for number in range(3):
        t.answered(far(number, f"2001:db8::{number}:1"), 0.0, 100.0)
    assert len(t) == 2
    for number in range(3, 6):
        t.answered(far(number, f"127.0.0.{number}"), 0.0, 100.0)
    assert len(t) == 4


def test_a_contact_does_not_move_to_another_address_while_it_answers() -> None:
    t = table()
    t.answered(far(1), 0.0, 100.0)
    t.answered(DHTNode(far(1).node_id, "10.9.9.9", 9337), 1.0, 100.0)
    assert t.closest(OWN, 9) == [far(1)]


def test_the_nearest_come_first_and_the_doubtful_not_at_all() -> None:
    t = table(k=20)
    nodes = [DHTNode(blake2b(b"%d" % number).digest()[:32], f"10.0.{number}.1", 1) for number in range(40)]
    for node in nodes:
        t.answered(node, 0.0, 100.0)
    known = [contact.node for contact in t]
    target = blake2b(b"target").digest()[:32]
    expected = sorted(known, key=lambda node: as_number(node.node_id) ^ as_number(target))
    assert t.closest(target, 7) == expected[:7]
    t.failed(expected[0].node_id)
    assert t.closest(target, 6) == expected[1:7]


def test_itself_it_does_not_know() -> None:
    t = table()
    t.answered(DHTNode(OWN, "10.0.0.1", 1), 0.0, 100.0)
    assert len(t) == 0
    assert not t.wants(DHTNode(OWN, "10.0.0.1", 1), 0.0)


def test_ids_for_a_refresh_lie_in_the_bucket() -> None:
    t = table()
    for distance in (1, 2, 100, 255, 256):
        target = t.id_at(distance, blake2b(b"noise", digest_size=32).digest())
        assert as_number(target).bit_length() == distance
    t.answered(far(1), 0.0, 100.0)
    assert t.untouched(0.0) == [256]
    t.touch(far(2).node_id, 5.0)
    assert t.untouched(4.0) == []


def test_a_table_is_saved_without_loss_and_damage_is_noticed() -> None:
    t = table(k=20)
    for number in range(10):
        t.answered(far(number, f"2001:db8:{number}::1" if number % 2 else None), float(number), 100.0)
    saved = t.dump()
    assert list(load_untrusted(saved)) == [far(n, f"2001:db8:{n}::1" if n % 2 else None) for n in reversed(range(10))]
    for damaged in (saved[:-1], saved + b"\0", b"x" + saved, b""):
        with pytest.raises(Violation):
            load_untrusted(damaged)
