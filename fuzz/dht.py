"""Targets: the DHT's messages, its saved table, a node that is told anything, also inside a session."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from fuzz.entropy import entropy_of
from fuzz.reader import Reader
from fuzz.sealed import Duel
from stt_backends.pyca import PycaCrypto
from stt_core.dht.attached import AttachedDht
from stt_core.dht.config import DHTConfig
from stt_core.dht.ids import DHTNode
from stt_core.dht.node import Dht
from stt_core.dht.table import load_untrusted
from stt_core.dht.wire import (
    Query,
    Reply,
    build_query,
    build_reply,
    encode_node,
    parse_nodes_untrusted,
    parse_query_untrusted,
    parse_reply_untrusted,
)
from stt_core.errors import Violation
from stt_core.events import AnyEvent
from stt_core.frames import Dht as DhtFrame
from stt_core.types import Path

_CRYPTO: Final = PycaCrypto()
_SIGNER: Final = _CRYPTO.ed25519(b"s" * 32)


def target_dht_message(data: bytes) -> None:
    """Queries and replies: what is accepted is written again with the same content."""
    with suppress(Violation):
        query = parse_query_untrusted(data)
        again = parse_query_untrusted(build_query(query, _SIGNER, b"r" * 32 if query.addressed else None))
        assert again == _by(query)
    with suppress(Violation):
        reply = parse_reply_untrusted(data)
        written = parse_reply_untrusted(build_reply(reply, _SIGNER, b"r" * 32, bytes(1200)))
        assert (written.kind, written.observed, written.record) == (reply.kind, reply.observed, reply.record)
        assert reply.nodes[: len(written.nodes)] == written.nodes
        assert reply.providers[: len(written.providers)] == written.providers


def target_dht_table(data: bytes) -> None:
    """A routing table that was saved: one way to write each."""
    with suppress(Violation):
        nodes = load_untrusted(data)
        assert data.endswith(b"".join(map(encode_node, nodes)))
    with suppress(Violation):
        parse_nodes_untrusted(data)


def target_dht_node(data: bytes) -> None:
    """A node is told anything, by a stranger that signs it and by one that doesn't; it never raises, and answers in
    measure."""
    node = Dht(DHTConfig(port=9337), crypto=_CRYPTO, entropy=entropy_of("dht"), node_seed=b"n" * 32, wall_offset=1e9)
    reader = Reader(data)
    node.table.answered(DHTNode(b"i" * 32, "10.0.0.1", 1), 0.0, 100.0)
    node.find_providers(b"t" * 32, 0.0)
    now = 0.0
    while reader and now < 20:
        now += 1 + reader.byte() % 8
        message = reader.take(reader.short() % 1300)
        with suppress(Violation):
            message = build_query(parse_query_untrusted(message), _SIGNER, node.node_id)
        node.receive_datagram(message, Path("udp", ("10.0.0.1", 1)), now)
        node.handle_timer(now)
        while (out := node.poll_transmit(now)) is not None:
            assert len(out.data) <= 1200
        while node.next_event() is not None:
            pass


class _Insider(Duel):
    """A hostile holder of the seed, and an endpoint with a DHT in private mode."""

    def __init__(self) -> None:
        self.attached: AttachedDht | None = None
        super().__init__(responder_attacks=False)
        dht = Dht(
            DHTConfig(port=9337, carrier="session"),
            crypto=_CRYPTO,
            entropy=entropy_of("dht"),
            node_seed=b"n" * 32,
            wall_offset=1e9,
        )
        self.attached = AttachedDht(dht, self.victim, lambda event: None)

    def react(self, event: AnyEvent) -> None:
        super().react(event)
        if self.attached is not None:
            self.attached.handle_event(event, self.now)


def target_dht_frames(data: bytes) -> None:
    """DHT frames, and what stands beside them in a packet: no exception, bounded answers, and nothing to outsiders."""
    duel = _Insider()
    reader = Reader(data)
    assert duel.attached is not None
    duel.attached.dht.find_providers(b"t" * 32, duel.now)
    for _ in range(64):
        if not reader:
            break
        choice = reader.byte()
        message = reader.take(reader.short() % 1169)
        with suppress(Violation):
            message = build_query(parse_query_untrusted(message), _SIGNER, duel.attached.dht.node_id)
        if choice < 0x40:
            duel.victim.receive_datagram(message, duel.path, duel.now)
            duel.settle()
        elif choice < 0x80:
            duel.attack([message])
        else:
            duel.attack([DhtFrame(message[:1168]).encode()] * (1 + choice % 3))
        duel.wait(0.1 * (choice % 5))
    assert len(duel.attached._where) + len(duel.attached._dials) <= 2


def _by(query: Query | Reply) -> Query:
    """The same query, said by the one who signs here."""
    assert isinstance(query, Query)
    return Query(
        query.kind,
        query.transaction,
        _SIGNER.public,
        query.addressed,
        query.target,
        query.token,
        query.port,
        query.expires,
        query.name,
        query.proof,
        query.record,
    )
