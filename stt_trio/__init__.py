"""STT on trio, natively: the same names as ``stt_anyio``, and trio's own interfaces."""

from __future__ import annotations

import logging

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
from stt_trio.content import ContentDistribution, Fetching
from stt_trio.continuity import CryptoSessionContinuity
from stt_trio.datagrams import DatagramChannel
from stt_trio.dht import KademliaDHT
from stt_trio.durable import DurableReceiver, DurableSender
from stt_trio.errors import SessionClosedError, StreamClosedError, StreamResetError
from stt_trio.listeners import Listener
from stt_trio.node import STTNode
from stt_trio.session import STTSession
from stt_trio.streams import ByteStream, MessageStream

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
    "DatagramChannel",
    "Delivery",
    "DroppedProvider",
    "DurableReceiver",
    "DurableSender",
    "ErrorCode",
    "FetchProgress",
    "Fetching",
    "KademliaDHT",
    "Listener",
    "MessageStream",
    "MessageTooLargeError",
    "Outcome",
    "PeerBusyError",
    "PeerKeyError",
    "PoolMissError",
    "PoolStatistics",
    "RateLimits",
    "STTError",
    "STTNode",
    "STTSession",
    "SendTimeoutError",
    "SessionClosedError",
    "SessionState",
    "StateError",
    "StreamClosedError",
    "StreamLimitError",
    "StreamResetError",
    "VersionError",
    "affinity_hash",
    "durable_name",
]

logging.getLogger("stt").addHandler(logging.NullHandler())
