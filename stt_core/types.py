"""The small value types that more than one room speaks of."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from typing import NamedTuple, NewType, Protocol

Entropy = Callable[[int], bytes]
"""``entropy(n)`` gives ``n`` unpredictable bytes (``os.urandom`` in production, a seeded stream in tests)."""

SessionKey = NewType("SessionKey", int)
"""Names one session inside one endpoint, from ``connect`` on; local, never on the wire."""


class Role(Enum):
    """Which side of the handshake this is; the value is the letter the key schedule uses."""

    INITIATOR = b"i"
    RESPONDER = b"r"

    @property
    def other(self) -> Role:
        """The peer's role."""
        return Role.RESPONDER if self is Role.INITIATOR else Role.INITIATOR


class Suite(IntEnum):
    """AEAD suites; the value is the bit in HELLO's suite mask."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2


class Resumed(StrEnum):
    """How much of an earlier session goes on in one: nothing, who the peer is, or its streams as well."""

    NO = "no"
    IDENTITY = "identity"
    FULL = "full"


class StreamMode(IntEnum):
    """What ``receive`` returns: the wire value of STREAM_OPEN's mode."""

    MESSAGES = 0
    BYTES = 1


class Path(NamedTuple):
    """One way over the network. A NamedTuple because it is hashed once per batch on the hot path.

    ``transport`` is ``"udp"`` or ``"websocket"``; ``address`` is whatever the adapter sends to, hashable: for UDP the
    ``socket`` module's address tuple, and behind the port whatever else tells two ways there apart; for WebSocket the
    name of one connection, a tuple that begins with the peer's IP address as text and that no other connection of the
    endpoint ever had.
    """

    transport: str
    address: Hashable

    @property
    def reliable(self) -> bool:
        """Whether what is sent here arrives, whole and in order, as long as the path lives."""
        return self.transport == "websocket"


class Transmit(NamedTuple):
    """What to send next: equal-sized datagrams back to back for one path (the last may be shorter).

    ``data`` is at most as long as was asked for, 65,472 bytes by default; ``segment_size`` is the size of each datagram
    in it, in bytes; ``ecn`` is the codepoint their IP headers should bear, 0 to 3 (RFC 3168 section 5). On a reliable
    path ``data`` is one datagram, which is one message.
    """

    data: bytes
    path: Path
    segment_size: int
    ecn: int = 0


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Everything the responder rations (docs/protocol.md, "Rate limits"); ``None`` for the whole turns rationing off.

    Rates are per second. ``per_prefix`` limits count validated addresses per /32, /64 and /48.
    """

    hello_rate: float = 200.0
    hello_burst: int = 64
    validated_hello_rate: float = 20.0
    validated_proof_rate: float = 10.0
    half_open: int = 1024
    used_nonces: int = 65536
    failure_burst: int = 5
    failure_interval: float = 30.0
    global_failure_burst: int = 50
    global_failure_interval: float = 2.0
    target_burst: int = 10
    target_interval: float = 30.0
    resets_per_second: float = 10.0
    prefixes: int = 4096
    loopback_exempt: bool = True


class Observer(Protocol):
    """Counters or a qlog writer. Called at most once per batch, with columns, never per packet."""

    def packets_sent(self, session_key: SessionKey, first: int, count: int, size: int, now: float) -> None:
        """``count`` packets from number ``first`` on left, ``size`` bytes in all."""
        ...

    def packets_received(self, session_key: SessionKey, numbers: Sequence[int], size: int, now: float) -> None:
        """These packet numbers were opened, ``size`` bytes in all."""
        ...

    def packets_lost(self, session_key: SessionKey, count: int, now: float) -> None:
        """``count`` packets were declared lost."""
        ...
