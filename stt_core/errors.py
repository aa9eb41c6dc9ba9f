"""Every error the library shows to its callers, and the one private error of its parsers.

Rule: each public error subclasses the builtin a careful caller would already catch (``ConnectionError``,
``TimeoutError``, ``ValueError`` …), so ``except ConnectionError`` around a connect loop means what it says.
What a *peer* did wrong is never raised at the caller who happened to be on the stack: it closes the session,
and the caller sees :class:`SessionClosedError` with a code and a reason.
"""

from __future__ import annotations

import builtins
from enum import IntEnum, StrEnum


class ErrorCode(IntEnum):
    """The codes that travel in SESSION_CLOSE, STREAM_CLOSE, STREAM_STOP and ERROR frames (one name space)."""

    NO_ERROR = 0x00
    INTERNAL = 0x01
    FRAME_ENCODING = 0x02
    PROTOCOL_VIOLATION = 0x03
    FLOW_CONTROL = 0x04
    STREAM_LIMIT = 0x05
    STREAM_STATE = 0x06
    FINAL_SIZE = 0x07
    MODE_MISMATCH = 0x08
    MESSAGE_TOO_LARGE = 0x09
    CID_LIMIT = 0x0A
    OPTIMISTIC_ACK = 0x0B
    KEY_UPDATE = 0x0C
    AEAD_LIMIT = 0x0D
    SESSION_ID_COLLISION = 0x0E
    APPLICATION = 0x10
    CANCELLED = 0x11
    SHUTTING_DOWN = 0x12
    SUPERSEDED = 0x13
    TICKET_SPENT = 0x14
    RESUME_GAP = 0x15
    LIMIT_EXCEEDED = 0x16


class CloseReason(StrEnum):
    """Why a session ended, as handed to ``on_session_closed`` (chapter, "Detecting Disconnection")."""

    GRACEFUL = "graceful"
    TIMEOUT = "timeout"
    ERROR = "error"
    AUTH_FAILURE = "auth_failure"
    SUPERSEDED = "superseded"


class STTError(Exception):
    """Base of every public error of this library."""


class ConfigurationError(STTError, ValueError):
    """A setting is missing or out of range; the message names the setting and what it may be."""


class StoreError(STTError, OSError):
    """Where tickets or contents are kept can't be read or written, isn't what it was, or lacks what was asked of it."""


class StateError(STTError, RuntimeError):
    """The call does not fit the object's state (for example opening a stream before the handshake is done)."""


class ConnectError(STTError, ConnectionError):
    """A session could not be established."""


class ConnectionRefusedError(ConnectError, builtins.ConnectionRefusedError):
    """The host answered that nothing listens at that address (ICMP), or the peer refused by policy."""


class ConnectionTimeoutError(ConnectError, TimeoutError):
    """No valid answer within the timeout.

    ``challenged`` is true when the peer answered the first message: it is there, but never proved the seed.
    """

    def __init__(self, message: str, *, challenged: bool = False) -> None:
        super().__init__(message)
        self.challenged = challenged


class AuthenticationError(ConnectError):
    """The peer does not hold the same seed (or is not the named peer). Never retried by this library."""


class PeerKeyError(AuthenticationError):
    """The peer holds the seed, but isn't who it should be.

    ``expected`` is the identity key (32 bytes) that was named, or is pinned for its ``node_id``; ``found`` is the one
    that it proved, None where it proved none.
    """

    def __init__(self, message: str, *, node_id: bytes, expected: bytes, found: bytes | None) -> None:
        super().__init__(message)
        self.node_id = node_id
        self.expected = expected
        self.found = found


class PeerBusyError(ConnectError):
    """The peer is alive but declined for now (its failure budget or its session table is full)."""


class VersionError(ConnectError):
    """No protocol version or cipher suite in common."""


class SessionClosedError(STTError, ConnectionError):
    """The session is closing or closed. ``reason`` says why, ``code`` is what was on the wire."""

    def __init__(
        self, message: str, *, reason: CloseReason = CloseReason.GRACEFUL, code: int = ErrorCode.NO_ERROR
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code


class StreamError(STTError, ConnectionError):
    """Base of the errors of one stream; the session lives on."""


class StreamClosedError(StreamError):
    """This side already closed the stream (or its sending half)."""


class StreamResetError(StreamError):
    """The peer ended the stream abruptly; ``code`` is its application code."""

    def __init__(self, message: str, *, code: int = ErrorCode.APPLICATION) -> None:
        super().__init__(message)
        self.code = code


class StreamLimitError(StreamError):
    """The peer's limit on concurrent streams is reached; wait for ``StreamsAvailable`` and try again."""


class SendTimeoutError(STTError, TimeoutError):
    """Not acknowledged in time. What was accepted stays queued and may still arrive."""


class MessageTooLargeError(STTError, ValueError):
    """A message is longer than ``max_message``, or a DATAGRAM longer than the path carries."""


class ContentUnavailableError(STTError, LookupError):
    """Nobody brought any of a content for so long, or nobody who has it was found; the message tells what was tried."""


class PoolMissError(STTError, LookupError):
    """No pooled session is near the content: connect to a peer that has it, and add that session.

    ``providers`` are peers the DHT already knows to have announced ``content_hash``; empty where there is no DHT.
    """

    def __init__(self, message: str, *, content_hash: bytes = b"", providers: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.content_hash = content_hash
        self.providers = providers


class Violation(Exception):  # noqa: N818 - not an error of the caller's: internal, see below
    """Private: what a parser of untrusted bytes raises, and a session catches in exactly one place.

    It never leaves ``stt_core``: unauthenticated input is dropped and counted, an authenticated violation closes
    the session with ``code`` and ``reason``.
    """

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def protocol_violation(reason: str) -> Violation:
    """A :class:`Violation` of the kind that has no code of its own."""
    return Violation(ErrorCode.PROTOCOL_VIOLATION, reason)
