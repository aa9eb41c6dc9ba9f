"""What each side tells the other about itself, once, under the handshake's encryption: limits, sizes, times.

Rule: every value has a default that asks nothing of the peer, so a missing one is never an error; a value out of
range, one of the wrong size or one given twice is. Unknown types are ignored, which is how later versions add some.

On the wire: type u8, length u16, value, repeated; type 0 ends the list and the rest is zero (docs/protocol.md,
"Handshake"). Integers are big-endian::

    1 initial_max_data u64 (bytes)       2 initial_max_stream_data u64 (bytes)   3 max_streams u32
    4 max_udp_payload u32 (bytes)        5 receive_buffer_hint u32 (bytes)       6 ack_delay u32 (microseconds)
    7 idle_timeout u32 (milliseconds)    8 max_message u64 (bytes)               9 reset_token 16 bytes
    16 identity key 32 bytes and proof 64 bytes      17 resume      18 kept_identity, empty      19 dht_only, empty
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from operator import attrgetter
from typing import Final, NamedTuple

from stt_core.config import MIB, MIN_DATAGRAM, EndpointConfig
from stt_core.errors import ErrorCode, Violation

RESET_TOKEN_SIZE: Final = 16
_MAX_ACK_DELAY_US: Final = 1_000_000


class Tlv(IntEnum):
    """Types of the sealed list; the even and odd have no meaning."""

    END = 0
    INITIAL_MAX_DATA = 1
    INITIAL_MAX_STREAM_DATA = 2
    MAX_STREAMS = 3
    MAX_UDP_PAYLOAD = 4
    RECEIVE_BUFFER_HINT = 5
    ACK_DELAY = 6
    IDLE_TIMEOUT = 7
    MAX_MESSAGE = 8
    RESET_TOKEN = 9
    IDENTITY = 16
    RESUME = 17
    KEPT_IDENTITY = 18
    DHT_ONLY = 19


class TransportParameters(NamedTuple):
    """One side's declaration. Sizes in bytes, times in seconds; the defaults are what an absent entry means.

    ``initial_max_data`` and ``initial_max_stream_data`` are what the declarer is ready to receive; ``max_streams``
    counts automatic stream ids each way; ``receive_buffer_hint`` is its socket's buffer; ``reset_token`` proves a
    stateless reset of the cid it used in the handshake (empty: it will send none). With ``dht_only`` an initiator says
    that it makes this session to carry DHT messages, and that no application is to hear of it.
    """

    initial_max_data: int = 0
    initial_max_stream_data: int = 0
    max_streams: int = 0
    max_udp_payload: int = MIN_DATAGRAM
    receive_buffer_hint: int = 212_992
    ack_delay: float = 0.025
    idle_timeout: float = 30.0
    max_message: int = 16 * MIB
    reset_token: bytes = b""
    dht_only: bool = False

    @classmethod
    def of(cls, config: EndpointConfig) -> TransportParameters:
        """What an endpoint with these settings declares in each of its sessions."""
        return cls(
            initial_max_data=config.session_window,
            initial_max_stream_data=config.stream_window,
            max_streams=config.max_streams,
            max_udp_payload=config.max_udp_payload,
            receive_buffer_hint=config.receive_buffer_hint,
            ack_delay=config.max_ack_delay,
            idle_timeout=config.keep_alive_timeout,
            max_message=config.max_message,
        )

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True) if name != "reset_token"]
        return f"TransportParameters({', '.join(shown)})"

    def encode(self) -> bytes:
        """The entries on the wire, without an end."""
        numbers = _encoded(_numbers(self))
        if self.dht_only:
            numbers += encode_tlvs({Tlv.DHT_ONLY: b""})
        return numbers + encode_tlvs({Tlv.RESET_TOKEN: self.reset_token}) if self.reset_token else numbers


@dataclass(frozen=True, slots=True)
class _Shape:
    """One integer entry: the field it fills, its bytes, its range on the wire, and wire units to one of the field's."""

    name: str
    size: int
    least: int
    most: int
    scale: int = 1

    def encode(self, value: float) -> bytes:
        return min(max(round(value * self.scale), self.least), self.most).to_bytes(self.size, "big")


_SHAPES: Final[Mapping[Tlv, _Shape]] = {
    Tlv.INITIAL_MAX_DATA: _Shape("initial_max_data", 8, 0, 2**62),
    Tlv.INITIAL_MAX_STREAM_DATA: _Shape("initial_max_stream_data", 8, 0, 2**62),
    Tlv.MAX_STREAMS: _Shape("max_streams", 4, 0, 2**31),
    Tlv.MAX_UDP_PAYLOAD: _Shape("max_udp_payload", 4, MIN_DATAGRAM, 2**32 - 1),
    Tlv.RECEIVE_BUFFER_HINT: _Shape("receive_buffer_hint", 4, MIN_DATAGRAM, 2**32 - 1),
    Tlv.ACK_DELAY: _Shape("ack_delay", 4, 0, _MAX_ACK_DELAY_US, 1_000_000),
    Tlv.IDLE_TIMEOUT: _Shape("idle_timeout", 4, 1, 2**32 - 1, 1000),
    Tlv.MAX_MESSAGE: _Shape("max_message", 8, 1, 2**62),
}


_numbers = attrgetter(*[shape.name for shape in _SHAPES.values()])


@lru_cache(maxsize=16)
def _encoded(numbers: tuple[float, ...]) -> bytes:
    """Remembered, because an endpoint declares the same in each of its sessions."""
    return encode_tlvs({kind: _SHAPES[kind].encode(value) for kind, value in zip(_SHAPES, numbers, strict=True)})


def encode_tlvs(values: Mapping[int, bytes]) -> bytes:
    """Type, length and value of each, in the mapping's order, without an end.

    :raises ValueError: if one is longer than its length field can say, or has the end's type.
    """
    if Tlv.END in values or any(len(value) > 0xFFFF for value in values.values()):
        raise ValueError("a TLV has a type from 1 to 255 and at most 65535 bytes")
    return b"".join([bytes((kind,)) + len(value).to_bytes(2, "big") + value for kind, value in values.items()])


def parse_tlvs_untrusted(data: bytes) -> dict[int, bytes]:
    """The entries of a list, known or not, by type. The list ends with the data or with type 0 and zeros.

    :raises Violation: on an entry cut short, one given twice, or anything but zeros after the end.
    """
    values: dict[int, bytes] = {}
    size = len(data)
    at = 0
    while at < size:
        kind = data[at]
        if not kind:  # Tlv.END
            if data.count(0, at) != size - at:
                raise _violation("bytes after the end of the parameters")
            break
        start = at + 3
        if start > size or (stop := start + (data[at + 1] << 8 | data[at + 2])) > size:
            raise _violation("parameter cut short")
        if kind in values:
            raise _violation(f"parameter {kind} given twice")
        values[kind] = data[start:stop]
        at = stop
    return values


def parse_parameters_untrusted(values: Mapping[int, bytes]) -> TransportParameters:
    """A declaration from the entries :func:`parse_tlvs_untrusted` found; absent ones have their defaults.

    :raises Violation: on a value of the wrong size or out of range.
    """
    numbers = _from_values(tuple([values.get(kind) for kind in _SHAPES]))
    token = values.get(Tlv.RESET_TOKEN, b"")
    if len(token) not in (0, RESET_TOKEN_SIZE):
        raise _violation(f"reset token of {len(token)} bytes")
    if values.get(Tlv.DHT_ONLY):
        raise _violation("dht_only with a value")
    dht_only = Tlv.DHT_ONLY in values
    return numbers._replace(reset_token=token, dht_only=dht_only) if token or dht_only else numbers


@lru_cache(maxsize=16)
def _from_values(values: tuple[bytes | None, ...]) -> TransportParameters:
    """The integers of :func:`parse_parameters_untrusted`, and its :class:`Violation`. Remembered, because the nodes of
    one kind declare the same in each of their sessions."""
    fields: dict[str, int | float] = {}
    for shape, value in zip(_SHAPES.values(), values, strict=True):
        if value is None:
            continue
        number = int.from_bytes(value, "big")
        if len(value) != shape.size or not shape.least <= number <= shape.most:
            raise _violation(f"parameter {shape.name} is {number} in {len(value)} bytes")
        fields[shape.name] = number if shape.scale == 1 else number / shape.scale
    return TransportParameters(**fields)  # type: ignore[arg-type]  # _SHAPES names int and float fields


def _violation(reason: str) -> Violation:
    return Violation(ErrorCode.PROTOCOL_VIOLATION, reason)
