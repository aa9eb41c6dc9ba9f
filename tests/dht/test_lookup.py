"""A look-up's bookkeeping: whom it asks, whom it believes, when it is over."""

from __future__ import annotations

from dataclasses import replace

from stt_core.dht.ids import DHTNode, Neighbourhoods
from stt_core.dht.lookup import PATIENCE, Lookup
from stt_core.dht.wire import Kind, Reply

TARGET = bytes(32)
ANSWER = Reply(Kind.FIND_NODE, b"t" * 8, b"k" * 32, ("10.0.0.1", 1))


def node(distance: int, place: int | None = None) -> DHTNode:
    place = distance if place is None else place
    return DHTNode(distance.to_bytes(32, "big"), f"10.{place >> 8}.{place & 255}.{distance & 255 or 1}", 9337)


def lookup(*start: DHTNode, k: int = 3, alpha: int = 2, most: int = 50) -> Lookup:
    return Lookup(
        Kind.FIND_NODE,
        TARGET,
        start,
        k=k,
        alpha=alpha,
        most_queries=most,
        per_prefix=2,
        neighbourhoods=Neighbourhoods(()),
    )


def naming(*nodes: DHTNode) -> Reply:
    return replace(ANSWER, nodes=nodes)


def test_it_asks_the_nearest_first_alpha_at_a_time() -> None:
    look = lookup(node(30), node(10), node(20))
    assert [look.next(), look.next(), look.next()] == [node(10), node(20), None]
    look.answered(node(10), naming(node(1)))
    assert look.next() == node(1)
    assert not look.over


def test_it_is_over_when_the_nearest_have_answered() -> None:
    look = lookup(node(10), k=2, alpha=1)
    asked = []
    names = {10: [5, 4, 3], 3: [4, 5, 9], 4: []}
    while not look.over:
        asking = look.next()
        assert asking is not None
        distance = int.from_bytes(asking.node_id, "big")
        asked.append(distance)
        look.answered(asking, naming(*map(node, names[distance])))
    assert asked == [10, 3, 4]
    assert [each for each, _ in look.found().nodes] == [node(3), node(4)]
    assert look.found().hops == 1


def test_who_does_not_answer_is_not_in_the_result() -> None:
    look = lookup(node(1), node(2))
    look.next(), look.next()
    look.failed(node(1))
    look.answered(node(2), ANSWER)
    assert look.over
    assert [each for each, _ in look.found().nodes] == [node(2)]


def test_two_of_one_neighbourhood_are_believed_in_at_once() -> None:
    look = lookup(*(node(distance, place=7) for distance in range(1, 9)), node(50), k=3, alpha=9)
    assert [look.next(), look.next(), look.next(), look.next()] == [node(1, 7), node(2, 7), node(50), None]
    look.failed(node(1, 7))
    assert look.next() == node(3, 7), "one that failed takes no place"


def test_who_names_only_the_dead_is_not_believed_for_long() -> None:
    look = lookup(node(100), node(200), k=20, alpha=1)
    assert look.next() == node(100)
    look.answered(node(100), naming(*map(node, range(1, 20))))
    for _ in range(PATIENCE):
        asked = look.next()
        assert asked is not None
        look.failed(asked)
    assert look.next() == node(200)
    look.answered(node(200), naming(node(10)))
    assert look.next() == node(10), "somebody else vouches for it, too"


def test_who_led_to_somebody_alive_is_believed_whatever_else_it_named() -> None:
    look = lookup(node(100), k=20, alpha=1)
    look.next()
    look.answered(node(100), naming(*map(node, range(1, 20))))
    first = look.next()
    assert first is not None
    look.answered(first, ANSWER)
    failed = 0
    while (asked := look.next()) is not None:
        look.failed(asked)
        failed += 1
    assert failed == 18


def test_a_false_address_does_not_hide_the_true_one() -> None:
    true = node(1)
    false = replace(true, host="10.66.66.66")
    look = lookup(node(100), node(90), k=20, alpha=1)
    look.next()
    look.answered(node(90), naming(false))
    assert look.next() == false
    look.failed(false)
    look.next()
    look.answered(node(100), naming(true))
    assert look.next() == true


def test_there_is_a_limit_on_queries() -> None:
    look = lookup(*map(node, range(1, 21)), k=20, alpha=20, most=5)
    asked = [asking for _ in range(9) if (asking := look.next()) is not None]
    assert len(asked) == 5
    over_while_waiting = look.over
    assert not over_while_waiting
    for each in asked:
        look.answered(each, naming(*map(node, range(100, 120))))
    assert look.over
    assert look.next() is None
