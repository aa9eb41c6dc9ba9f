"""An iterative look-up (Kademlia, section 2.3): ask the nearest known, hear of nearer ones, until the nearest answered.

What a liar can do is limited by four things. Whoever is in the result answered us, under the key its id is the hash
of. Of one neighbourhood of addresses two are believed in at once. A node whose word was tried three times in vain, and
never led to anybody who answered, is believed no more: what only such nodes vouch for isn't asked. And there is a limit
on queries.

Rule: pure bookkeeping. The node sends what :meth:`Lookup.next` names, and tells what came of it.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from stt_core.dht.ids import Address, DHTNode, Neighbourhoods, as_number
from stt_core.dht.records import newest
from stt_core.dht.wire import Kind, Provider, Record, Reply

PATIENCE: Final = 3
"""Nodes that somebody named and that didn't answer, after which its word counts for nothing."""
MOST_CANDIDATES: Final = 1024
MOST_PROVIDERS: Final = 256


class Progress(Enum):
    """How far the look-up is with a candidate."""

    NAMED = "named"
    ASKED = "asked"
    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(slots=True)
class Candidate:
    """Somebody that was named."""

    node: DHTNode
    hops: int
    """0 for our own contacts, 1 for those that these name, and so on."""
    vouchers: list[bytes]
    """Who named it; empty for our own contacts."""
    progress: Progress = Progress.NAMED
    token: bytes = b""


@dataclass(slots=True)
class Found:
    """What a look-up has come to. ``nodes`` answered, the nearest first, each with its token."""

    nodes: list[tuple[DHTNode, bytes]] = field(default_factory=list)
    providers: list[Provider] = field(default_factory=list)
    record: Record | None = None
    hops: int = 0
    """How far from our own contacts the nearest of them was."""
    queries: int = 0
    failures: int = 0


class Lookup:
    """Looks for what is nearest to ``target``: ``k`` nodes, ``alpha`` queries at a time, ``most_queries`` in all."""

    __slots__ = (
        "_alpha", "_asked", "_blame", "_candidates", "_failures", "_k", "_most", "_neighbourhoods", "_number", "_order",
        "_per_prefix", "_praised", "_providers", "_queries", "_records", "ended", "kind", "target",
    )  # fmt: skip

    def __init__(
        self,
        kind: Kind,
        target: bytes,
        start: Iterable[DHTNode],
        *,
        k: int,
        alpha: int,
        most_queries: int,
        per_prefix: int,
        neighbourhoods: Neighbourhoods,
    ) -> None:
        self.kind = kind
        self.target = target
        self.ended = False
        """Whether somebody took what was found."""
        self._number = as_number(target)
        self._k = k
        self._alpha = alpha
        self._most = most_queries
        self._per_prefix = per_prefix
        self._neighbourhoods = neighbourhoods
        self._candidates: dict[DHTNode, Candidate] = {}  # one id may be named at several addresses, falsely at some
        self._order: list[tuple[int, Address, DHTNode]] = []
        self._blame: Counter[bytes] = Counter()
        self._praised: set[bytes] = set()
        self._providers: dict[bytes, Provider] = {}
        self._records: list[Record] = []
        self._queries = self._asked = self._failures = 0
        for node in start:
            self._name(node, 0, b"")

    def next(self) -> DHTNode | None:
        """Whom to ask now; None where enough are being asked, or nobody is left."""
        if self._asked >= self._alpha or self._queries >= self._most:
            return None
        for candidate in self._front():
            if candidate.progress is Progress.NAMED:
                candidate.progress = Progress.ASKED
                self._asked += 1
                self._queries += 1
                return candidate.node
        return None

    @property
    def over(self) -> bool:
        """Whether the nearest have all answered, or nothing more can be done."""
        if self._asked and self._queries >= self._most:
            return False
        front = (candidate.progress for candidate in self._front())
        return self._queries >= self._most or not any(each in _OPEN for each in front)

    def answered(self, node: DHTNode, reply: Reply) -> None:
        """A node answered, and its reply was authentic; providers and record in it too."""
        candidate = self._candidates[node]
        self._asked -= candidate.progress is Progress.ASKED
        candidate.progress = Progress.ANSWERED
        candidate.token = reply.token
        self._praised.update(candidate.vouchers)
        for provider in reply.providers[: MOST_PROVIDERS - len(self._providers)]:
            known = self._providers.get(provider.public)
            if known is None or known.expires < provider.expires:
                self._providers[provider.public] = provider
        if reply.record is not None:
            self._records = [record for record in (newest([*self._records, reply.record]),) if record is not None]
        for named in reply.nodes:
            self._name(named, candidate.hops + 1, node.node_id)

    def failed(self, node: DHTNode) -> None:
        """A node didn't answer."""
        candidate = self._candidates[node]
        self._asked -= candidate.progress is Progress.ASKED
        self._failures += 1
        candidate.progress = Progress.FAILED
        self._blame.update(candidate.vouchers)

    def found(self) -> Found:
        """What has been found so far."""
        nearest = [each for each in self._front() if each.progress is Progress.ANSWERED]
        return Found(
            nodes=list({each.node.node_id: (each.node, each.token) for each in reversed(nearest)}.values())[::-1],
            providers=list(self._providers.values()),
            record=self._records[0] if self._records else None,
            hops=nearest[0].hops if nearest else 0,
            queries=self._queries,
            failures=self._failures,
        )

    def _name(self, node: DHTNode, hops: int, voucher: bytes) -> None:
        known = self._candidates.get(node)
        if known is not None:
            if voucher and known.vouchers and voucher not in known.vouchers:
                known.vouchers.append(voucher)
            return
        if len(self._candidates) >= MOST_CANDIDATES:
            return
        self._candidates[node] = Candidate(node, hops, [voucher] if voucher else [])
        insort(self._order, (as_number(node.node_id) ^ self._number, node.address, node))

    def _front(self) -> Iterator[Candidate]:
        """The k nearest that may be believed in, the nearest first."""
        neighbours: Counter[bytes] = Counter()
        taken = 0
        for _, _, node in self._order:
            candidate = self._candidates[node]
            if candidate.progress is Progress.FAILED or self._is_hearsay(candidate):
                continue
            here = self._neighbourhoods.of(candidate.node.host)
            if here is not None:
                if neighbours[here] >= self._per_prefix:
                    continue
                neighbours[here] += 1
            yield candidate
            taken += 1
            if taken == self._k:
                return

    def _is_hearsay(self, candidate: Candidate) -> bool:
        """Whether it was not asked, and only nodes vouch for it whose word is worth nothing."""
        if candidate.progress is not Progress.NAMED or not candidate.vouchers:
            return False
        return all(self._blame[each] >= PATIENCE and each not in self._praised for each in candidate.vouchers)


_OPEN: Final = (Progress.NAMED, Progress.ASKED)
