"""One node of a Kademlia DHT, without I/O: messages and times in, messages and events out.

The verbs are the endpoint's: ``receive_datagram`` and ``handle_timer`` for what happened; commands, which return a
handle that an event will bear; ``poll_transmit``, ``next_timer`` and ``next_event`` for what to do. Poll until None
after each input, and wait until ``next_timer()`` or for a message.

A path's transport is the carrier: ``"udp"`` for datagrams of their own, ``"session"`` where each message is a DHT frame
in a session with the node at that address, which the caller opens where there is none. Either way the address is
``(host, port)``, and the same everybody else reaches that node at.

Rule: who speaks is who signed; who may store showed that it receives at its address; and nothing that strangers can
make grow has no bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Final

from stt_core.config import check_bytes
from stt_core.crypto import Crypto
from stt_core.dht.config import DHTConfig
from stt_core.dht.events import (
    Bootstrapped,
    DHTEvent,
    ExternalAddressChanged,
    NodesFound,
    Outcome,
    ProvidersFound,
    RecordFound,
    Stored,
)
from stt_core.dht.ids import ID_SIZE, Address, DHTNode, Neighbourhoods, id_of, pack_host
from stt_core.dht.lookup import Lookup
from stt_core.dht.queries import MOST_PENDING, Queries
from stt_core.dht.records import Store, newest
from stt_core.dht.server import Server
from stt_core.dht.table import RoutingTable, load_untrusted
from stt_core.dht.tokens import Tokens
from stt_core.dht.votes import Votes
from stt_core.dht.wire import (
    MAX_SALT,
    MAX_VALUE,
    TRANSACTION_SIZE,
    Kind,
    Query,
    Record,
    Reply,
    Status,
    build_query,
    is_reply,
    provider_statement,
    record_target,
    sign_record,
)
from stt_core.errors import ConfigurationError, StateError, Violation
from stt_core.types import Entropy, Path, Transmit

MOST_LOOKUPS: Final = 256
MOST_QUEUED: Final = 4096
"""Messages that wait for the socket; above it they are lost, as in a full socket."""
MOST_REMEMBERED: Final = 256
"""Content whose providers were found lately, for :meth:`Dht.known_providers`."""
MAINTENANCE: Final = 30.0
"""Seconds between looks at what has grown old."""
AT_ONCE: Final = 8
"""Buckets refreshed, contacts pinged and things published again at one such look."""
BOOTSTRAP_REPEATS: Final = 2
HAND_OVER: Final = 0.2
"""Seconds after which a newcomer to a small network is told what we announce: others may come at once."""


class Dht:
    """A node with the Ed25519 key of ``node_seed``, 32 bytes. ``wall_offset`` is wall-clock time minus monotonic time.

    The same entropy, inputs and times give the same messages out.
    """

    def __init__(
        self, config: DHTConfig, *, crypto: Crypto, entropy: Entropy, node_seed: bytes, wall_offset: float = 0.0
    ) -> None:
        self.config = config
        self._crypto = crypto
        self._entropy = entropy
        self._signer = crypto.ed25519(node_seed)
        self._wall_offset = wall_offset
        self.node_id = id_of(self._signer.public)
        self._neighbourhoods = Neighbourhoods(config.exempt)
        self.table = RoutingTable(self.node_id, config.k, config.per_prefix, self._neighbourhoods)
        self.store = Store(
            most_records=config.most_records,
            most_providers=config.most_providers,
            most_of_one=config.most_providers_of_one,
            lifetime=config.lifetime,
        )
        self._queries = Queries(crypto, self.node_id, config.rpc_timeout)
        self._server = Server(
            config,
            crypto=crypto,
            signer=self._signer,
            table=self.table,
            store=self.store,
            tokens=Tokens(entropy),
            neighbourhoods=self._neighbourhoods,
            entropy=entropy,
        )
        self._votes = Votes(self._neighbourhoods)
        self._external: Address | None = None
        self._out: deque[Transmit] = deque()
        self._events: deque[DHTEvent] = deque()
        self._handles = count(1)
        self._lookups = 0
        self._pinging: set[bytes] = set()
        self._friends: list[Address] = []
        self._announced: dict[bytes, float] = {}
        self._put: dict[bytes, tuple[Record, float]] = {}
        self._found: dict[bytes, tuple[DHTNode, ...]] = {}
        self._maintain_at: float | None = None
        self._latest = 0.0

    # --- getters

    @property
    def public_key(self) -> bytes:
        """The 32-byte key that this node's id is the hash of."""
        return self._signer.public

    @property
    def external_address(self) -> Address | None:
        """Where most of those who answer see this node, if they agree."""
        return self._external

    @property
    def announced_port(self) -> int:
        """Where this node says that it serves content: the port of its settings, or where others see it instead."""
        seen = self._external if self.config.shares_socket else None
        return self.config.port if seen is None else seen[1]

    def known_providers(self, content_hash: bytes) -> tuple[DHTNode, ...]:
        """Who is known to provide this, without asking anybody: kept for others here, or found lately."""
        kept = [provider.node for provider in self.store.providers(content_hash, self._wall(self._latest))]
        return tuple(dict.fromkeys([*self._found.get(content_hash, ()), *kept]))

    def saved_table(self) -> bytes:
        """All contacts as bytes, for :meth:`restore` after a restart."""
        return self.table.dump()

    def statistics(self) -> dict[str, int]:
        """Counters by name."""
        return {
            "contacts": len(self.table),
            "stored": len(self.store),
            "pending": len(self._queries),
            "refused_replies": self._queries.refused,
            **self._server.counters,
        }

    # --- commands

    def bootstrap(self, addresses: Iterable[Address], now: float) -> int:
        """Ask these addresses who is there, then look up our own neighbourhood; ends with ``Bootstrapped``.

        They are remembered, and asked again when there is no contact left.

        :raises ConfigurationError: where a host is no IP address.
        """
        handle = next(self._handles)
        found = dict.fromkeys((str(host), port) for host, port in addresses)
        for host, _ in found:
            pack_host(host)
        self._friends = list(dict.fromkeys([*found, *self._friends]))[:64]
        self._join(list(found), now, handle)
        return handle

    def restore(self, saved: bytes, now: float) -> int:
        """As :meth:`bootstrap`, from what :meth:`saved_table` gave.

        :raises ConfigurationError: where it is something else.
        """
        try:
            nodes = load_untrusted(saved)
        except Violation as violation:
            raise ConfigurationError(f"the saved routing table: {violation.reason}") from None
        handle = next(self._handles)
        self._join([node.address for node in nodes[:200]], now, handle)
        return handle

    def find_node(self, target: bytes, now: float) -> int:
        """Look for the nodes nearest to an id; ends with ``NodesFound``.

        :raises ConfigurationError: where ``target`` isn't 32 bytes; StateError where 256 look-ups are under way.
        """
        handle = next(self._handles)

        def done(lookup: Lookup, now: float) -> None:
            found = lookup.found()
            nodes = tuple(node for node, _ in found.nodes)
            self._events.append(NodesFound(handle, target, nodes, found.hops, found.queries))

        self._look_up(Kind.FIND_NODE, target, done, now)
        return handle

    def find_providers(self, target: bytes, now: float) -> int:
        """Look for providers of content; ends with ``ProvidersFound``. Raises as :meth:`find_node`."""
        handle = next(self._handles)

        def done(lookup: Lookup, now: float) -> None:
            kept = self.store.providers(target, self._wall(now))
            providers = {each.public: each for each in (*kept, *lookup.found().providers)}
            providers.pop(self.public_key, None)
            nodes = tuple(dict.fromkeys(provider.node for provider in providers.values()))
            self._remember(target, nodes)
            self._events.append(ProvidersFound(handle, target, nodes))

        self._look_up(Kind.FIND_PROVIDERS, target, done, now)
        return handle

    def announce(self, target: bytes, now: float) -> int:
        """Tell the nodes nearest to ``target`` that we provide it, now and every hour; ends with ``Stored``.

        Raises as :meth:`find_node`.
        """
        handle = next(self._handles)
        self._publish_provider(target, now, handle)
        self._announced[target] = now + self.config.republish_interval
        return handle

    def withdraw(self, target: bytes) -> None:
        """Announce it no more. What others keep of it lives out its day."""
        self._announced.pop(target, None)

    def put(self, value: bytes, now: float, *, salt: bytes = b"", sequence: int | None = None) -> tuple[int, bytes]:
        """Sign ``value`` and have it kept, until it is a day old; the handle, and the target to ``get`` it from.

        Ends with ``Stored``. A record with a higher ``sequence`` replaces one with a lower; by default it is the time
        in milliseconds.

        :raises ConfigurationError: on a value of more than 512 bytes or a salt of more than 64; StateError where 256
            look-ups are under way.
        """
        check_bytes("value", value, 0, MAX_VALUE)
        check_bytes("salt", salt, 0, MAX_SALT)
        wall = self._wall(now)
        number = int(wall * 1000) if sequence is None else sequence
        if not 0 <= number < 2**64:
            raise ConfigurationError(f"sequence is {number}, expected 0 to 2^64 - 1")
        record = sign_record(self._signer, value, salt, number, int(wall + self.config.lifetime))
        handle = next(self._handles)
        self._publish_record(record, now, handle)
        self._put[record.target] = (record, now + self.config.republish_interval)
        return handle, record.target

    def get(self, target: bytes, now: float) -> int:
        """Look for the newest record at ``target``; ends with ``RecordFound``. Raises as :meth:`find_node`."""
        handle = next(self._handles)

        def done(lookup: Lookup, now: float) -> None:
            found = [lookup.found().record, self.store.record(target, self._wall(now))]
            self._events.append(RecordFound(handle, target, newest([each for each in found if each is not None])))

        self._look_up(Kind.GET, target, done, now)
        return handle

    def target_of(self, public_key: bytes, salt: bytes = b"") -> bytes:
        """Where the record of that owner with that salt is to be found."""
        return record_target(public_key, salt)

    # --- what happened

    def receive_datagram(self, data: bytes | memoryview, path: Path, now: float) -> None:
        """A message came from ``path.address``, whose first two parts are host and port. Never raises.

        One by another carrier than this node's is nothing to it: what came in a session and what didn't are two DHTs.
        """
        self._start(now)
        message = bytes(data)
        address = address_of(path)
        if address is None or path.transport != self.config.carrier:
            return
        if is_reply(message):
            self._queries.receive(message, address, now)
            return
        answer = self._server.answer(message, address, now, self._wall(now))
        if answer is not None:
            reply, asker = answer
            self._transmit(reply, address)
            self._meet(asker, now)

    def handle_timer(self, now: float) -> None:
        """Act on what is due at ``now``; harmless when nothing is."""
        self._start(now)
        for data, address in self._queries.handle_timer(now):
            self._transmit(data, address)
        if self._maintain_at is not None and now >= self._maintain_at:
            self._maintain_at = now + MAINTENANCE
            self._maintain(now)

    # --- what to do

    def poll_transmit(self, now: float) -> Transmit | None:
        """The next message to send; None once there are none."""
        return self._out.popleft() if self._out else None

    def next_event(self) -> DHTEvent | None:
        """The oldest event not yet taken, or None."""
        return self._events.popleft() if self._events else None

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`; None for never: nothing has happened yet."""
        first = self._queries.next_timer()
        if first is None or self._maintain_at is None:
            return self._maintain_at if first is None else first
        return min(first, self._maintain_at)

    # --- asking

    def _start(self, now: float) -> None:
        self._latest = now
        if self._maintain_at is None:
            self._maintain_at = now + MAINTENANCE

    def _ask(
        self,
        query: Query,
        node_id: bytes | None,
        address: Address,
        now: float,
        on_reply: Callable[[DHTNode, Reply, float], None],
        on_failure: Callable[[float], None],
        again: int = 0,
    ) -> None:
        self._start(now)
        if len(self._queries) >= MOST_PENDING:
            on_failure(now)
            return
        transaction = self._entropy(TRANSACTION_SIZE)
        data = build_query(replace(query, transaction=transaction), self._signer, node_id)

        def replied(node: DHTNode, reply: Reply, now: float) -> None:
            self._answered(node, reply, now)
            on_reply(node, reply, now)

        def failed(now: float) -> None:
            if node_id is not None:
                self.table.failed(node_id)
            on_failure(now)

        self._queries.add(
            transaction, data, query.kind, node_id, address, now, on_reply=replied, on_failure=failed, again=again
        )
        self._transmit(data, address)

    def _answered(self, node: DHTNode, reply: Reply, now: float) -> None:
        """Somebody proved to be there."""
        self._votes.add(node.address, reply.observed)
        if self._votes.winner != self._external:
            self._external = self._votes.winner
            if self.config.shares_socket:  # what was announced names a port that is ours no longer
                self._announced = dict.fromkeys(self._announced, now)
            self._events.append(ExternalAddressChanged(self._external))
        before = len(self.table)
        doubtful = self.table.answered(node, now, self.config.refresh_interval)
        if before < len(self.table) <= self.config.k and self._announced and self._maintain_at is not None:
            # So few that each newcomer is among the nearest to everything: it is to hear of what we announced before.
            self._announced = dict.fromkeys(self._announced, now)
            self._maintain_at = min(self._maintain_at, now + HAND_OVER)
        if doubtful is not None:
            self._ping(doubtful.node, now)

    def _meet(self, node: DHTNode, now: float) -> None:
        """Somebody asked us: it gets into a bucket once it answers, too."""
        if self.table.wants(node, now) and len(self._queries) < MOST_PENDING // 2:
            self._ping(node, now)

    def _ping(self, node: DHTNode, now: float) -> None:
        if node.node_id in self._pinging:
            return
        self._pinging.add(node.node_id)

        def over(*_: object) -> None:
            self._pinging.discard(node.node_id)

        self._ask(self._query(Kind.PING), node.node_id, node.address, now, over, over)

    def _query(self, kind: Kind, target: bytes = b"") -> Query:
        return Query(kind, b"", self.public_key, addressed=True, target=target)

    def _transmit(self, data: bytes, address: Address) -> None:
        if len(self._out) < MOST_QUEUED:
            self._out.append(Transmit(data, Path(self.config.carrier, address), len(data)))

    # --- looking up

    def _look_up(self, kind: Kind, target: bytes, done: Callable[[Lookup, float], None], now: float) -> None:
        check_bytes("target", target, ID_SIZE, ID_SIZE)
        if self._lookups >= MOST_LOOKUPS:
            raise StateError(f"{MOST_LOOKUPS} look-ups are under way: wait for one to end")
        config = self.config
        self.table.touch(target, now)
        lookup = Lookup(
            kind,
            target,
            self.table.closest(target, config.k),
            k=config.k,
            alpha=config.alpha,
            most_queries=config.most_queries,
            per_prefix=config.per_prefix,
            neighbourhoods=self._neighbourhoods,
        )
        self._lookups += 1
        self._start(now)
        self._advance(lookup, done, now)

    def _advance(self, lookup: Lookup, done: Callable[[Lookup, float], None], now: float) -> None:
        """Ask whoever is to be asked now; end it where nobody is, and nobody is being asked."""
        while not lookup.ended and (node := lookup.next()) is not None:
            self._ask_for(lookup, node, done, now)
        if lookup.ended or not lookup.over:
            return
        lookup.ended = True
        self._lookups -= 1
        done(lookup, now)

    def _ask_for(self, lookup: Lookup, node: DHTNode, done: Callable[[Lookup, float], None], now: float) -> None:
        def on_reply(answering: DHTNode, reply: Reply, now: float) -> None:
            lookup.answered(node, self._checked(reply, lookup.target, node.host, now))
            self._advance(lookup, done, now)

        def on_failure(now: float) -> None:
            lookup.failed(node)
            self._advance(lookup, done, now)

        query = self._query(lookup.kind, lookup.target)
        self._ask(query, node.node_id, node.address, now, on_reply, on_failure)

    def _checked(self, reply: Reply, target: bytes, host: str, now: float) -> Reply:
        """The reply without what in it is forged, over, or our own; or at an exempt address, said by who isn't there.

        A stranger's word must not send us to our own loopback, where no limit by prefix is in force besides.
        """
        wall = self._wall(now)
        latest = wall + self.config.lifetime + 1
        record = reply.record
        if record is not None and not (
            record.target == target and wall < record.expires <= latest and record.holds(self._crypto)
        ):
            record = None
        where = self._neighbourhoods.of
        local = where(host) is None
        providers = [
            each
            for each in reply.providers
            if wall < each.expires <= latest
            and (local or where(each.host) is not None)
            and each.holds(self._crypto, target)
        ]
        nodes = [
            node for node in reply.nodes if node.node_id != self.node_id and (local or where(node.host) is not None)
        ]
        return replace(reply, record=record, providers=tuple(providers), nodes=tuple(nodes))

    # --- joining

    def _join(self, addresses: list[Address], now: float, handle: int | None) -> None:
        outcomes: dict[Address, Outcome] = {}

        def arrived(lookup: Lookup | None, now: float) -> None:
            if handle is not None:
                self._events.append(Bootstrapped(handle, outcomes, len(self.table)))

        def note(address: Address, outcome: Outcome, now: float) -> None:
            outcomes[address] = outcome
            if len(outcomes) < len(addresses):
                return
            if len(self.table) and self._lookups < MOST_LOOKUPS:
                self._look_up(Kind.FIND_NODE, self.node_id, arrived, now)
            else:
                arrived(None, now)

        if not addresses:
            arrived(None, now)
        for address in addresses:
            self._ask(
                replace(self._query(Kind.PING), addressed=False),
                None,
                address,
                now,
                lambda node, _reply, now: note(node.address, Outcome.ANSWERED, now),
                partial(note, address, Outcome.NO_ANSWER),
                BOOTSTRAP_REPEATS,
            )

    # --- publishing

    def _publish_provider(self, target: bytes, now: float, handle: int | None) -> None:
        expires = int(self._wall(now) + self.config.lifetime)
        port = self.announced_port
        said = provider_statement(target, port, expires, self.config.name)
        query = replace(
            self._query(Kind.ANNOUNCE, target),
            port=port,
            expires=expires,
            name=self.config.name,
            proof=self._signer.sign(said),
        )
        self._publish(Kind.FIND_PROVIDERS, query, target, now, handle)

    def _publish_record(self, record: Record, now: float, handle: int | None) -> None:
        query = replace(self._query(Kind.PUT), record=record)
        self._publish(Kind.GET, query, record.target, now, handle)

    def _publish(self, search: Kind, query: Query, target: bytes, now: float, handle: int | None) -> None:
        """Find the nodes nearest to ``target``, and hand ``query`` to each."""

        def store(lookup: Lookup, now: float) -> None:
            waiting = [node.node_id for node, _ in lookup.found().nodes]
            stored = 0

            def over(node_id: bytes, kept: bool, now: float) -> None:
                nonlocal stored
                waiting.remove(node_id)
                stored += kept
                if not waiting and handle is not None:
                    self._events.append(Stored(handle, target, stored))

            if not waiting and handle is not None:
                self._events.append(Stored(handle, target, 0))
            for node, token in lookup.found().nodes:
                self._ask(
                    replace(query, token=token),
                    node.node_id,
                    node.address,
                    now,
                    lambda node, reply, now: over(node.node_id, reply.status is Status.STORED, now),
                    partial(over, node.node_id, False),
                )

        self._look_up(search, target, store, now)

    # --- growing old

    def _maintain(self, now: float) -> None:
        self.store.expire(self._wall(now))
        stale = now - self.config.refresh_interval
        room = MOST_LOOKUPS // 2 - self._lookups
        for distance in self.table.untouched(stale)[-AT_ONCE:][: max(0, room)]:
            target = self.table.id_at(distance, self._entropy(ID_SIZE))
            self._look_up(Kind.FIND_NODE, target, lambda lookup, now: None, now)
        for contact in self.table.silent(stale)[:AT_ONCE]:
            self._ping(contact.node, now)
        if not len(self.table) and self._friends and not len(self._queries):
            self._join(self._friends, now, None)
        self._publish_again(now)

    def _publish_again(self, now: float) -> None:
        """What is due, by and by: each goes out for another hour."""
        wall = self._wall(now)
        self._put = {target: each for target, each in self._put.items() if each[0].expires > wall}
        due = [target for target, at in self._announced.items() if at <= now]
        for target in due[:AT_ONCE]:
            self._announced[target] = now + self.config.republish_interval
            self._publish_provider(target, now, None)
        for target in [target for target, (_, at) in self._put.items() if at <= now][:AT_ONCE]:
            record = self._put[target][0]
            self._put[target] = record, now + self.config.republish_interval
            self._publish_record(record, now, None)

    def _remember(self, target: bytes, nodes: tuple[DHTNode, ...]) -> None:
        self._found.pop(target, None)
        if nodes:
            self._found[target] = nodes
        if len(self._found) > MOST_REMEMBERED:
            del self._found[next(iter(self._found))]

    def _wall(self, now: float) -> float:
        return now + self._wall_offset


def address_of(path: Path) -> Address | None:
    """Host and port of a path; None where it has none."""
    address = path.address
    if not isinstance(address, tuple) or len(address) < 2:
        return None
    host, port = address[:2]
    return (host, port) if isinstance(host, str) and isinstance(port, int) else None
