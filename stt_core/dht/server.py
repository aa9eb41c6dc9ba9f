"""Answers the queries of others.

Rule: at most two bytes for each byte that came, a ration for each source, and nothing stored for anybody who didn't
show that it receives at the address it sends from.
"""

from __future__ import annotations

from typing import Final

from stt_core.crypto import Crypto, Signer
from stt_core.dht.config import DHTConfig
from stt_core.dht.ids import Address, DHTNode, Neighbourhoods, id_of
from stt_core.dht.records import Store
from stt_core.dht.table import RoutingTable
from stt_core.dht.tokens import Tokens
from stt_core.dht.wire import (
    LARGEST,
    LARGEST_FRAMED,
    MAX_PROVIDERS,
    SEARCHES,
    Kind,
    Provider,
    Query,
    Reply,
    Status,
    build_reply,
    parse_query_untrusted,
    query_holds,
)
from stt_core.errors import Violation
from stt_core.handshake.limits import PrefixBuckets, TokenBucket, address_prefixes
from stt_core.types import Entropy

MOST_SOURCES: Final = 4096


class Server:
    """What a node says when asked."""

    def __init__(
        self,
        config: DHTConfig,
        *,
        crypto: Crypto,
        signer: Signer,
        table: RoutingTable,
        store: Store,
        tokens: Tokens,
        neighbourhoods: Neighbourhoods,
        entropy: Entropy,
    ) -> None:
        self._config = config
        self._crypto = crypto
        self._signer = signer
        self._table = table
        self._store = store
        self._tokens = tokens
        self._neighbourhoods = neighbourhoods
        self._entropy = entropy
        self._largest = LARGEST if config.carrier == "udp" else LARGEST_FRAMED
        self._limits = PrefixBuckets(config.queries_per_second, config.query_burst, MOST_SOURCES)
        self._overall = TokenBucket(config.overall_per_second, config.overall_per_second)
        self.counters = {"answered": 0, "limited": 0, "malformed": 0, "forged": 0, "bad_tokens": 0}

    def answer(self, data: bytes, address: Address, now: float, wall: float) -> tuple[bytes, DHTNode] | None:
        """The reply to a query, and who asked; None where it deserves none."""
        # On an exempt network many nodes are one host, so each counts by itself.
        exempt = self._neighbourhoods.of(address[0]) is None
        if not self._limits.take((address,) if exempt else address_prefixes(address), now):
            self.counters["limited"] += 1
            return None
        try:
            query = parse_query_untrusted(data)
        except Violation:
            self.counters["malformed"] += 1
            return None
        if not self._overall.take(now):
            self.counters["limited"] += 1
            return None
        if query.public == self._signer.public or not query_holds(self._crypto, query, data, self._table.own_id):
            self.counters["forged"] += 1
            return None
        self.counters["answered"] += 1
        asker = DHTNode(id_of(query.public), *address)
        if query.kind in SEARCHES:
            reply = self._search(query, asker, now, wall)
        else:
            status = self._keep(query, asker, now, wall)
            reply = Reply(query.kind, query.transaction, self._signer.public, address, status)
        return build_reply(reply, self._signer, asker.node_id, data, self._largest), asker

    def _search(self, query: Query, asker: DHTNode, now: float, wall: float) -> Reply:
        providers = self._store.providers(query.target, wall) if query.kind is Kind.FIND_PROVIDERS else []
        if len(providers) > MAX_PROVIDERS:  # others each time: of twenty nodes asked, all get to be named
            start = int.from_bytes(self._entropy(4), "big") % len(providers)
            providers = (providers[start:] + providers[:start])[:MAX_PROVIDERS]
        nodes = self._table.closest(query.target, self._config.k + 1)
        return Reply(
            query.kind,
            query.transaction,
            self._signer.public,
            asker.address,
            token=self._tokens.give(asker.host, asker.node_id, now),
            providers=tuple(providers),
            record=self._store.record(query.target, wall) if query.kind is Kind.GET else None,
            nodes=tuple(node for node in nodes if node.node_id != asker.node_id),
        )

    def _keep(self, query: Query, asker: DHTNode, now: float, wall: float) -> Status:
        """What became of ANNOUNCE and PUT; PING always succeeds."""
        if query.kind is Kind.PING:
            return Status.STORED
        if not self._tokens.holds(query.token, asker.host, asker.node_id, now):
            self.counters["bad_tokens"] += 1
            return Status.BAD_TOKEN
        source = self._neighbourhoods.of(asker.host) or asker.address
        if query.record is not None:
            holds = query.record.holds(self._crypto)
            return self._store.add_record(query.record, source, wall) if holds else Status.REFUSED
        # Its address is where it asks from, and the port it declares: nobody can announce another host.
        provider = Provider(query.public, asker.host, query.port, query.expires, query.name, query.proof)
        if not provider.holds(self._crypto, query.target):
            return Status.REFUSED
        return self._store.add_provider(query.target, provider, source, wall)
