"""DHT messages: what is built can be read, what is damaged is refused, and replies keep to twice the query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import pytest

from stt_core.dht import DHTNode, id_of
from stt_core.dht.wire import (
    LARGEST,
    MAX_SALT,
    MAX_VALUE,
    QUERY_SIZE,
    Kind,
    Provider,
    Query,
    Reply,
    Status,
    build_query,
    build_reply,
    parse_query_untrusted,
    parse_reply_untrusted,
    query_holds,
    reply_holds,
    sign_record,
)
from stt_core.errors import Violation
from tests.dht.network import CheapCrypto, CheapSigner

CRYPTO = CheapCrypto()
ASKER, ANSWERER = CheapSigner(b"asker"), CheapSigner(b"answerer")
TARGET, OBSERVED = b"t" * 32, ("10.0.0.9", 777)
RECORD = sign_record(ANSWERER, b"v" * MAX_VALUE, b"s" * MAX_SALT, 7, 1_700_000_000)
BASE = Query(Kind.PING, b"12345678", ASKER.public, addressed=True)
QUERIES = [
    BASE,
    replace(BASE, addressed=False),
    replace(BASE, kind=Kind.FIND_NODE, target=TARGET),
    replace(BASE, kind=Kind.FIND_PROVIDERS, target=TARGET),
    replace(BASE, kind=Kind.GET, target=TARGET),
    replace(
        BASE, kind=Kind.ANNOUNCE, target=TARGET, token=b"8 bytes.", port=80, expires=9, name=b"me", proof=b"p" * 64
    ),
    replace(BASE, kind=Kind.PUT, token=b"8 bytes.", record=RECORD),
]
NODES = tuple(DHTNode(id_of(b"%d" % number), f"10.0.{number}.1", 9337) for number in range(20))
NODES_6 = tuple(replace(node, host=f"2001:db8:{number + 1}::1") for number, node in enumerate(NODES))
PROVIDERS = tuple(Provider(b"%032d" % number, "10.1.1.1", 80, 9, b"n" * 64, b"p" * 64) for number in range(8))
ANSWER = Reply(Kind.PING, b"12345678", ANSWERER.public, OBSERVED)
SEARCHED = replace(ANSWER, kind=Kind.FIND_NODE, token=b"8 bytes.", nodes=NODES)
REPLIES = [
    ANSWER,
    replace(ANSWER, kind=Kind.PUT, status=Status.BAD_TOKEN),
    SEARCHED,
    replace(SEARCHED, observed=("2001:db8::1", 777), nodes=NODES_6),
    replace(SEARCHED, kind=Kind.FIND_PROVIDERS, providers=PROVIDERS[:2], nodes=NODES[:15]),
    replace(SEARCHED, kind=Kind.GET, record=RECORD, nodes=NODES[:5]),
]


def query_bytes(query: Query) -> bytes:
    return build_query(query, ASKER, id_of(ANSWERER.public) if query.addressed else None)


def reply_bytes(reply: Reply) -> bytes:
    return build_reply(reply, ANSWERER, id_of(ASKER.public), query_bytes(BASE))


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.kind.name)
def test_a_query_reads_as_it_was_built(query: Query) -> None:
    data = query_bytes(query)
    assert data[0] < 0x20
    assert QUERY_SIZE <= len(data) <= LARGEST
    assert parse_query_untrusted(data) == query
    assert query_holds(CRYPTO, query, data, id_of(ANSWERER.public))
    assert query_holds(CRYPTO, query, data, b"another's id") is not query.addressed


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: reply.kind.name)
def test_a_reply_reads_as_it_was_built(reply: Reply) -> None:
    data = reply_bytes(reply)
    assert 0x20 <= data[0] < 0x40
    assert parse_reply_untrusted(data) == reply


@pytest.mark.parametrize("nodes", [NODES, NODES_6])
def test_a_reply_is_at_most_twice_the_query_and_has_room_for_twenty_nodes(nodes: tuple[DHTNode, ...]) -> None:
    data = reply_bytes(replace(SEARCHED, observed=("2001:db8::1", 777), nodes=nodes))
    assert len(data) <= 2 * len(query_bytes(BASE))
    assert parse_reply_untrusted(data).nodes == nodes
    full = reply_bytes(replace(SEARCHED, kind=Kind.FIND_PROVIDERS, nodes=nodes, providers=PROVIDERS))
    assert len(full) <= 2 * len(query_bytes(BASE))
    assert len(parse_reply_untrusted(full).providers) >= 2
    assert len(parse_reply_untrusted(full).nodes) >= 10
    with_record = reply_bytes(replace(SEARCHED, kind=Kind.GET, nodes=nodes, record=RECORD))
    assert len(with_record) <= 2 * len(query_bytes(BASE))
    assert len(parse_reply_untrusted(with_record).nodes) >= 6


MESSAGES: list[tuple[bytes, Callable[[bytes], object]]] = [
    *((query_bytes(query), parse_query_untrusted) for query in QUERIES),
    *((reply_bytes(reply), parse_reply_untrusted) for reply in REPLIES),
]


@pytest.mark.parametrize(("data", "parse"), MESSAGES)
def test_a_message_cut_anywhere_or_with_something_after_it_is_refused(
    data: bytes, parse: Callable[[bytes], object]
) -> None:
    for size in range(len(data)):
        if parse is parse_query_untrusted and size >= QUERY_SIZE:
            continue  # less padding than is usual, and a wrong signature
        with pytest.raises(Violation):
            parse(data[:size])
    with pytest.raises(Violation):
        parse(data + b"\1" * 65)


@pytest.mark.parametrize(("data", "parse"), MESSAGES)
def test_no_bit_can_be_flipped(data: bytes, parse: Callable[[bytes], object]) -> None:
    digest = sha256(query_bytes(BASE)).digest()
    for at in range(len(data)):
        changed = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        try:
            read = parse(changed)
        except Violation:
            continue
        if isinstance(read, Query):
            assert not query_holds(CRYPTO, read, changed, id_of(ANSWERER.public))
        else:
            assert isinstance(read, Reply)
            assert not reply_holds(CRYPTO, read, changed, id_of(ASKER.public), digest)


@pytest.mark.parametrize(
    "host", [b"\4\0\0\0\0", b"\4\xe0\0\0\1", b"\6" + bytes(16), b"\6" + bytes(10) + b"\xff\xff\1\1\1\1"]
)
def test_addresses_that_nothing_can_be_sent_to_are_refused(host: bytes) -> None:
    data = reply_bytes(ANSWER)
    with pytest.raises(Violation):
        parse_reply_untrusted(data[:41] + host + data[46:])
