"""A Kademlia DHT: who has content, and small signed records, found without any server (chapter, "DHT-Based Discovery").

Rule: a state machine like the rest of the core. :class:`Dht` has the endpoint's verbs; ``docs/dht.md`` tells the whole.
"""

from __future__ import annotations

from stt_core.dht.attached import AttachedDht
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
from stt_core.dht.ids import DHTNode, id_of
from stt_core.dht.node import Dht
from stt_core.dht.wire import Record, record_target

__all__ = [
    "AttachedDht",
    "Bootstrapped",
    "DHTConfig",
    "DHTEvent",
    "DHTNode",
    "Dht",
    "ExternalAddressChanged",
    "NodesFound",
    "Outcome",
    "ProvidersFound",
    "Record",
    "RecordFound",
    "Stored",
    "id_of",
    "record_target",
]
