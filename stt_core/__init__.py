"""The STT protocol without I/O: datagrams and times in, datagrams and events out (docs/embedding.md).

Rule: what is named here is the public interface, and stays where it is; the rooms below may be rearranged.
"""

from __future__ import annotations

from stt_core.affinity import ContentAffinityPool, PooledSession, PoolStatistics, ProviderSource, affinity_hash
from stt_core.config import EndpointConfig
from stt_core.crypto import Aead, Crypto
from stt_core.endpoint import Endpoint
from stt_core.errors import (
    AuthenticationError,
    CloseReason,
    ConfigurationError,
    ConnectError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    ErrorCode,
    MessageTooLargeError,
    PeerBusyError,
    PeerKeyError,
    PoolMissError,
    SendTimeoutError,
    SessionClosedError,
    StateError,
    StoreError,
    StreamClosedError,
    StreamError,
    StreamLimitError,
    StreamResetError,
    STTError,
    VersionError,
)
from stt_core.events import (
    AnyEvent,
    DatagramsReadable,
    Event,
    HandshakeFailed,
    LinkWanted,
    PathChanged,
    PathFailed,
    PathReleased,
    PathValidated,
    PeerRejected,
    SessionClosed,
    SessionDetached,
    SessionEstablished,
    SessionResumed,
    StreamAcknowledged,
    StreamFinished,
    StreamOpened,
    StreamReadable,
    StreamsAvailable,
    StreamStopped,
    StreamWritable,
    TicketReceived,
)
from stt_core.links import LinkState
from stt_core.resumption import MemoryTicketStore, ResumptionToken, TicketKey, TicketStore
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.statistics import SessionStatistics
from stt_core.streams import StreamInfo
from stt_core.types import (
    Entropy,
    Observer,
    Path,
    RateLimits,
    Resumed,
    Role,
    SessionKey,
    StreamMode,
    Suite,
    Transmit,
)

__all__ = [
    # the endpoint and its sessions
    "Endpoint",
    "EndpointConfig",
    "RateLimits",
    "Session",
    "SessionKey",
    "SessionState",
    "SessionStatistics",
    "Resumed",
    "ResumptionToken",
    "StreamInfo",
    "StreamMode",
    "Path",
    "LinkState",
    "Transmit",
    "Role",
    "Suite",
    # which session to ask for what
    "ContentAffinityPool",
    "PooledSession",
    "PoolStatistics",
    "ProviderSource",
    "affinity_hash",
    # what an embedder provides
    "Aead",
    "Crypto",
    "Entropy",
    "TicketStore",
    "TicketKey",
    "MemoryTicketStore",
    "Observer",
    # events
    "AnyEvent",
    "Event",
    "SessionEstablished",
    "SessionDetached",
    "SessionResumed",
    "TicketReceived",
    "HandshakeFailed",
    "PeerRejected",
    "SessionClosed",
    "StreamOpened",
    "StreamReadable",
    "StreamWritable",
    "StreamStopped",
    "StreamAcknowledged",
    "StreamFinished",
    "StreamsAvailable",
    "DatagramsReadable",
    "PathChanged",
    "PathFailed",
    "LinkWanted",
    "PathReleased",
    "PathValidated",
    # errors
    "STTError",
    "ConfigurationError",
    "StateError",
    "StoreError",
    "ConnectError",
    "AuthenticationError",
    "ConnectionRefusedError",
    "ConnectionTimeoutError",
    "PeerBusyError",
    "PeerKeyError",
    "VersionError",
    "SessionClosedError",
    "StreamError",
    "StreamClosedError",
    "StreamLimitError",
    "StreamResetError",
    "SendTimeoutError",
    "MessageTooLargeError",
    "PoolMissError",
    "ErrorCode",
    "CloseReason",
]
