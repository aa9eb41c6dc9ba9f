"""A DHT node's settings, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from stt_core.config import check_bytes
from stt_core.errors import ConfigurationError

DAY: Final = 86_400.0
Carrier = Literal["udp", "session"]
"""How messages travel: as datagrams of their own, or as DHT frames inside sessions (private mode)."""


@dataclass(frozen=True, slots=True)
class DHTConfig:
    """Times in seconds.

    ``port`` is what this node declares to listen on. ``name`` goes into its provider records: what a session's
    ``peer_node_id`` must be to reach it, where that isn't the DHT id. ``per_prefix`` is how many nodes of one /24 (or
    /56 of IPv6) are believed in at once, in a bucket and in a look-up; ``exempt`` networks know no such limit. Where
    the content is served at the very socket that the DHT uses, as with ``shares_socket``, and others see that socket at
    another port, behind a NAT, it is this port that is announced. ``queries_per_second`` are answered to one address,
    ``query_burst`` of them at once, and ``overall_per_second`` to all together: each costs two signatures, and a
    flood of them from forged addresses must leave time for the sessions.

    :raises ConfigurationError: naming the setting, what it was and what it may be.
    """

    port: int
    name: bytes = b""
    carrier: Carrier = "udp"
    shares_socket: bool = False
    k: int = 20
    alpha: int = 3
    rpc_timeout: float = 1.0
    most_queries: int = 128
    refresh_interval: float = 900.0
    republish_interval: float = 3600.0
    lifetime: float = DAY
    per_prefix: int = 2
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    queries_per_second: float = 50.0
    query_burst: int = 200
    overall_per_second: float = 1000.0
    most_records: int = 4096
    most_providers: int = 16_384
    most_providers_of_one: int = 256

    def __post_init__(self) -> None:
        check_bytes("name", self.name, 0, 64)
        if not 1 <= self.port <= 65_535:
            raise ConfigurationError(f"port is {self.port}, expected 1 to 65535")
        if self.carrier not in ("udp", "session"):
            raise ConfigurationError(f"carrier is {self.carrier!r}, expected udp or session")
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigurationError(f"{name} is {value}, expected {least:g} to {most:g}")


_RANGES: Final = (
    ("k", 1, 20),
    ("alpha", 1, 20),
    ("rpc_timeout", 0.001, 60),
    ("most_queries", 1, 10_000),
    ("refresh_interval", 1, DAY),
    ("republish_interval", 1, DAY),
    ("lifetime", 1, DAY),
    ("per_prefix", 1, 10_000),
    ("queries_per_second", 0.001, 10**6),
    ("query_burst", 1, 10**6),
    ("overall_per_second", 0.001, 10**6),
    ("most_records", 1, 10**7),
    ("most_providers", 1, 10**7),
    ("most_providers_of_one", 1, 10**6),
)
