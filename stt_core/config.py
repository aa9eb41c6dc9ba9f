"""Settings, checked where they are made: an :class:`EndpointConfig` that exists is valid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from stt_core.errors import ConfigurationError
from stt_core.pins import PinStore
from stt_core.types import RateLimits

MIN_DATAGRAM = 1200
"""The datagram size every path must carry (RFC 9000 section 14)."""
MAX_DATAGRAM = 65_472
"""The largest batch, and the largest datagram, one system call takes with room for headers."""
Congestion = Literal["cubic", "newreno"]
"""The congestion controllers there are."""
KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One endpoint's settings. Times in seconds, sizes in bytes.

    ``shared_seed`` is the secret both sides hold; it is never shown by ``repr``. ``node_id`` is a label of 1 to 255
    bytes that any holder of the seed can claim; ``node_seed`` (at least 16 random bytes) gives a provable identity.

    ``ecn`` marks packets so that routers can tell of congestion before they drop any (RFC 9000 section 13.4), except on
    the loopback. ``mtu_search`` looks for larger datagrams that the path carries, up to ``max_udp_payload``; it must be
    off where the socket lets datagrams be cut into fragments.

    ``congestion`` is how the window of a path follows its losses: CUBIC (RFC 9438), or NewReno (RFC 9002).

    The windows of a session and of each stream grow to ``max_window``; with ``max_stream_window`` a stream's stays
    below that, so that streams nobody reads can't hold up all others.

    ``stable_resets`` lets an endpoint with the same ``node_seed`` reset sessions it lost in a restart; it must be off
    where several processes serve one port, or they reset each other's sessions.

    ``resumable`` keeps a session whose peer fell silent, with its streams, for ``detached_timeout`` seconds, so that it
    can be resumed; all that are kept together take ``detached_memory`` bytes at most, and each one's windows grow to
    ``resumable_window`` instead of ``max_window``. Tickets for resuming are good for ``ticket_lifetime`` seconds, a day
    at most; 0 for none.
    ``keep_identity`` says that ``node_seed`` outlives this process, so that tickets are bound to its identity. ``pins``
    holds each peer to the identity that it proved first under its name; None lets any holder of the seed claim any.

    :raises ConfigurationError: naming the setting, what it was and what it may be.
    """

    shared_seed: bytes = field(repr=False)
    node_id: bytes
    node_seed: bytes | None = field(default=None, repr=False)
    handshake_timeout: float = 10.0
    keep_alive_interval: float = 10.0
    keep_alive_timeout: float = 30.0
    max_ack_delay: float = 0.025
    max_udp_payload: int = MAX_DATAGRAM
    receive_buffer_hint: int = 212_992
    max_sessions: int = 1000
    max_streams: int = 128
    stream_window: int = 256 * KIB
    session_window: int = 1 * MIB
    max_window: int = 16 * MIB
    max_stream_window: int | None = None
    max_message: int = 16 * MIB
    send_buffer: int = 1 * MIB
    datagram_queue: int = 256 * KIB
    accept: bool = True
    stable_resets: bool = True
    keep_identity: bool = True
    pins: PinStore | None = field(default=None, repr=False)
    resumable: bool = False
    resumable_window: int = 4 * MIB
    detached_timeout: float = 86400.0
    detached_memory: int = 64 * MIB
    ticket_lifetime: float = 86400.0
    validate_address: bool = False
    rate_limits: RateLimits | None = field(default_factory=RateLimits)
    prefer_chacha: bool = False
    pacing_on_loopback: bool = False
    congestion: Congestion = "cubic"
    ecn: bool = True
    mtu_search: bool = True

    def __post_init__(self) -> None:
        check_bytes("shared_seed", self.shared_seed, 1, 1024, secret=True)
        check_bytes("node_id", self.node_id, 1, 255)
        if self.node_seed is not None:
            check_bytes("node_seed", self.node_seed, 16, 1024, secret=True)
        _check("handshake_timeout", self.handshake_timeout, 0.001, 3600, "seconds")
        _check("keep_alive_interval", self.keep_alive_interval, 0.001, 86400, "seconds")
        _check("keep_alive_timeout", self.keep_alive_timeout, 0.001, 86400, "seconds")
        if self.keep_alive_timeout <= self.keep_alive_interval:
            raise ConfigurationError(
                f"keep_alive_timeout is {self.keep_alive_timeout:g} s, expected more than keep_alive_interval "
                f"({self.keep_alive_interval:g} s): otherwise every idle session dies before its first keep-alive"
            )
        _check("max_ack_delay", self.max_ack_delay, 0.0, 1.0, "seconds")
        _check("max_udp_payload", self.max_udp_payload, MIN_DATAGRAM, MAX_DATAGRAM, "bytes")
        _check("receive_buffer_hint", self.receive_buffer_hint, 4 * KIB, 2**31, "bytes")
        _check("max_sessions", self.max_sessions, 1, 2**20, "sessions")
        _check("max_streams", self.max_streams, 1, 2**16, "streams")
        _check("stream_window", self.stream_window, 4 * KIB, 2**30, "bytes")
        _check("session_window", self.session_window, self.stream_window, 2**30, "bytes")
        _check("max_window", self.max_window, self.session_window, 2**30, "bytes")
        if self.max_stream_window is not None:
            _check("max_stream_window", self.max_stream_window, self.stream_window, self.max_window, "bytes")
        _check("max_message", self.max_message, 1, 2**31, "bytes")
        _check("resumable_window", self.resumable_window, 4 * KIB, 2**30, "bytes")
        _check("detached_timeout", self.detached_timeout, 0.001, 86400, "seconds")
        _check("detached_memory", self.detached_memory, 0, 2**40, "bytes")
        _check("ticket_lifetime", self.ticket_lifetime, 0.0, 86400, "seconds")
        _check("send_buffer", self.send_buffer, 4 * KIB, 2**30, "bytes")
        _check("datagram_queue", self.datagram_queue, MIN_DATAGRAM, 2**30, "bytes")
        if self.congestion not in get_args(Congestion):
            expected = " or ".join(get_args(Congestion))
            raise ConfigurationError(f"congestion is {self.congestion!r}, expected {expected}")


def check_bytes(name: str, value: object, least: int, most: int, *, secret: bool = False) -> None:
    """Hold a setting, or an argument, to be so many bytes.

    :raises ConfigurationError: where it isn't; a secret one is not shown.
    """
    if not isinstance(value, bytes):
        shown = type(value).__name__ if secret else f"{value!r} ({type(value).__name__})"
        raise ConfigurationError(f"{name} is {shown}, expected bytes")
    _check(name, len(value), least, most, "bytes")


def check_seconds(name: str, value: float) -> None:
    """Hold an argument to be a time that can pass, a day at most.

    :raises ConfigurationError: where it isn't.
    """
    _check(name, value, 0.0, 86400, "seconds")


def _check(name: str, value: float, least: float, most: float, unit: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name} is {value!r}, expected a number of {unit}")
    if not least <= value <= most:
        raise ConfigurationError(f"{name} is {_plain(value)} {unit}, expected {_plain(least)} to {_plain(most)} {unit}")


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
