"""Buckets, prefixes and budgets under a clock of the test's own."""

from __future__ import annotations

import pytest

from stt_core.handshake.limits import (
    FailureBudget,
    PrefixBuckets,
    TargetBudget,
    TokenBucket,
    address_prefixes,
    host_of,
    is_loopback,
)
from stt_core.types import Path, RateLimits


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(10.4)
    assert bucket.take(10.5)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_bucket_does_not_mind_a_time_that_stands_still_or_goes_back() -> None:
    bucket = TokenBucket(rate=1.0, burst=1)
    assert bucket.take(10.0)
    assert not bucket.take(5.0)
    assert not bucket.take(10.9)
    assert bucket.take(11.0)


def test_addresses_of_one_customer_share_a_prefix() -> None:
    assert address_prefixes(("10.0.0.1", 1)) == address_prefixes(("10.0.0.1", 2))
    assert address_prefixes(("10.0.0.1", 1)) != address_prefixes(("10.0.0.2", 1))
    near, next_door, elsewhere = (
        set(address_prefixes((host, 1, 0, 0))) for host in ("2001:db8:1:2::5", "2001:db8:1:3::5", "2001:db8:2:2::5")
    )
    assert len(near) == 2
    assert len(near & next_door) == 1
    assert not near & elsewhere
    assert near == set(address_prefixes(("2001:db8:1:2:ffff::9", 7, 0, 0)))


def test_ipv4_seen_through_an_ipv6_socket_counts_as_ipv4() -> None:
    assert address_prefixes(("::ffff:10.0.0.1", 1, 0, 0)) == address_prefixes(("10.0.0.1", 1))
    assert host_of(("::ffff:10.0.0.1", 1, 0, 0)) == host_of(("10.0.0.1", 9)) == "10.0.0.1"
    assert is_loopback(("::ffff:127.0.0.1", 1, 0, 0))


def test_what_is_no_ip_address_counts_by_itself() -> None:
    for address in ("node-a", ("node-a", 1), 7, ("", 1), ()):
        assert address_prefixes(address) == (address,)
        assert not is_loopback(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_recognised(host: str) -> None:
    assert is_loopback((host, 1))
    assert not is_loopback(("10.0.0.1", 1))


def test_a_table_of_prefixes_is_bounded_and_forgets_the_recovered_first() -> None:
    table = PrefixBuckets(rate=1.0, burst=2, capacity=3)
    for name in "abc":
        assert table.take((name,), 0.0)
    assert table.take(("a",), 0.5)
    assert table.take(("d",), 1.2)
    assert len(table) == 2
    assert not (table.take(("a",), 1.2) and table.take(("a",), 1.2)), "a had not recovered and is still known"


def test_a_full_table_forgets_the_longest_unused() -> None:
    table = PrefixBuckets(rate=0.001, burst=1, capacity=3)
    for name in "abcd":
        assert table.take((name,), 0.0)
    assert len(table) == 3
    assert table.available(("a",), 0.0)
    assert not table.available(("b",), 0.0)


def test_one_empty_prefix_is_enough_to_be_refused_and_costs_the_others_nothing() -> None:
    table = PrefixBuckets(rate=0.001, burst=1, capacity=10)
    assert table.take(("wide", "a"), 0.0)
    assert not table.take(("wide", "b"), 0.0)
    assert table.available(("b",), 0.0)


def test_the_failure_budget_is_per_prefix_and_overall() -> None:
    budget = FailureBudget(RateLimits(failure_burst=2, global_failure_burst=3))
    for _ in range(2):
        assert budget.allows(("a",), 0.0, known=False)
        budget.charge(("a",), 0.0)
    assert not budget.allows(("a",), 0.0, known=True)
    assert budget.allows(("b",), 0.0, known=False)
    budget.charge(("b",), 0.0)
    assert not budget.allows(("c",), 0.0, known=False)
    assert budget.allows(("c",), 0.0, known=True)
    assert budget.allows(("c",), 2.0, known=False)
    assert not budget.allows(("a",), 29.9, known=False)
    assert budget.allows(("a",), 30.0, known=False)


def test_the_target_budget_counts_hosts_and_is_cleared_by_proof() -> None:
    budget = TargetBudget(RateLimits(target_burst=2))
    one, same_host, other = (Path("udp", a) for a in (("10.0.0.1", 1), ("10.0.0.1", 2), ("10.0.0.2", 1)))
    assert budget.allow(one, 0.0)
    assert budget.allow(same_host, 0.0)
    assert not budget.allow(one, 29.0)
    assert budget.allow(other, 29.0)
    assert budget.allow(one, 30.0)
    assert not budget.allow(one, 30.0)
    budget.clear(same_host)
    assert budget.allow(one, 30.0)
