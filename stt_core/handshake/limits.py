"""What is rationed before anybody is authenticated: work, state, and above all guesses.

Rule: every table here is bounded, time is given in, and forgetting an entry never gives an attacker more than an
entry that has recovered by itself would. Flood limits protect the machine and may be switched off; the guess budgets
protect the seed and may not: :class:`~stt_core.types.RateLimits` being None leaves them at their defaults.

An IPv4 address counts by itself (/32), an IPv6 address by its /64 and its /48, because that is what one customer
gets. Addresses of other kinds (a simulator's strings, say) count by themselves. What was found out about an address is
remembered for a moment: one handshake asks ten times.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from stt_core.types import Path, RateLimits

Prefix = Hashable
"""A key of a table: what counts as one source."""


@lru_cache(maxsize=64)
def address_prefixes(address: Hashable) -> tuple[Prefix, ...]:
    """The prefixes an address belongs to, narrowest first. Takes a socket's address tuple, or anything hashable."""
    ip = _ip(address)
    if ip is None:
        return (address,)
    value = int(ip)
    if isinstance(ip, IPv4Address):
        return ((32, value),)
    return ((64, value >> 64), (48, value >> 80))


@lru_cache(maxsize=64)
def is_loopback(address: Hashable) -> bool:
    """Whether the address is this machine's own, as 127.0.0.1 and ::1 are."""
    ip = _ip(address)
    return ip is not None and ip.is_loopback


@lru_cache(maxsize=64)
def host_of(address: Hashable) -> str:
    """The address without its port, one spelling for each, for what is bound to a host."""
    ip = _ip(address)
    return repr(address) if ip is None else str(ip)


def _ip(address: Hashable) -> IPv4Address | IPv6Address | None:
    host = address[0] if isinstance(address, tuple) and address else address
    if not isinstance(host, str):
        return None
    try:
        ip = ip_address(host)
    except ValueError:
        return None
    # A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d; without this they would all share one /64.
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


class TokenBucket:
    """``burst`` at once, then ``rate`` a second."""

    __slots__ = ("_burst", "_level", "_rate", "_stamp")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._stamp: float | None = None

    def available(self, now: float) -> bool:
        """Whether :meth:`take` would succeed."""
        self._refill(now)
        return self._level >= 1.0

    def full(self, now: float) -> bool:
        """Whether this bucket is as good as a new one."""
        self._refill(now)
        return self._level >= self._burst

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        if not self.available(now):
            return False
        self._level -= 1.0
        return True

    def _refill(self, now: float) -> None:
        if self._stamp is None:
            self._stamp = now
        elif now > self._stamp:
            self._level = min(self._burst, self._level + (now - self._stamp) * self._rate)
            self._stamp = now


class PrefixBuckets:
    """A token bucket for each of at most ``capacity`` prefixes; one without a bucket has all its tokens.

    Where the table is full, buckets that have refilled go first, then the one used longest ago.
    """

    __slots__ = ("_buckets", "_burst", "_capacity", "_rate")

    def __init__(self, rate: float, burst: float, capacity: int) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: dict[Prefix, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def available(self, prefixes: tuple[Prefix, ...], now: float) -> bool:
        """Whether each of the prefixes has a token."""
        found = [self._buckets.get(prefix) for prefix in prefixes]
        return all(bucket is None or bucket.available(now) for bucket in found)

    def take(self, prefixes: tuple[Prefix, ...], now: float) -> bool:
        """Take one token from each of the prefixes; from none unless each has one."""
        if not self.available(prefixes, now):
            return False
        for prefix in prefixes:
            # Out and in again: the dict's order is the order of last use.
            bucket = self._buckets.pop(prefix, None)
            if bucket is None:
                self._make_room(now)
                bucket = TokenBucket(self._rate, self._burst)
            bucket.take(now)
            self._buckets[prefix] = bucket
        return True

    def clear(self, prefixes: tuple[Prefix, ...]) -> None:
        """Give these prefixes all their tokens back."""
        for prefix in prefixes:
            self._buckets.pop(prefix, None)

    def _make_room(self, now: float) -> None:
        if len(self._buckets) < self._capacity:
            return
        for prefix in [prefix for prefix, bucket in self._buckets.items() if bucket.full(now)]:
            del self._buckets[prefix]
        if len(self._buckets) >= self._capacity:
            del self._buckets[next(iter(self._buckets))]


class FailureBudget:
    """How many wrong guesses a responder evaluates: by prefix, and over all. Never waived, for loopback neither.

    Only failures are charged, so honest peers pass unhindered however many they are. The table can't be flooded: the
    overall budget runs out long before ``prefixes`` entries do.
    """

    __slots__ = ("_overall", "_prefixes")

    def __init__(self, limits: RateLimits) -> None:
        self._prefixes = PrefixBuckets(1.0 / limits.failure_interval, limits.failure_burst, limits.prefixes)
        self._overall = TokenBucket(1.0 / limits.global_failure_interval, limits.global_failure_burst)

    def allows(self, prefixes: tuple[Prefix, ...], now: float, *, known: bool) -> bool:
        """Whether one more proof from there may be evaluated.

        ``known``: its sender showed an address token, which only who once held the seed can have. Guessers from
        elsewhere that use up the overall budget don't lock such a one out.
        """
        return self._prefixes.available(prefixes, now) and (known or self._overall.available(now))

    def charge(self, prefixes: tuple[Prefix, ...], now: float) -> None:
        """A proof from there was wrong."""
        self._prefixes.take(prefixes, now)
        self._overall.take(now)


class TargetBudget:
    """How many proofs an initiator hands to one host that never proved the seed itself.

    Each distinct AUTH_PROOF lets an impostor test one guess, whether it answers or not. ``allow`` is what an
    :class:`~stt_core.handshake.initiator.Initiator`'s ``allow_proof`` asks; ``clear`` follows its ``peer_verified``.
    The port does not matter: one host can listen on many.
    """

    __slots__ = ("_hosts",)

    def __init__(self, limits: RateLimits) -> None:
        self._hosts = PrefixBuckets(1.0 / limits.target_interval, limits.target_burst, limits.prefixes)

    def allow(self, path: Path, now: float) -> bool:
        """Whether one more proof may go there; counts it if so."""
        return self._hosts.take(address_prefixes(path.address)[:1], now)

    def clear(self, path: Path) -> None:
        """A FINAL from there verified: that host holds the seed."""
        self._hosts.clear(address_prefixes(path.address)[:1])
