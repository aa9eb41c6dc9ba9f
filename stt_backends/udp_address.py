"""One spelling per UDP address.

Rule: a peer's address is compared and hashed as it is (a path *is* its address), so the same peer must never appear
under two spellings. The canonical form is ``(host, port)`` with a numeric host; a link-local IPv6 address keeps its
scope, as ``(host, port, 0, scope_id)``. IPv4 seen through a dual-stack socket is plain IPv4.
"""

from __future__ import annotations

import socket
from typing import Any

from stt_core.errors import ConfigurationError

Address = tuple[str, int] | tuple[str, int, int, int]
"""A canonical address, see the module's docstring."""

MAPPED = "::ffff:"
"""The prefix of an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2)."""


def resolve_numeric(setting: str, host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """The family and the system's address tuple of a numeric host (``%scope`` allowed). Never asks a name server.

    :raises ConfigurationError: naming ``setting``, if the host is no numeric address or the port out of range.
    """
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"{setting}: the port is {port}, expected 0 to 65535")
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_DGRAM, flags=flags)
    except (OSError, UnicodeError):
        found = []
    if not host or not found:
        raise ConfigurationError(f"{setting} is {host!r}, expected a numeric IPv4 or IPv6 address") from None
    family, _, _, _, address = found[0]
    return family, address


def canonical(raw: tuple[Any, ...]) -> Address:
    """The canonical form of what an IPv6 socket reports, ``(host, port, flowinfo, scope_id)``.

    What an IPv4 socket reports is canonical already.
    """
    host: str = raw[0]
    port: int = raw[1]
    if host.startswith(MAPPED) and "." in host:
        return host[len(MAPPED) :], port
    if len(raw) == 4 and raw[3]:
        return host, port, 0, raw[3]
    return host, port


def for_ipv6(address: Address) -> tuple[Any, ...]:
    """What to give an IPv6 socket to reach a canonical address."""
    if ":" in address[0]:
        return address
    return MAPPED + address[0], address[1]
