"""STT on asyncio, uvloop and trio, through anyio."""

from __future__ import annotations

import logging

from stt_anyio.attributes import STTAttribute
from stt_anyio.connectables import MessageConnectable, StreamConnectable
from stt_anyio.content import ContentDistribution, Fetching
from stt_anyio.continuity import CryptoSessionContinuity
from stt_anyio.datagrams import DatagramStream
from stt_anyio.dht import KademliaDHT
from stt_anyio.durable import DurableReceiver, DurableSender
from stt_anyio.errors import SessionClosedError, StreamClosedError, StreamResetError
from stt_anyio.listeners import Listener
from stt_anyio.node import STTNode
from stt_anyio.session import STTSession
from stt_anyio.streams import ByteStream, MessageStream
from stt_backends.adapter.broadcast import Delivery, Outcome
from stt_backends.adapter.durable import durable_name
from stt_backends.adapter.fetching import DroppedProvider, FetchProgress
from stt_core.affinity import ContentAffinityPool, PoolStatistics, affinity_hash
from stt_core.dht import DHTNode
from stt_core.errors import (
    AuthenticationError,
    CloseReason,
    ConfigurationError,
    ConnectError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    ContentUnavailableError,
    ErrorCode,
    MessageTooLargeError,
    PeerBusyError,
    PeerKeyError,
    PoolMissError,
    SendTimeoutError,
    StateError,
    StreamLimitError,
    STTError,
    VersionError,
)
from stt_core.state import SessionState
from stt_core.types import RateLimits

__all__ = [
    "AuthenticationError",
    "ByteStream",
    "CloseReason",
    "ConfigurationError",
    "ConnectError",
    "ConnectionRefusedError",
    "ConnectionTimeoutError",
    "ContentAffinityPool",
    "ContentDistribution",
    "ContentUnavailableError",
    "CryptoSessionContinuity",
    "DHTNode",
    "DatagramStream",
    "Delivery",
    "DroppedProvider",
    "DurableReceiver",
    "DurableSender",
    "ErrorCode",
    "FetchProgress",
    "Fetching",
    "Listener",
    "MessageConnectable",
    "KademliaDHT",
    "MessageStream",
    "MessageTooLargeError",
    "Outcome",
    "PeerBusyError",
    "PeerKeyError",
    "PoolMissError",
    "PoolStatistics",
    "RateLimits",
    "STTAttribute",
    "STTError",
    "STTNode",
    "STTSession",
    "SendTimeoutError",
    "SessionClosedError",
    "SessionState",
    "StateError",
    "StreamClosedError",
    "StreamConnectable",
    "StreamLimitError",
    "StreamResetError",
    "VersionError",
    "affinity_hash",
    "durable_name",
]

logging.getLogger("stt").addHandler(logging.NullHandler())
