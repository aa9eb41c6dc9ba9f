"""The search for a path's size finds it, gives up in time, and falls back where large packets vanish (RFC 8899)."""

from __future__ import annotations

from math import inf

import pytest

from stt_core.recovery.mtu import BASE, FINEST, FIRST_COOLDOWN, LADDER, MAX_PROBES, RAISE_AFTER, MtuSearch, size_limit

MOST = LADDER[-1]


def settle(search: MtuSearch, path: int, now: float = 0.0) -> list[int]:
    """Let every probe up to ``path`` bytes arrive and larger ones be lost, until the search rests; the sizes probed."""
    probed = []
    while search.wanted:
        probed.append(search.wanted)
        size = search.wanted
        search.on_probe_sent()
        assert not search.wanted, "one at a time"
        if size <= path:
            assert search.on_probe_acked(now)
            assert search.size == size
        else:
            search.on_probe_lost(now)
    return probed


def test_it_climbs_the_ladder_at_once() -> None:
    search = MtuSearch(MOST)
    assert search.size == BASE
    assert settle(search, 65_507) == list(LADDER[1:])
    assert search.resume_at == inf, "there is nothing above"


@pytest.mark.parametrize(
    ("limit", "sizes"), [(1200, []), (1199, []), (1300, [1300]), (1452, [1452]), (26_624, [1452, 8800, 8900, 16_368])]
)
def test_it_stays_below_its_limit(limit: int, sizes: list[int]) -> None:
    search = MtuSearch(limit)
    assert settle(search, 65_507) == sizes
    assert search.size == (sizes or [BASE])[-1]
    assert search.resume_at == inf


@pytest.mark.parametrize(
    ("ours", "peers", "hint", "limit"),
    [
        (65_472, 65_472, 4 << 20, 65_472),
        (65_472, 1500, 4 << 20, 1500),
        (65_472, 65_472, 212_992, 26_624),
        (1200, 1200, 4096, 1200),
    ],
)
def test_the_limit_is_what_both_take_and_an_eighth_of_the_peers_buffer(
    ours: int, peers: int, hint: int, limit: int
) -> None:
    assert size_limit(ours, peers, hint) == limit


def test_a_size_is_given_up_after_three_losses_and_larger_ones_are_not_tried() -> None:
    search = MtuSearch(MOST)
    assert settle(search, 1472, now=5.0) == [1452, *[8800] * MAX_PROBES]
    assert search.size == 1452
    assert search.resume_at == 5.0 + RAISE_AFTER


def test_one_lost_probe_is_repeated_and_its_losses_are_forgotten_with_its_arrival() -> None:
    search = MtuSearch(MOST)
    for _ in range(MAX_PROBES - 1):
        search.on_probe_sent()
        search.on_probe_lost(0.0)
    search.on_probe_sent()
    assert search.on_probe_acked(0.0)
    assert search.size == 1452
    for _ in range(MAX_PROBES - 1):
        search.on_probe_sent()
        search.on_probe_lost(0.0)
    assert search.wanted == 8800


@pytest.mark.parametrize("path", [1200, 1232, 1252, 1372, 1392, 1420, 1432, 1444])
def test_a_tunnels_size_is_found_by_halves(path: int) -> None:
    search = MtuSearch(MOST)
    probed = settle(search, path)
    assert path - FINEST <= search.size <= path
    assert len(probed) <= MAX_PROBES + 4 * MAX_PROBES
    assert search.resume_at == RAISE_AFTER


def test_it_is_taken_up_again_with_the_next_size() -> None:
    search = MtuSearch(MOST)
    settle(search, 1400)
    before = search.size
    search.resume(RAISE_AFTER)
    assert settle(search, 9000, now=RAISE_AFTER)[:2] == [1452, 8800]
    assert before < search.size == 8900


def test_what_the_system_refuses_is_too_large_at_once() -> None:
    search = MtuSearch(MOST)
    search.on_probe_sent()
    search.on_probe_acked(0.0)
    assert search.wanted == 8800
    search.on_probe_sent()
    assert not search.on_too_big(8800, 1.0)
    assert (search.size, search.wanted, search.resume_at) == (1452, 0, 1.0 + RAISE_AFTER)
    search.on_probe_lost(2.0)
    assert search.wanted == 0, "it has been answered"


def test_a_refused_first_step_leads_to_the_halves() -> None:
    search = MtuSearch(MOST)
    search.on_probe_sent()
    search.on_too_big(1452, 1.0)
    settle(search, 1400, now=1.0)
    assert 1400 - FINEST <= search.size <= 1400


def test_a_refusal_of_what_is_not_tried_yet_disturbs_no_probe() -> None:
    search = MtuSearch(MOST)
    search.on_probe_sent()
    assert not search.on_too_big(8800, 1.0)
    assert not search.on_too_big(MOST, 1.0)
    assert search.on_probe_acked(2.0)
    assert (search.size, search.wanted) == (1452, 0)


def test_a_refusal_of_the_size_in_use_begins_again_below_it() -> None:
    search = MtuSearch(MOST)
    settle(search, 8868)
    assert search.size == 8800
    assert search.on_too_big(8800, 1.0)
    assert (search.size, search.wanted) == (BASE, 1452)
    settle(search, 9000, now=1.0)
    assert search.size == 1452, "8800 is known not to work"
    assert not search.on_too_big(8800, 1.0), "told before"
    assert not search.on_too_big(BASE, 1.0), "that one must work"
    assert search.size == 1452


def test_large_packets_lost_time_and_again_while_none_arrives_are_a_black_hole() -> None:
    search = MtuSearch(MOST)
    settle(search, 65_507)
    suspicions = []
    for happens in (lambda: search.on_large_lost(1.0), search.on_large_acked):
        assert not happens()
        suspicions.append(search.suspicious)
    assert suspicions == [True, False]
    assert [search.on_large_lost(2.0 + number) for number in range(3)] == [False, False, True]
    assert (search.size, search.wanted, search.resume_at) == (BASE, 0, 4.0 + FIRST_COOLDOWN)


def test_a_probe_that_arrives_is_a_large_packet_that_arrives() -> None:
    search = MtuSearch(MOST)
    search.on_probe_sent()
    search.on_probe_acked(0.0)
    search.on_large_lost(1.0)
    search.on_large_lost(2.0)
    search.on_probe_sent()
    search.on_probe_acked(3.0)
    assert not search.on_large_lost(4.0)
    assert search.size == 8800


def test_silence_with_large_packets_in_flight_is_a_black_hole() -> None:
    search = MtuSearch(MOST)
    assert not search.on_silence(5, 1.0), "nothing is large yet"
    settle(search, 9000)
    assert not search.on_silence(1, 1.0)
    assert not search.on_silence(2, 1.1)
    assert search.on_silence(3, 1.3)
    assert (search.size, search.resume_at) == (BASE, 1.3 + FIRST_COOLDOWN)


def test_black_holes_that_return_keep_the_search_away_longer_and_longer() -> None:
    search = MtuSearch(MOST)
    waits = []
    now = 0.0
    for _ in range(14):
        settle(search, 65_507, now)
        assert search.on_silence(3, now)
        waits.append(search.resume_at - now)
        now = search.resume_at
        search.resume(now)
    assert waits[:4] == [FIRST_COOLDOWN * factor for factor in (1, 2, 4, 8)]
    assert waits[-1] == RAISE_AFTER
    search.restart()
    settle(search, 65_507, now)
    search.on_silence(3, now)
    assert search.resume_at - now == FIRST_COOLDOWN, "another path is not to blame"


def test_a_probe_that_was_underway_when_the_search_fell_back_means_nothing() -> None:
    search = MtuSearch(MOST)
    search.on_probe_sent()
    search.on_probe_acked(0.0)
    search.on_probe_sent()
    assert search.on_silence(3, 1.0)
    assert not search.on_probe_acked(1.5)
    search.on_probe_lost(1.5)
    assert (search.size, search.wanted) == (BASE, 0)
