"""The pool of sessions by content: who is asked, who moves, who leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Any

import pytest

from stt_core import ConfigurationError, ContentAffinityPool, PoolMissError, SessionState, StateError
from stt_core.affinity import Metric
from stt_core.affinity.pool import GRACE, SHARE_WINDOW

METRICS: list[Metric] = ["xor", "hamming"]
FARTHEST: dict[Metric, int] = {"xor": 2**32 - 1, "hamming": 32}


@dataclass(eq=False)
class FakeSession:
    peer_node_id: bytes = b"peer"
    state: SessionState = SessionState.ESTABLISHED
    peer_identity_key: bytes | None = None


class TellingSession(FakeSession):
    def __init__(self, peer_node_id: bytes) -> None:
        super().__init__(peer_node_id)
        self.callbacks: list[Callable[[Any], None]] = []

    def add_end_callback(self, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)

    def remove_end_callback(self, callback: Callable[[Any], None]) -> None:
        if callback in self.callbacks:
            self.callbacks.remove(callback)

    def end(self) -> None:
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback(self)


Pool = ContentAffinityPool[FakeSession]


def at(prefix: int, tail: bytes = b"") -> bytes:
    """A content hash with these first four bytes."""
    return prefix.to_bytes(4, "big") + tail.ljust(28, b"\0")


def pool_of(*prefixes: int, metric: Metric = "xor", max_distance: int | None = None) -> tuple[Pool, list[FakeSession]]:
    """A full pool with a session at each prefix, each of another peer."""
    pool = Pool(max_pool_size=max(1, len(prefixes)), metric=metric, max_distance=max_distance)
    sessions = [FakeSession(b"peer %d" % number) for number in range(len(prefixes))]
    for session, prefix in zip(sessions, prefixes, strict=True):
        pool.add_session(session, at(prefix))
    return pool, sessions


def test_related_content_is_asked_of_the_same_session() -> None:
    pool, (low, high) = pool_of(0x1234_0000, 0xFFFF_0000)
    assert pool.get_session_for_content(at(0x1234_5678)) is low
    assert pool.get_session_for_content(at(0xFFFF_FFFF)) is high


def test_content_that_is_near_nothing_is_a_miss() -> None:
    pool, _ = pool_of(0x0000_0000)
    pool.get_session_for_content(at(0x0FFF_FFFF))
    with pytest.raises(PoolMissError, match="none of 1 sessions is near 10000000") as caught:
        pool.get_session_for_content(at(0x1000_0000))
    assert caught.value.content_hash == at(0x1000_0000)
    assert caught.value.providers == ()
    with pytest.raises(LookupError):
        Pool().get_session_for_content(at(0))


def test_a_miss_names_the_providers_that_the_dht_knows() -> None:
    class Dht:
        def known_providers(self, content_hash: bytes) -> Sequence[object]:
            return [("10.0.1.5", 9337, content_hash)]

    with pytest.raises(PoolMissError) as caught:
        Pool(dht=Dht()).get_session_for_content(at(7))
    assert caught.value.providers == (("10.0.1.5", 9337, at(7)),)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [1, 2, 3, 50, 300])
def test_the_nearest_is_found_as_by_looking_at_each(metric: Metric, size: int) -> None:
    rng = Random(size)
    spread = rng.choice([8, 32])  # in clusters, or anywhere
    prefixes = [rng.getrandbits(spread) << rng.choice([0, 32 - spread]) for _ in range(size)]
    for _ in range(100):
        pool, sessions = pool_of(*prefixes, metric=metric, max_distance=FARTHEST[metric])
        target = rng.getrandbits(32)
        distances = [p ^ target if metric == "xor" else (p ^ target).bit_count() for p in prefixes]
        found = sessions.index(pool.get_session_for_content(at(target)))
        assert distances[found] == min(distances)


@pytest.mark.parametrize(("metric", "limit", "near", "far"), [("xor", 7, 0b111, 0b1000), ("hamming", 2, 0b11, 0b111)])
def test_the_distance_limit_is_inclusive(metric: Metric, limit: int, near: int, far: int) -> None:
    pool, (only,) = pool_of(0, metric=metric, max_distance=limit)
    assert pool.get_session_for_content(at(near)) is only
    with pytest.raises(PoolMissError):
        pool.get_session_for_content(at(far))


def test_sessions_in_one_place_share_its_content_by_the_rest_of_the_hash() -> None:
    pool = Pool()
    sessions = [FakeSession(b"peer %d" % number) for number in range(4)]
    tails = [blake2b(b"%d" % number, digest_size=28).digest() for number in range(4)]
    for session, tail in zip(sessions, tails, strict=True):
        pool.add_session(session, at(1, tail))
    assert [pool.get_session_for_content(at(1, tail)) for tail in tails] == sessions


# --- who leaves


def test_closed_sessions_leave_by_themselves() -> None:
    pool, (first, second, third) = pool_of(0, 1, 2)
    first.state = SessionState.CLOSING
    assert pool.get_session_for_content(at(0)) is second
    assert first not in pool
    third.state = SessionState.CLOSED
    assert pool.statistics().sessions == 1
    assert pool.statistics().departed == 2
    second.state = SessionState.CLOSED
    with pytest.raises(PoolMissError):
        pool.get_session_for_content(at(0))
    assert len(pool) == 0


def test_a_session_that_tells_its_end_is_gone_at_once_and_is_watched_no_longer_than_it_is_there() -> None:
    pool = Pool(max_pool_size=2)
    sessions = [TellingSession(b"peer %d" % number) for number in range(4)]
    for number, session in enumerate(sessions[:3]):
        pool.add_session(session, at(number))
    pool.add_session(sessions[2], at(7))
    assert [len(session.callbacks) for session in sessions] == [0, 1, 1, 0], "the first made room"
    sessions[1].end()
    assert sessions[1] not in pool
    assert len(pool) == 1
    assert pool.statistics().departed == 1
    pool.remove(sessions[2])
    assert not any(session.callbacks for session in sessions)


def test_a_removed_session_is_not_handed_out() -> None:
    pool, (first, second) = pool_of(0, 1)
    assert pool.remove(first)
    assert not pool.remove(first)
    assert first not in pool
    assert second in pool
    assert pool.get_session_for_content(at(0)) is second


def test_a_full_pool_gives_back_the_session_used_longest_ago() -> None:
    pool, (first, second, third) = pool_of(0x1000_0000, 0x2000_0000, 0x3000_0000)
    pool.get_session_for_content(at(0x1000_0000))
    assert pool.add_session(newcomer := FakeSession(b"newcomer"), at(0x4000_0000)) is second
    assert pool.add_session(FakeSession(b"another"), at(0x5000_0000)) is third
    assert first in pool
    assert newcomer in pool
    assert len(pool) == 3
    assert pool.statistics().evicted == 2


def test_a_closed_session_makes_room_before_a_live_one() -> None:
    pool, (first, second) = pool_of(0, 1)
    second.state = SessionState.CLOSED
    assert pool.add_session(FakeSession(b"newcomer"), at(2)) is None
    assert first in pool


def test_a_session_added_again_moves() -> None:
    pool, (only,) = pool_of(0x1000_0000)
    assert pool.add_session(only, at(0x8000_0000)) is None
    assert len(pool) == 1
    assert pool.get_session_for_content(at(0x8000_0000)) is only
    with pytest.raises(PoolMissError):
        pool.get_session_for_content(at(0x1000_0000))


# --- rebalancing


@pytest.mark.parametrize(("metric", "limit", "served", "beyond"), [("xor", 4, 4, 7), ("hamming", 3, 0b11, 0b1111)])
def test_a_session_follows_the_hashes_it_serves(metric: Metric, limit: int, served: int, beyond: int) -> None:
    pool, (only,) = pool_of(0, metric=metric, max_distance=limit)
    for _ in range(10):
        pool.get_session_for_content(at(served))
    with pytest.raises(PoolMissError):
        pool.get_session_for_content(at(beyond))
    pool.get_session_for_content(at(served))  # the eleventh outweighs what it was added with
    assert pool.get_session_for_content(at(beyond)) is only
    assert pool.statistics().recentred == 1


def test_a_session_stays_with_what_is_asked_for_most() -> None:
    pool, (only,) = pool_of(0, max_distance=1)
    for _ in range(100):
        pool.get_session_for_content(at(0))
        pool.get_session_for_content(at(0))
        pool.get_session_for_content(at(1))
    assert pool.statistics().recentred == 0
    assert pool.get_session_for_content(at(0)) is only


def test_the_centre_is_the_point_with_the_least_distance_to_what_was_served() -> None:
    rng = Random(3)
    pool, _ = pool_of(0, max_distance=2**32 - 1)
    served = [rng.getrandbits(6) for _ in range(300)]
    for prefix in served:
        pool.get_session_for_content(at(prefix))
    weights = [(15 / 16) ** age for age in reversed(range(len(served)))]
    costs = [sum(w * (c ^ s) for w, s in zip(weights, served, strict=True)) for c in range(64)]
    (member,) = pool._members.values()
    assert member.point >> 32 == costs.index(min(costs))


def test_when_traffic_moves_an_idle_session_of_a_full_pool_moves_there() -> None:
    pool, (busy, idle) = pool_of(0x1000_0000, 0x8000_0000)
    for _ in range(SHARE_WINDOW - 1):
        pool.get_session_for_content(at(0x1000_0000))
    with pytest.raises(PoolMissError):
        pool.get_session_for_content(at(0x4000_0000))
    pool.get_session_for_content(at(0x1000_0000))
    assert pool.get_session_for_content(at(0x4000_0000)) is idle
    assert pool.get_session_for_content(at(0x4000_0001)) is idle
    assert pool.get_session_for_content(at(0x1000_0000)) is busy
    assert pool.statistics().rehomed == 1


def test_a_pool_with_room_moves_no_session_of_its_own_accord() -> None:
    pool = Pool()
    pool.add_session(FakeSession(b"busy"), at(0x1000_0000))
    pool.add_session(FakeSession(b"idle"), at(0x8000_0000))
    for _ in range(2 * SHARE_WINDOW):
        pool.get_session_for_content(at(0x1000_0000))
    with pytest.raises(PoolMissError):
        pool.get_session_for_content(at(0x4000_0000))


# --- no peer takes it all


@pytest.mark.parametrize("metric", METRICS)
def test_no_peer_serves_more_than_half_where_there_are_others(metric: Metric) -> None:
    pool = Pool(metric=metric)
    greedy = [FakeSession(b"greedy") for _ in range(20)]
    for session in greedy:
        pool.add_session(session, at(0))
    pool.add_session(FakeSession(b"modest"), at(0b11))
    served = [pool.get_session_for_content(at(0)).peer_node_id for _ in range(4 * SHARE_WINDOW)]
    assert set(served[:GRACE]) == {b"greedy"}
    for end in range(2 * GRACE, len(served)):
        latest = Counter(served[max(0, end - SHARE_WINDOW) : end])
        assert latest[b"greedy"] <= (latest.total() + 1) // 2
    assert pool.statistics().diverted == served.count(b"modest") == len(served) / 2


def test_a_peer_that_is_alone_near_the_content_serves_it_all() -> None:
    pool, (near, _far) = pool_of(0x0000_0000, 0xF000_0000)
    assert {id(pool.get_session_for_content(at(0))) for _ in range(100)} == {id(near)}
    assert pool.statistics().diverted == 0


def test_a_proven_key_makes_many_names_one_peer() -> None:
    pool = Pool()
    for number in range(5):
        pool.add_session(FakeSession(b"name %d" % number, peer_identity_key=b"k" * 32), at(0))
    pool.add_session(modest := FakeSession(b"modest"), at(1))
    served = [pool.get_session_for_content(at(0)) for _ in range(200)]
    assert served.count(modest) == 100


# --- settings and figures


def test_statistics_add_up() -> None:
    pool, _ = pool_of(0)
    pool.get_session_for_content(at(0))
    with pytest.raises(PoolMissError):
        pool.get_session_for_content(at(0xF000_0000))
    statistics = pool.statistics()
    assert (statistics.lookups, statistics.hits, statistics.misses) == (2, 1, 1)


def test_only_established_sessions_are_taken() -> None:
    pool = Pool()
    with pytest.raises(StateError, match="the session is CLOSED"):
        pool.add_session(FakeSession(state=SessionState.CLOSED), at(0))
    assert len(pool) == 0


@pytest.mark.parametrize("content_hash", [b"", b"abc", b"x" * 65, "text"])
def test_a_hash_that_is_none_is_refused(content_hash: bytes) -> None:
    pool, (only,) = pool_of(0)
    with pytest.raises(ConfigurationError, match="content_hash is"):
        pool.get_session_for_content(content_hash)
    with pytest.raises(ConfigurationError, match="content_hash is"):
        pool.add_session(only, content_hash)
    assert only in pool


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_pool_size is 0"):
        Pool(max_pool_size=0)
    with pytest.raises(ConfigurationError, match="metric is 'cosine', expected xor or hamming"):
        Pool(metric="cosine")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="max_distance is 33, expected 0 to 32 by hamming"):
        Pool(metric="hamming", max_distance=33)


def test_memory_follows_the_sessions_that_are_there_not_those_that_were() -> None:
    pool = Pool(max_pool_size=10)
    for number in range(2000):
        session = FakeSession(b"%d" % number)
        pool.add_session(session, at(number))
        pool.get_session_for_content(at(number))
    assert len(pool) == 10
    assert pool._columns.everyone.bit_length() <= 11
    assert max(len(pool._slots), len(pool._of_peer)) == 10
    assert len(pool._share) <= 2 * SHARE_WINDOW + 1
