"""Several providers bring a content sooner than one, and no bad one of them spoils or stops it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from stt_core.content.planner import MOST_PROVIDERS, Order, Planner, ProviderDropped
from stt_core.content.supplier import MOST_STALLS, PATIENCE
from stt_core.content.tree import LEAF, PIECE
from stt_core.content.wire import AskBlock, AskLeaves, Cancel, Leaves, Run
from tests.content.swarm import Content, Fetch, Flooder, HashLiar, Liar, Provider, Silent

MB = 1_000_000
CONTENT = Content(3 * PIECE + 5 * LEAF + 77)


def planner(content: Content = CONTENT, seed: int = 1, **options: Any) -> Planner:
    return Planner(content.manifest, random.Random(seed).randbytes, **options)


def fetch(providers: dict[str, Provider], content: Content = CONTENT, **options: Any) -> Fetch:
    return Fetch(planner(content, **options), providers)


@pytest.mark.parametrize("size", [0, 1, LEAF, LEAF + 1, 16 * LEAF, 17 * LEAF - 3, PIECE, PIECE + 1])
def test_a_content_of_any_size_comes_whole_from_one_provider(size: int) -> None:
    content = Content(size)
    done = fetch({"a": Provider(content, 10 * MB)}, content).run()
    assert done.planner.complete
    assert done.got == content.data
    assert done.handed_out == size
    assert not done.dropped


def test_two_providers_bring_it_in_half_the_time() -> None:
    alone = fetch({"a": Provider(CONTENT, MB)}).run()
    both = fetch({"a": Provider(CONTENT, MB), "b": Provider(CONTENT, MB)}).run()
    assert both.got == alone.got == CONTENT.data
    assert both.now < 0.6 * alone.now


def test_each_provider_brings_as_much_as_it_can() -> None:
    fast, slow = Provider(CONTENT, 4 * MB), Provider(CONTENT, MB)
    done = fetch({"fast": fast, "slow": slow}).run()
    assert done.got == CONTENT.data
    assert done.now < 1.25 * len(CONTENT.data) / (5 * MB)


def test_nothing_is_handed_out_twice() -> None:
    done = fetch({name: Provider(CONTENT, MB * (n + 1)) for n, name in enumerate("abcd")}).run()
    assert done.handed_out == len(CONTENT.data)


def test_a_crawling_provider_does_not_hold_up_the_end() -> None:
    """What it was asked for is asked of another, once there is nothing else to ask for."""
    done = fetch({"fast": Provider(CONTENT, 4 * MB), "crawling": Provider(CONTENT, 20_000)}).run()
    assert done.got == CONTENT.data
    assert done.now < 1.3 * len(CONTENT.data) / (4 * MB)


@pytest.mark.parametrize("kind", [Liar, HashLiar])
def test_a_provider_that_lies_is_dropped_and_the_content_completes(kind: type[Provider]) -> None:
    done = fetch({"liar": kind(CONTENT, 8 * MB), "honest": Provider(CONTENT, MB)}).run()
    assert done.got == CONTENT.data
    assert done.dropped["liar"].lied
    assert set(done.dropped) == {"liar"}


def test_a_provider_that_sends_more_than_was_asked_for_is_dropped() -> None:
    done = fetch({"flooder": Flooder(CONTENT, 8 * MB), "honest": Provider(CONTENT, MB)}).run()
    assert done.got == CONTENT.data
    assert done.dropped["flooder"].lied


def test_a_silent_provider_is_asked_less_and_dropped_at_last() -> None:
    done = fetch({"silent": Silent(CONTENT, MB), "slow": Provider(CONTENT, MB / 2)}).run()
    assert done.got == CONTENT.data
    assert done.dropped == {"silent": ProviderDropped("silent", "it fell silent three times", lied=False)}


def test_with_nobody_but_silent_providers_it_ends() -> None:
    done = fetch({"silent": Silent(CONTENT, MB)}).run(until=1e6)
    assert not done.planner.complete
    assert done.now == pytest.approx(MOST_STALLS * PATIENCE)
    assert done.planner.next_timer() is None


def test_providers_that_hold_parts_are_asked_for_these() -> None:
    """The swarm asserts that nobody is asked for what it hasn't."""
    done = fetch(
        {"a": Provider(CONTENT, MB, [0, 2]), "b": Provider(CONTENT, MB, [1]), "c": Provider(CONTENT, MB, [1, 3])}
    ).run()
    assert done.got == CONTENT.data


def test_the_rarest_piece_comes_first() -> None:
    firsts = set()
    for seed in range(8):
        done = fetch(
            {"a": Provider(CONTENT, MB), "b": Provider(CONTENT, MB, [0, 1, 3]), "c": Provider(CONTENT, MB, [0, 1, 3])},
            seed=seed,
        )
        found = done.planner.next_question(0.0)
        assert found is not None
        key, question = found
        assert key == "a"
        assert isinstance(question, AskLeaves)
        firsts.add(question.piece)
    assert firsts == {2}


def test_fetchers_differ_in_what_they_begin_with() -> None:
    content = Content(8 * PIECE)
    firsts = set()
    for seed in range(10):
        found = Fetch(planner(content, seed=seed), {"a": Provider(content, MB)}).planner.next_question(0.0)
        assert found is not None
        assert isinstance(found[1], AskLeaves)
        firsts.add(found[1].piece)
    assert len(firsts) > 3


def test_a_reader_gets_the_pieces_in_order() -> None:
    done = fetch({"a": Provider(CONTENT, MB)}, order=Order.SEQUENTIAL).run()
    assert done.pieces == [0, 1, 2, 3]


def test_a_range_is_fetched_alone() -> None:
    done = fetch({"a": Provider(CONTENT, MB)}, first=1, stop=3).run()
    assert sorted(done.pieces) == [1, 2]
    assert done.handed_out == 2 * PIECE


def test_what_is_here_is_not_fetched_again() -> None:
    done = fetch({"a": Provider(CONTENT, MB)}, have=b"\1\0\1\0").run()
    assert sorted(done.pieces) == [1, 3]
    assert planner(have=b"\1\1\1\1").complete


def test_a_piece_gained_later_is_asked_for() -> None:
    done = fetch({"a": Provider(CONTENT, MB, [0, 1, 2])}).run()
    assert not done.planner.complete
    done.providers["a"].holding[3] = 1
    done.planner.gained("a", 3)
    assert done.run().got == CONTENT.data


def test_a_claim_to_a_piece_that_does_not_exist_is_a_lie() -> None:
    done = fetch({"a": Provider(CONTENT, MB)})
    done.planner.gained("a", 4)
    event = done.planner.next_event()
    assert isinstance(event, ProviderDropped)
    assert event.lied


def test_a_provider_that_leaves_is_replaced() -> None:
    done = fetch({"a": Provider(CONTENT, MB), "b": Provider(CONTENT, MB)}).run(until=2.0)
    assert not done.planner.complete
    done.planner.remove_provider("a")
    assert done.run().got == CONTENT.data


def test_a_block_that_two_were_asked_for_is_cancelled_at_the_slower() -> None:
    content = Content(16 * LEAF)
    plan = planner(content)
    plan.add_provider("a", b"\1", 0.0)
    plan.add_provider("b", b"\1", 0.0)
    asked = [plan.next_question(0.0) for _ in range(3)]
    assert asked == [("a", AskLeaves(0)), ("a", AskBlock(0, 0)), None]
    plan.receive_leaves("a", Leaves(0, tuple(content.leaves)), 0.1)
    assert plan.next_question(0.1) == ("b", AskBlock(0, 0))
    for leaf in range(0, 16, 4):
        plan.receive_run("b", Run(leaf, content.data[leaf * LEAF : (leaf + 4) * LEAF]), 0.2)
    assert plan.next_question(0.2) == ("a", Cancel(0, 0))
    assert plan.complete


def test_there_is_a_cap_on_providers() -> None:
    plan = planner()
    assert all(plan.add_provider(n, b"\1", 0.0) for n in range(MOST_PROVIDERS))
    assert not plan.add_provider("one more", b"\1", 0.0)
    assert not plan.add_provider(0, b"\1", 0.0), "twice"


@pytest.mark.parametrize("seed", range(12))
def test_any_mixture_with_an_honest_provider_completes(seed: int) -> None:
    rng = random.Random(seed)
    kinds: list[type[Provider]] = [Provider, Liar, HashLiar, Silent, Flooder]
    providers: dict[str, Provider] = {"honest": Provider(CONTENT, MB)}
    for n in range(rng.randrange(1, 7)):
        holding = rng.sample(range(4), rng.randrange(1, 5))
        providers[f"p{n}"] = rng.choice(kinds)(CONTENT, rng.uniform(0.05, 8) * MB, holding)
    done = fetch(providers, seed=seed).run()
    assert done.got == CONTENT.data, f"seed {seed}"
    assert done.handed_out == len(CONTENT.data), f"seed {seed}"
    assert "honest" not in done.dropped, f"seed {seed}: {done.dropped}"
