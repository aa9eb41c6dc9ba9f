"""What a DHT node tells: how its commands went. ``handle`` is what the command returned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from stt_core.dht.ids import Address, DHTNode
from stt_core.dht.wire import Record


class Outcome(StrEnum):
    """What became of one address that was to be bootstrapped from."""

    ANSWERED = "answered"
    NO_ANSWER = "no answer"


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """What each address was good for, and how many contacts there are now."""

    handle: int
    outcomes: Mapping[Address, Outcome]
    contacts: int


@dataclass(frozen=True, slots=True)
class NodesFound:
    """The nodes nearest to ``target`` that answered, the nearest first; and what it took."""

    handle: int
    target: bytes
    nodes: tuple[DHTNode, ...]
    hops: int
    queries: int


@dataclass(frozen=True, slots=True)
class ProvidersFound:
    """Who said of itself, with a signature, that it provides ``target``."""

    handle: int
    target: bytes
    providers: tuple[DHTNode, ...]


@dataclass(frozen=True, slots=True)
class RecordFound:
    """The newest record at ``target``; None where nobody has one."""

    handle: int
    target: bytes
    record: Record | None


@dataclass(frozen=True, slots=True)
class Stored:
    """``stored`` nodes keep what was announced or put at ``target``."""

    handle: int
    target: bytes
    stored: int


@dataclass(frozen=True, slots=True)
class ExternalAddressChanged:
    """Most of those who answer see this node at another address than before."""

    address: Address | None


DHTEvent = Bootstrapped | NodesFound | ProvidersFound | RecordFound | Stored | ExternalAddressChanged
