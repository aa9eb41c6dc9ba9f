"""DHT messages: parse, build, and what is signed. One message is one datagram, or one DHT frame.

A query is padded, so that its reply is at most twice as long, three times with the ping that may follow it: who forges
a source address gains nothing. Every message is signed over whom it is for; a reply also over the query it answers, so
it answers nothing else.

Rule: wire format, nothing else. What a parser gives was not authenticated yet: :func:`query_holds` and
:func:`reply_holds` say whether it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final, TypeVar

from stt_core.config import MIN_DATAGRAM
from stt_core.crypto import Crypto, Signer
from stt_core.datagrams import DATAGRAM_OVERHEAD
from stt_core.dht.ids import ID_SIZE, Address, DHTNode, id_of, pack_host, unpack_host
from stt_core.dht.tokens import TOKEN_SIZE
from stt_core.errors import ErrorCode, Violation
from stt_core.outbound import OVERHEAD

TRANSACTION_SIZE: Final = 8
SIGNATURE_SIZE: Final = 64
LARGEST: Final = MIN_DATAGRAM
"""Bytes of a message: as much as every path carries."""
LARGEST_FRAMED: Final = MIN_DATAGRAM - OVERHEAD - DATAGRAM_OVERHEAD
"""Bytes of one that travels as a frame, in a packet of a session: 1168."""
QUERY_SIZE: Final = 600
"""Bytes of a query, at least: half of the largest reply. Whoever asks may be pinged besides, by a query of ours: with
that it is three bytes for each that came, where the source address was forged."""
MAX_VALUE: Final = 512
MAX_SALT: Final = 64
MAX_NAME: Final = 64
MAX_NODES: Final = 20
MAX_PROVIDERS: Final = 8
NOBODY: Final = bytes(ID_SIZE)
"""Stands for the recipient in what is signed, where the sender doesn't know its id yet."""

_HEADER: Final = Struct(">B8s32s")
_REPLY: Final = 0x20
_ANNOUNCE: Final = Struct(">8sHQ")
_RECORD: Final = Struct(">32sQQ")


E = TypeVar("E", bound=IntEnum)
T = TypeVar("T")


class Kind(IntEnum):
    """What a query wants; its first byte. That of the reply is 32 more."""

    PING = 1
    FIND_NODE = 2
    FIND_PROVIDERS = 3
    GET = 4
    ANNOUNCE = 5
    PUT = 6


class Status(IntEnum):
    """What became of ANNOUNCE or PUT."""

    STORED = 0
    BAD_TOKEN = 1
    REFUSED = 2


SEARCHES: Final = frozenset({Kind.FIND_NODE, Kind.FIND_PROVIDERS, Kind.GET})


@dataclass(frozen=True, slots=True)
class Provider:
    """Somebody's word that it provides content, signed by it but for the host, at which it was seen to be."""

    public: bytes
    host: str
    port: int
    expires: int
    """Wall-clock seconds."""
    name: bytes
    """The provider's own name for itself; empty where that is its DHT id."""
    signature: bytes

    @property
    def node(self) -> DHTNode:
        """Where to reach it, and as whom."""
        return DHTNode(self.name or id_of(self.public), self.host, self.port)

    def holds(self, crypto: Crypto, target: bytes) -> bool:
        """Whether the provider did sign this, of that content."""
        said = provider_statement(target, self.port, self.expires, self.name)
        return crypto.ed25519_verify(self.public, self.signature, said)

    def encode(self) -> bytes:
        """As it stands in a reply."""
        ending = self.expires.to_bytes(8, "big") + bytes((len(self.name),)) + self.name
        return self.public + encode_address((self.host, self.port)) + ending + self.signature


@dataclass(frozen=True, slots=True)
class Record:
    """A value that its owner can replace by a newer one, kept where ``target`` is near."""

    public: bytes
    sequence: int
    expires: int
    """Wall-clock seconds."""
    salt: bytes
    """Tells the records of one owner apart; at most 64 bytes."""
    value: bytes
    """At most 512 bytes."""
    signature: bytes

    @property
    def target(self) -> bytes:
        """Where it belongs, 32 bytes: BLAKE2b-256 of owner and salt."""
        return record_target(self.public, self.salt)

    def holds(self, crypto: Crypto) -> bool:
        """Whether its owner did sign it."""
        return crypto.ed25519_verify(self.public, self.signature, b"STT1 dht record" + self._content())

    def encode(self) -> bytes:
        """As it stands in messages."""
        return self._content() + self.signature

    def _content(self) -> bytes:
        salt, value = self.salt, self.value
        lengths = bytes((len(salt),)) + salt + len(value).to_bytes(2, "big") + value
        return _RECORD.pack(self.public, self.sequence, self.expires) + lengths


@dataclass(frozen=True, slots=True)
class Query:
    """A query; which fields mean anything depends on ``kind``."""

    kind: Kind
    transaction: bytes
    public: bytes
    addressed: bool
    """Whether it is signed over the recipient's id, not over zeros."""
    target: bytes = b""
    token: bytes = b""
    port: int = 0
    expires: int = 0
    name: bytes = b""
    proof: bytes = b""
    """ANNOUNCE: the signature of the :class:`Provider`."""
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply; which fields mean anything depends on ``kind``."""

    kind: Kind
    transaction: bytes
    public: bytes
    observed: Address
    """Where the query came from, as its receiver saw it."""
    status: Status = Status.STORED
    token: bytes = b""
    providers: tuple[Provider, ...] = ()
    record: Record | None = None
    nodes: tuple[DHTNode, ...] = ()


# --- what is signed


def provider_statement(target: bytes, port: int, expires: int, name: bytes) -> bytes:
    """What a provider signs."""
    return b"STT1 dht provider" + target + port.to_bytes(2, "big") + expires.to_bytes(8, "big") + name


def sign_record(signer: Signer, value: bytes, salt: bytes, sequence: int, expires: int) -> Record:
    """A record of the signer's own."""
    unsigned = Record(signer.public, sequence, expires, salt, value, b"")
    signature = signer.sign(b"STT1 dht record" + unsigned.encode())
    return Record(signer.public, sequence, expires, salt, value, signature)


def record_target(public: bytes, salt: bytes) -> bytes:
    """Where the record of that owner with that salt belongs."""
    return hashlib.blake2b(public + salt, digest_size=ID_SIZE, person=b"STT1 record").digest()


def query_holds(crypto: Crypto, query: Query, data: bytes, own_id: bytes) -> bool:
    """Whether its sender did say this, and to us (or to whoever is at this address)."""
    recipient = own_id if query.addressed else NOBODY
    return crypto.ed25519_verify(query.public, data[-SIGNATURE_SIZE:], _query_statement(recipient, data))


def reply_holds(crypto: Crypto, reply: Reply, data: bytes, own_id: bytes, digest: bytes) -> bool:
    """Whether its sender did say this, to us, and about the query with this SHA-256."""
    return crypto.ed25519_verify(reply.public, data[-SIGNATURE_SIZE:], _reply_statement(own_id, digest, data))


def _query_statement(recipient: bytes, data: bytes) -> bytes:
    return b"STT1 dht query" + recipient + data[:-SIGNATURE_SIZE]


def _reply_statement(recipient: bytes, digest: bytes, data: bytes) -> bytes:
    return b"STT1 dht reply" + recipient + digest + data[:-SIGNATURE_SIZE]


# --- build


def build_query(query: Query, signer: Signer, recipient: bytes | None) -> bytes:
    """The message, padded and signed. ``recipient`` is the id it is for, None where that isn't known."""
    body = b"" if query.kind is Kind.PING else query.target
    if query.kind is Kind.ANNOUNCE:
        body += _ANNOUNCE.pack(query.token, query.port, query.expires)
        body += bytes((len(query.name),)) + query.name + query.proof
    elif query.kind is Kind.PUT:
        assert query.record is not None
        body = query.token + query.record.encode()
    header = _HEADER.pack(query.kind, query.transaction, signer.public) + bytes((recipient is not None,))
    data = (header + body).ljust(QUERY_SIZE - SIGNATURE_SIZE, b"\0") + bytes(SIGNATURE_SIZE)
    return data[:-SIGNATURE_SIZE] + signer.sign(_query_statement(recipient or NOBODY, data))


def build_reply(reply: Reply, signer: Signer, recipient: bytes, query: bytes, largest: int = LARGEST) -> bytes:
    """The message that answers ``query``, signed, of ``largest`` bytes at most; as many of its providers, then of its
    nodes, as there is room for."""
    body = _HEADER.pack(reply.kind | _REPLY, reply.transaction, signer.public) + encode_address(reply.observed)
    if reply.kind in SEARCHES:
        record = b"" if reply.record is None else reply.record.encode()
        room = min(2 * len(query), largest) - SIGNATURE_SIZE - len(body) - TOKEN_SIZE - len(record) - 3
        # Half of the room is for nodes: who is asked for much-wanted content must show the way to others that know it.
        providers = _fitting([provider.encode() for provider in reply.providers[:MAX_PROVIDERS]], room // 2)
        nodes = _fitting([encode_node(node) for node in reply.nodes[:MAX_NODES]], room - sum(map(len, providers)))
        counted = bytes((len(providers),)) + b"".join(providers)
        body += reply.token + counted + bytes((reply.record is not None,)) + record
        body += bytes((len(nodes),)) + b"".join(nodes)
    else:
        body += bytes((reply.status,))
    data = body + bytes(SIGNATURE_SIZE)
    digest = hashlib.sha256(query).digest()
    return body + signer.sign(_reply_statement(recipient, digest, data))


def encode_address(address: Address) -> bytes:
    """Family, 4 or 6; IP address; port."""
    host = pack_host(address[0])
    return bytes((4 if len(host) == 4 else 6,)) + host + address[1].to_bytes(2, "big")


def encode_node(node: DHTNode) -> bytes:
    """Id and address."""
    return node.node_id + encode_address(node.address)


def _fitting(parts: Sequence[bytes], room: int) -> list[bytes]:
    found = []
    for part in parts:
        room -= len(part)
        if room < 0:
            break
        found.append(part)
    return found


# --- parse


def is_reply(data: bytes) -> bool:
    """Whether this is a reply, if it is anything."""
    return bool(data and data[0] & _REPLY)


def parse_query_untrusted(data: bytes) -> Query:
    """A query, as anybody may have sent it.

    :raises Violation: where it is none.
    """
    body = _Body(data, QUERY_SIZE)
    kind, transaction, public = _HEADER.unpack(body.take(_HEADER.size))
    addressed = body.flag()
    kind = _known(Kind, kind)
    target = token = name = proof = b""
    port = expires = 0
    record = None
    if kind in SEARCHES:
        target = body.take(ID_SIZE)
    elif kind is Kind.ANNOUNCE:
        target = body.take(ID_SIZE)
        token, port, expires = _ANNOUNCE.unpack(body.take(_ANNOUNCE.size))
        name, proof = body.short(MAX_NAME), body.take(SIGNATURE_SIZE)
        body.check(port > 0, "port 0")
    elif kind is Kind.PUT:
        token, record = body.take(TOKEN_SIZE), body.record()
    body.check(not body.rest().strip(b"\0"), "padding that isn't zero")
    return Query(kind, transaction, public, addressed, target, token, port, expires, name, proof, record)


def parse_reply_untrusted(data: bytes) -> Reply:
    """A reply, as anybody may have sent it.

    :raises Violation: where it is none.
    """
    body = _Body(data, _HEADER.size + SIGNATURE_SIZE)
    kind, transaction, public = _HEADER.unpack(body.take(_HEADER.size))
    kind = _known(Kind, kind ^ _REPLY)
    observed = body.address()
    if kind not in SEARCHES:
        reply = Reply(kind, transaction, public, observed, _known(Status, body.byte()))
    else:
        token = body.take(TOKEN_SIZE)
        providers = body.several(MAX_PROVIDERS, body.provider)
        record = body.record() if body.flag() else None
        nodes = body.several(MAX_NODES, body.node)
        reply = Reply(kind, transaction, public, observed, Status.STORED, token, providers, record, nodes)
    body.check(not body.rest(), "something after the end")
    return reply


def parse_nodes_untrusted(data: bytes) -> tuple[DHTNode, ...]:
    """Nodes one after the other, as :func:`encode_node` writes them.

    :raises Violation: where they aren't that.
    """
    body = _Body(data + bytes(SIGNATURE_SIZE), 0, len(data) + SIGNATURE_SIZE)
    nodes = []
    while body.left:
        nodes.append(body.node())
    return tuple(nodes)


def _known(names: type[E], value: int) -> E:
    try:
        return names(value)
    except ValueError:
        raise Violation(ErrorCode.FRAME_ENCODING, f"unknown {names.__name__.lower()}") from None


class _Body:
    """What stands before a signature, read from the front."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, least: int, most: int = LARGEST) -> None:
        self._data = data
        self._at = 0
        self._end = len(data) - SIGNATURE_SIZE
        self.check(least <= len(data) <= most, "length")

    @property
    def left(self) -> int:
        return self._end - self._at

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            raise Violation(ErrorCode.FRAME_ENCODING, f"DHT message: {what}")

    def take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        self.check(self._at <= self._end, "cut short")
        return self._data[start : self._at]

    def rest(self) -> bytes:
        return self.take(self.left)

    def byte(self) -> int:
        return self.take(1)[0]

    def flag(self) -> bool:
        value = self.byte()
        self.check(value < 2, "flag")
        return value == 1

    def short(self, most: int) -> bytes:
        size = self.byte()
        self.check(size <= most, "too long a string")
        return self.take(size)

    def address(self) -> Address:
        family = self.byte()
        self.check(family in (4, 6), "address family")
        host = unpack_host(self.take(4 if family == 4 else 16))
        port = int.from_bytes(self.take(2), "big")
        self.check(port > 0, "port 0")
        return host, port

    def node(self) -> DHTNode:
        node_id = self.take(ID_SIZE)
        return DHTNode(node_id, *self.address())

    def provider(self) -> Provider:
        public = self.take(32)
        host, port = self.address()
        expires = int.from_bytes(self.take(8), "big")
        name = self.short(MAX_NAME)
        return Provider(public, host, port, expires, name, self.take(SIGNATURE_SIZE))

    def record(self) -> Record:
        public, sequence, expires = _RECORD.unpack(self.take(_RECORD.size))
        salt = self.short(MAX_SALT)
        size = int.from_bytes(self.take(2), "big")
        self.check(size <= MAX_VALUE, "too long a value")
        value = self.take(size)
        return Record(public, sequence, expires, salt, value, self.take(SIGNATURE_SIZE))

    def several(self, most: int, read: Callable[[], T]) -> tuple[T, ...]:
        count = self.byte()
        self.check(count <= most, "too many entries")
        return tuple(read() for _ in range(count))
