"""Queries that wait for their replies.

Rule: a reply counts if it comes from the address that was asked, names our transaction, is signed by the key whose hash
is the id we asked for, and is signed over that very query. The cheap of these is checked first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from stt_core.crypto import Crypto
from stt_core.dht.ids import Address, DHTNode, id_of
from stt_core.dht.wire import Kind, Reply, parse_reply_untrusted, reply_holds
from stt_core.errors import Violation

MOST_PENDING = 4096


@dataclass(slots=True)
class Pending:
    """A query under way. ``node_id`` is None where it isn't known who is at that address."""

    kind: Kind
    node_id: bytes | None
    address: Address
    data: bytes
    digest: bytes
    deadline: float
    on_reply: Callable[[DHTNode, Reply, float], None]
    on_failure: Callable[[float], None]
    again: int


class Queries:
    """At most 4096 of them, each with a deadline ``timeout`` seconds after it was sent."""

    __slots__ = ("_crypto", "_deadlines", "_own_id", "_pending", "_timeout", "refused")

    def __init__(self, crypto: Crypto, own_id: bytes, timeout: float) -> None:
        self._crypto = crypto
        self._own_id = own_id
        self._timeout = timeout
        self._pending: dict[bytes, Pending] = {}
        self._deadlines: list[tuple[float, bytes]] = []
        self.refused = 0
        """Replies that nobody asked for, or that were forged."""

    def __len__(self) -> int:
        return len(self._pending)

    def add(
        self,
        transaction: bytes,
        data: bytes,
        kind: Kind,
        node_id: bytes | None,
        address: Address,
        now: float,
        *,
        on_reply: Callable[[DHTNode, Reply, float], None],
        on_failure: Callable[[float], None],
        again: int = 0,
    ) -> None:
        """A query was sent; it is to be sent ``again`` so many times."""
        deadline = now + self._timeout
        digest = hashlib.sha256(data).digest()
        query = Pending(kind, node_id, address, data, digest, deadline, on_reply, on_failure, again)
        self._pending[transaction] = query
        heappush(self._deadlines, (deadline, transaction))

    def receive(self, data: bytes, address: Address, now: float) -> None:
        """A reply came, or what looks like one."""
        self.refused += 1
        pending = self._pending.get(data[1:9])
        if pending is None or pending.address != address:
            return
        try:
            reply = parse_reply_untrusted(data)
        except Violation:
            return
        node_id = id_of(reply.public)
        if reply.kind is not pending.kind or pending.node_id not in (None, node_id):
            return
        if not reply_holds(self._crypto, reply, data, self._own_id, pending.digest):
            return
        self.refused -= 1
        del self._pending[reply.transaction]
        pending.on_reply(DHTNode(node_id, *address), reply, now)

    def next_timer(self) -> float | None:
        """When the first of them is late."""
        while self._deadlines:
            deadline, transaction = self._deadlines[0]
            pending = self._pending.get(transaction)
            if pending is not None and pending.deadline == deadline:
                return deadline
            heappop(self._deadlines)
        return None

    def handle_timer(self, now: float) -> list[tuple[bytes, Address]]:
        """Give up on those that are late; what is to be sent again."""
        repeats = []
        while (deadline := self.next_timer()) is not None and deadline <= now:
            transaction = heappop(self._deadlines)[1]
            pending = self._pending[transaction]
            if pending.again:
                pending.again -= 1
                pending.deadline = now + self._timeout
                heappush(self._deadlines, (pending.deadline, transaction))
                repeats.append((pending.data, pending.address))
                continue
            del self._pending[transaction]
            pending.on_failure(now)
        return repeats
