"""Who is where in the DHT: ids, distances, addresses, and what counts as one neighbourhood of addresses.

Rule: an id is the hash of a key whose holder signs every word it says, so nobody can speak for an id of another's, and
nobody can choose one but by making keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from stt_core.errors import ConfigurationError, ErrorCode, Violation

ID_SIZE: Final = 32
ID_BITS: Final = 8 * ID_SIZE
Address = tuple[str, int]
"""Host, as text, and port. The host is an IP address."""


@dataclass(frozen=True, slots=True)
class DHTNode:
    """Somebody to talk to: its id, its IP address as text, and its UDP port.

    Where it was found as a provider, ``node_id`` is what ``STTNode.connect`` takes as ``peer_node_id``.
    """

    node_id: bytes
    host: str
    port: int

    @property
    def address(self) -> Address:
        """What to send to."""
        return (self.host, self.port)


def id_of(public: bytes) -> bytes:
    """The DHT id that belongs to an Ed25519 public key: BLAKE2b-256 of it."""
    return blake2b(public, digest_size=ID_SIZE).digest()


def as_number(node_id: bytes) -> int:
    """An id as a number: two are as far apart as their XOR is large (Maymounkov and Mazières, "Kademlia", 2002)."""
    return int.from_bytes(node_id, "big")


@lru_cache(maxsize=4096)
def pack_host(host: str) -> bytes:
    """4 or 16 bytes.

    :raises ConfigurationError: where it isn't an IP address.
    """
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        raise ConfigurationError(f"host is {host!r}, expected an IP address") from None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped  # as a dual-stack socket shows IPv4 peers
    return ip.packed


@lru_cache(maxsize=4096)
def unpack_host(packed: bytes) -> str:
    """The address in 4 or 16 bytes that somebody sent, one spelling for each.

    :raises Violation: on one that no datagram can be sent to.
    """
    ip = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
    if ip.is_unspecified or ip.is_multicast or (isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None):
        raise Violation(ErrorCode.FRAME_ENCODING, "an address that is none")
    return str(ip)


class Neighbourhoods:
    """What counts as one place on the network: a /24 of IPv4, a /56 of IPv6. ``exempt`` networks have none."""

    __slots__ = ("_exempt", "of")

    def __init__(self, exempt: Iterable[str]) -> None:
        try:
            self._exempt = [ip_network(network) for network in exempt]
        except ValueError as error:
            raise ConfigurationError(f"exempt: {error}") from None
        self.of = lru_cache(maxsize=4096)(self._of)
        """The neighbourhood of a host; None where it is exempt."""

    def _of(self, host: str) -> bytes | None:
        packed = pack_host(host)
        ip = ip_address(packed)
        if any(ip in network for network in self._exempt if network.version == ip.version):
            return None
        return packed[:3] if len(packed) == 4 else packed[:7]
