"""Whose connection a reverse proxy passes on: X-Forwarded-For, from proxies that were named and from nobody else.

Rule: each proxy writes at the end of the header who connected to it. So it is read from its end, as far as proxies that
are trusted wrote it: what stands before that anybody may have made up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

from stt_core.errors import ConfigurationError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

HEADER = b"x-forwarded-for"


class TrustedProxies:
    """Reverse proxies by address, ``"192.0.2.1"``, or network, ``"10.0.0.0/8"``; none by default.

    :raises ConfigurationError: if one is neither.
    """

    def __init__(self, proxies: Collection[str] = ()) -> None:
        if isinstance(proxies, str):
            raise ConfigurationError(f"trusted_proxies is {proxies!r}, expected a list of addresses")
        self._networks = [_network(proxy) for proxy in proxies]

    def __contains__(self, host: str) -> bool:
        address = _address(host) if self._networks else None
        return address is not None and self._trusts(address)

    def _trusts(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)

    def client_untrusted(self, host: str, values: Iterable[bytes]) -> str:
        """Who is at the other end of a connection from ``host`` with these X-Forwarded-For headers, in their order.

        Where no trusted proxy says, it is the last one that can be known. Never raises.
        """
        known = host
        entries = [entry for value in values for entry in value.decode("latin-1").split(",")]
        while entries and known in self:
            address = _address(_without_port(entries.pop().strip()))
            if address is None:
                break
            known = str(address)
        return known


def _network(proxy: str) -> Network:
    try:
        return ipaddress.ip_network(proxy, strict=False)
    except ValueError:
        raise ConfigurationError(
            f"trusted_proxies has {proxy!r}, expected an address such as '192.0.2.1', or a network"
        ) from None


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return None if address.scope_id else address.ipv4_mapped or address
    return address


def _without_port(entry: str) -> str:
    """An entry without the port that some proxies write behind it: ``192.0.2.1:80``, ``[2001:db8::1]:80``."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
