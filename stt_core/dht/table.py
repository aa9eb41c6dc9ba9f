"""Who this node knows, by how near they are: k-buckets (Kademlia, section 2.4).

A bucket for each length of prefix that an id shares with ours, of at most k nodes. One who has been there long is worth
more than a newcomer, so a full bucket keeps whom it has while they answer: the newcomer waits, and the one heard of
longest ago is to be pinged. Of one neighbourhood of addresses a bucket takes two, or a cheap lot of addresses would buy
a place beside everybody.

Rule: only who answered us gets in, and nobody leaves but by not answering.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from stt_core.dht.ids import ID_BITS, Address, DHTNode, Neighbourhoods, as_number
from stt_core.dht.wire import encode_node, parse_nodes_untrusted
from stt_core.errors import ErrorCode, Violation

MOST_FAILURES: Final = 2
"""Queries in a row without an answer, after which a contact is gone."""
WAITING: Final = 8
"""Newcomers a full bucket remembers."""
_MAGIC: Final = b"STT1 DHT table\n"


@dataclass(slots=True)
class Contact:
    """A node that answered once, and how it did lately."""

    node: DHTNode
    number: int
    seen: float
    failures: int = 0


class Bucket:
    """Contacts at one distance, the one heard of longest ago first; and when somebody last looked up anything there."""

    __slots__ = ("contacts", "touched", "waiting")

    def __init__(self, now: float) -> None:
        self.contacts: dict[bytes, Contact] = {}
        self.waiting: dict[bytes, Contact] = {}
        self.touched = now


class RoutingTable:
    """The contacts of the node with this id: ``k`` a bucket, ``per_prefix`` of them of one neighbourhood."""

    __slots__ = ("_buckets", "_k", "_neighbourhoods", "_number", "_per_prefix", "_size", "own_id")

    def __init__(self, own_id: bytes, k: int, per_prefix: int, neighbourhoods: Neighbourhoods) -> None:
        self.own_id = own_id
        self._number = as_number(own_id)
        self._k = k
        self._per_prefix = per_prefix
        self._neighbourhoods = neighbourhoods
        self._buckets: dict[int, Bucket] = {}  # by the length of what is left after the common prefix, in bits
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Contact]:
        for bucket in self._buckets.values():
            yield from bucket.contacts.values()

    def contact(self, node_id: bytes) -> Contact | None:
        """The contact with that id, if it is one."""
        bucket = self._buckets.get((as_number(node_id) ^ self._number).bit_length())
        return None if bucket is None else bucket.contacts.get(node_id)

    def wants(self, node: DHTNode, now: float) -> bool:
        """Whether it would be of use to learn that this node answers."""
        bucket = self._buckets.get((as_number(node.node_id) ^ self._number).bit_length())
        if node.node_id == self.own_id:
            return False
        if bucket is None:
            return True
        if node.node_id in bucket.contacts or not self._may_enter(bucket, node):
            return False
        return len(bucket.contacts) < self._k or any(contact.failures for contact in bucket.contacts.values())

    def answered(self, node: DHTNode, now: float, stale_after: float) -> Contact | None:
        """This node answered us. A contact to be pinged, where it waits for that one's place.

        A contact that answers from another address than before keeps the one it has, until that is silent.
        """
        number = as_number(node.node_id)
        distance = (number ^ self._number).bit_length()
        if not distance:
            return None
        bucket = self._buckets.get(distance)
        if bucket is None:
            bucket = self._buckets[distance] = Bucket(now)
        contact = bucket.contacts.pop(node.node_id, None)
        if contact is not None:
            if contact.node.address == node.address:
                contact.seen, contact.failures = now, 0
            bucket.contacts[node.node_id] = contact
            return None
        if not self._may_enter(bucket, node):
            return None
        newcomer = Contact(node, number, now)
        if len(bucket.contacts) < self._k:
            self._enter(bucket, newcomer)
            return None
        worst = max(bucket.contacts.values(), key=lambda each: (each.failures, -each.seen))
        bucket.waiting.pop(node.node_id, None)
        if len(bucket.waiting) >= WAITING:
            del bucket.waiting[next(iter(bucket.waiting))]
        bucket.waiting[node.node_id] = newcomer
        return worst if worst.failures or now - worst.seen >= stale_after else None

    def failed(self, node_id: bytes) -> None:
        """This node did not answer."""
        bucket = self._buckets.get((as_number(node_id) ^ self._number).bit_length())
        contact = None if bucket is None else bucket.contacts.get(node_id)
        if bucket is None or contact is None:
            return
        contact.failures += 1
        if contact.failures < MOST_FAILURES:
            return
        del bucket.contacts[node_id]
        self._size -= 1
        while bucket.waiting and len(bucket.contacts) < self._k:
            newest = bucket.waiting.popitem()[1]
            if self._may_enter(bucket, newest.node):
                self._enter(bucket, newest)

    def closest(self, target: bytes, count: int) -> list[DHTNode]:
        """The ``count`` contacts nearest to ``target``, the nearest first."""
        number = as_number(target)
        reliable = [contact for contact in self if not contact.failures]
        reliable.sort(key=lambda contact: contact.number ^ number)
        return [contact.node for contact in reliable[:count]]

    def touch(self, target: bytes, now: float) -> None:
        """Something was looked up there."""
        bucket = self._buckets.get((as_number(target) ^ self._number).bit_length())
        if bucket is not None:
            bucket.touched = now

    def untouched(self, since: float) -> list[int]:
        """The distances, in bits, of those buckets where nothing was looked up after ``since``."""
        return sorted(distance for distance, bucket in self._buckets.items() if bucket.touched <= since)

    def silent(self, since: float) -> list[Contact]:
        """Contacts not heard of after ``since``."""
        return [contact for contact in self if contact.seen <= since]

    def id_at(self, distance: int, noise: bytes) -> bytes:
        """An id in the bucket at that distance, by 32 random bytes."""
        low = as_number(noise) & ((1 << (distance - 1)) - 1)
        return (self._number ^ (1 << (distance - 1) | low)).to_bytes(ID_BITS // 8, "big")

    def dump(self) -> bytes:
        """All contacts, those last heard of first: to be handed to :func:`load_untrusted` after a restart."""
        newest = sorted(self, key=lambda contact: -contact.seen)
        return _MAGIC + b"".join(encode_node(contact.node) for contact in newest)

    def _may_enter(self, bucket: Bucket, node: DHTNode) -> bool:
        """Whether a node of this address may have a place in the bucket, were there one."""
        here = self._neighbourhoods.of(node.host)
        if here is None:
            return True
        neighbours = (contact.node.host for contact in bucket.contacts.values())
        return sum(self._neighbourhoods.of(host) == here for host in neighbours) < self._per_prefix

    def _enter(self, bucket: Bucket, contact: Contact) -> None:
        bucket.contacts[contact.node.node_id] = contact
        self._size += 1


def load_untrusted(data: bytes) -> tuple[DHTNode, ...]:
    """The nodes in what :meth:`RoutingTable.dump` gave. They are hearsay: ask them, as any other.

    :raises Violation: where it is something else, or was changed.
    """
    if not data.startswith(_MAGIC):
        raise Violation(ErrorCode.FRAME_ENCODING, "no routing table")
    return parse_nodes_untrusted(data[len(_MAGIC) :])


def addresses(nodes: Iterable[DHTNode]) -> list[Address]:
    """Where to send to, each once."""
    return list(dict.fromkeys(node.address for node in nodes))
