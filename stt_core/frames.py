"""The frames inside a protected packet: parse and build, nothing else (docs/protocol.md, "Frames").

Rule: what came off the wire is checked for shape only (lengths, enumerations, self-contradiction); whether a frame
is allowed *now* is for the session and its streams to say. :func:`parse_frames_untrusted` is the slow path for
packets that mix frames; bulk DATA is packed and unpacked by its owners with :data:`DATA_HEADER`, in columns.

All integers are big-endian and fixed-width. Every frame begins with its type, one byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from struct import error as struct_error
from typing import Any, ClassVar, Final, NamedTuple

from stt_core.errors import ErrorCode, Violation
from stt_core.types import StreamMode


class FrameType(IntEnum):
    """The first byte of each frame."""

    PADDING = 0x00
    DATA = 0x10
    DATA_FIN = 0x90
    ACK = 0x11
    ACK_ECN = 0x12
    KEEP_ALIVE = 0x13
    KEEP_ALIVE_ACK = 0x14
    DATAGRAM = 0x16
    STREAM_OPEN = 0x20
    STREAM_CLOSE = 0x21
    STREAM_STOP = 0x22
    MAX_DATA = 0x24
    MAX_STREAM_DATA = 0x25
    MAX_STREAMS = 0x26
    BLOCKED = 0x27
    SESSION_CLOSE = 0x30
    SESSION_CLOSE_ACK = 0x31
    NEW_CID = 0x40
    RETIRE_CID = 0x41
    PATH_CHALLENGE = 0x42
    PATH_RESPONSE = 0x43
    TICKET = 0x50
    ADDRESS_TOKEN = 0x51
    RESUME_STATE = 0x52
    DHT = 0x60
    ERROR = 0xFF


class BlockedKind(IntEnum):
    """What a BLOCKED frame's sender ran out of."""

    SESSION = 0
    STREAM = 1
    STREAMS = 2


class PathTransport(IntEnum):
    """Which transport a PATH_CHALLENGE arrived on, as its answer names it."""

    UDP = 0
    WEBSOCKET = 1


NOT_ACK_ELICITING: Final = frozenset(
    {
        FrameType.PADDING,
        FrameType.ACK,
        FrameType.ACK_ECN,
        FrameType.KEEP_ALIVE_ACK,
        FrameType.SESSION_CLOSE,
        FrameType.SESSION_CLOSE_ACK,
        FrameType.ERROR,
    }
)
ACK_ELICITING: Final = frozenset(FrameType) - NOT_ACK_ELICITING
"""Types whose packet the receiver must acknowledge (RFC 9000 section 13.2)."""

PROBING: Final = frozenset({FrameType.PADDING, FrameType.PATH_CHALLENGE, FrameType.PATH_RESPONSE})
"""Types allowed on a path that is only being probed (RFC 9000 section 9.1)."""

DATA_HEADER: Final = Struct(">BIQH")
"""type, stream id, offset, length."""
DATA_OVERHEAD: Final = DATA_HEADER.size
"""Bytes a DATA frame adds to what it carries: 15."""
pack_data: Final = DATA_HEADER.pack
unpack_data: Final = DATA_HEADER.unpack_from

MAX_FRAMES: Final = 256
"""Frames in one packet: what is cheap to send must not be dear to read."""
MAX_ACK_RANGES: Final = 32
"""An ACK carries at most the newest 32 ranges."""
MAX_REASON: Final = 512
"""Bytes of UTF-8 kept of a close reason: it must fit any packet beside other frames."""

_U32: Final = 0xFFFF_FFFF
ACK_HEADER: Final = Struct(">BQIBI")
_ACK_RANGE: Final = Struct(">II")
_ECN: Final = Struct(">QQQ")


class Data(NamedTuple):
    """Bytes ``offset`` … ``offset + len(data)`` of a stream; ``fin`` says that the stream ends there."""

    stream_id: int
    offset: int
    data: bytes
    fin: bool

    def encode(self) -> bytes:
        """The frame as sent; ``data`` is at most 65,535 bytes."""
        kind = FrameType.DATA_FIN if self.fin else FrameType.DATA
        return pack_data(kind, self.stream_id, self.offset, len(self.data)) + self.data


class Ack(NamedTuple):
    """Packet numbers received: inclusive ``(first, last)`` pairs, newest first, never touching.

    ``delay`` is the time in seconds from receiving the largest number to sending this frame; ``ecn`` counts packets
    marked ECT(0), ECT(1) and CE, where the sender of this frame can tell.
    """

    ranges: tuple[tuple[int, int], ...]
    delay: float
    ecn: tuple[int, int, int] | None

    def encode(self) -> bytes:
        """The frame as sent."""
        return encode_ack(self.ranges, round(self.delay * 1e6), self.ecn)


class _Fixed:
    """A frame that is its type and its fields, in order, each of fixed width."""

    __slots__ = ()
    TYPE: ClassVar[FrameType]
    LAYOUT: ClassVar[Struct]

    def encode(self) -> bytes:
        """The frame as sent."""
        return self.LAYOUT.pack(self.TYPE, *self._fields())

    def _fields(self) -> list[Any]:
        names: tuple[str, ...] = self.__slots__
        return [getattr(self, name) for name in names]


class _Tailed(_Fixed):
    """A fixed part that ends with the length of the last field, then that field's bytes."""

    __slots__ = ()

    def encode(self) -> bytes:
        """The frame as sent."""
        *head, tail = self._fields()
        return self.LAYOUT.pack(self.TYPE, *head, len(tail)) + bytes(tail)


class _Reasoned:
    """A code and a text for people."""

    __slots__ = ()
    TYPE: ClassVar[FrameType]
    code: int
    reason: str

    def encode(self) -> bytes:
        """The frame as sent, the reason cut to :data:`MAX_REASON` bytes."""
        # Cutting may split a character; "ignore" drops the half that is left.
        text = self.reason.encode(errors="replace")[:MAX_REASON].decode(errors="ignore").encode()
        return _REASON.pack(self.TYPE, self.code, len(text)) + text


@dataclass(frozen=True, slots=True)
class KeepAlive(_Fixed):
    """Asks for a :class:`KeepAliveAck` with the same id."""

    TYPE: ClassVar = FrameType.KEEP_ALIVE
    LAYOUT: ClassVar = Struct(">BI")
    identifier: int


@dataclass(frozen=True, slots=True)
class KeepAliveAck(_Fixed):
    """Answers a :class:`KeepAlive`."""

    TYPE: ClassVar = FrameType.KEEP_ALIVE_ACK
    LAYOUT: ClassVar = Struct(">BI")
    identifier: int


@dataclass(frozen=True, slots=True)
class Datagram(_Tailed):
    """One unreliable datagram (RFC 9221), with its boundaries; at most 65,535 bytes."""

    TYPE: ClassVar = FrameType.DATAGRAM
    LAYOUT: ClassVar = Struct(">BH")
    data: bytes


@dataclass(frozen=True, slots=True)
class StreamOpen:
    """A stream begins. ``priority`` is an urgency, 0 the most urgent, 7 the least; ``purpose`` ≤255 bytes of UTF-8."""

    TYPE: ClassVar = FrameType.STREAM_OPEN
    stream_id: int
    mode: StreamMode
    priority: int
    purpose: str

    def encode(self) -> bytes:
        """The frame as sent."""
        purpose = self.purpose.encode()
        return _STREAM_OPEN.pack(self.TYPE, self.stream_id, self.mode, self.priority, len(purpose)) + purpose


@dataclass(frozen=True, slots=True)
class StreamClose(_Fixed):
    """The sender abandons its half of a stream, of which ``final_size`` bytes count against flow control."""

    TYPE: ClassVar = FrameType.STREAM_CLOSE
    LAYOUT: ClassVar = Struct(">BIHQ")
    stream_id: int
    code: int
    final_size: int


@dataclass(frozen=True, slots=True)
class StreamStop(_Fixed):
    """The receiver will not read this stream any further and asks for a :class:`StreamClose`."""

    TYPE: ClassVar = FrameType.STREAM_STOP
    LAYOUT: ClassVar = Struct(">BIH")
    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class MaxData(_Fixed):
    """The receiver of this frame may send up to ``limit`` stream bytes in the session, all streams together."""

    TYPE: ClassVar = FrameType.MAX_DATA
    LAYOUT: ClassVar = Struct(">BQ")
    limit: int


@dataclass(frozen=True, slots=True)
class MaxStreamData(_Fixed):
    """The receiver of this frame may send up to offset ``limit`` on one stream."""

    TYPE: ClassVar = FrameType.MAX_STREAM_DATA
    LAYOUT: ClassVar = Struct(">BIQ")
    stream_id: int
    limit: int


@dataclass(frozen=True, slots=True)
class MaxStreams(_Fixed):
    """How many streams the receiver of this frame may have opened since the session began.

    ``automatic`` counts automatic ids, ``explicit`` the application-chosen ones.
    """

    TYPE: ClassVar = FrameType.MAX_STREAMS
    LAYOUT: ClassVar = Struct(">BII")
    automatic: int
    explicit: int


@dataclass(frozen=True, slots=True)
class Blocked(_Fixed):
    """The sender has something to send and stands at ``limit``. ``stream_id`` is 0 unless the kind is STREAM."""

    TYPE: ClassVar = FrameType.BLOCKED
    LAYOUT: ClassVar = Struct(">BBIQ")
    kind: BlockedKind
    stream_id: int
    limit: int


@dataclass(frozen=True, slots=True)
class SessionClose(_Reasoned):
    """The session ends. ``reason`` is for people; bytes that are no UTF-8 are replaced, never a second error."""

    TYPE: ClassVar = FrameType.SESSION_CLOSE
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class SessionCloseAck(_Fixed):
    """The peer's SESSION_CLOSE arrived."""

    TYPE: ClassVar = FrameType.SESSION_CLOSE_ACK
    LAYOUT: ClassVar = Struct(">B")


@dataclass(frozen=True, slots=True)
class Error(_Reasoned):
    """Advice: something went wrong that did not end the session."""

    TYPE: ClassVar = FrameType.ERROR
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class NewCid(_Fixed):
    """One more connection id the receiver of this frame may send to (RFC 9000 section 19.15)."""

    TYPE: ClassVar = FrameType.NEW_CID
    LAYOUT: ClassVar = Struct(">BII8s16s")
    sequence: int
    retire_before: int
    cid: bytes
    reset_token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RetireCid(_Fixed):
    """The sender will not send to the connection id of this sequence number again."""

    TYPE: ClassVar = FrameType.RETIRE_CID
    LAYOUT: ClassVar = Struct(">BI")
    sequence: int


@dataclass(frozen=True, slots=True)
class PathChallenge(_Fixed):
    """Eight unpredictable bytes for the other end of a path to send back."""

    TYPE: ClassVar = FrameType.PATH_CHALLENGE
    LAYOUT: ClassVar = Struct(">B8s")
    data: bytes


@dataclass(frozen=True, slots=True)
class PathResponse(_Fixed):
    """The bytes of a :class:`PathChallenge`, and the transport it came on."""

    TYPE: ClassVar = FrameType.PATH_RESPONSE
    LAYOUT: ClassVar = Struct(">B8sB")
    data: bytes
    transport: PathTransport


@dataclass(frozen=True, slots=True)
class Ticket(_Tailed):
    """What resumes this session within ``lifetime`` seconds."""

    TYPE: ClassVar = FrameType.TICKET
    LAYOUT: ClassVar = Struct(">BI16sH")
    lifetime: int
    ticket_id: bytes
    ticket: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AddressToken(_Tailed):
    """Proves this address to the same responder in a later HELLO; at most 255 bytes here, 64 there."""

    TYPE: ClassVar = FrameType.ADDRESS_TOKEN
    LAYOUT: ClassVar = Struct(">BB")
    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ResumeState(_Tailed):
    """What the sender still holds of a resumed session: the ``index``-th part, ``entries`` packed."""

    TYPE: ClassVar = FrameType.RESUME_STATE
    LAYOUT: ClassVar = Struct(">BBHH")
    flags: int
    index: int
    entries: bytes


@dataclass(frozen=True, slots=True)
class Dht(_Tailed):
    """One DHT RPC riding inside the session (private mode)."""

    TYPE: ClassVar = FrameType.DHT
    LAYOUT: ClassVar = Struct(">BH")
    rpc: bytes


Frame = (
    Data | Ack | KeepAlive | KeepAliveAck | Datagram | StreamOpen | StreamClose | StreamStop | MaxData | MaxStreamData
    | MaxStreams | Blocked | SessionClose | SessionCloseAck | Error | NewCid | RetireCid | PathChallenge | PathResponse
    | Ticket | AddressToken | ResumeState | Dht
)  # fmt: skip

_Parser = Callable[[bytes, int], tuple[Frame, int]]

_STREAM_OPEN: Final = Struct(">BIBBB")
_REASON: Final = Struct(">BHH")


def encode_data(stream_id: int, offset: int, data: bytes, fin: bool = False) -> bytes:
    """One DATA frame, without an object."""
    return pack_data(FrameType.DATA_FIN if fin else FrameType.DATA, stream_id, offset, len(data)) + data


def encode_ack(ranges: Iterable[tuple[int, int]], delay_us: int, ecn: tuple[int, int, int] | None = None) -> bytes:
    """One ACK frame for inclusive ``(first, last)`` ranges, newest first and never touching.

    As RFC 9000 section 19.3.1 counts them: ``first`` and ``run`` are lengths less one, ``gap`` the missing numbers
    less one. Only the newest :data:`MAX_ACK_RANGES` go; a range of more than 2^32 numbers is cut to its newest, and
    what lies beyond a gap as wide is left out. There must be at least one range.
    """
    pairs = iter(ranges)
    first, last = next(pairs)
    head = min(last - first, _U32)
    smallest = last - head
    runs: list[bytes] = []
    for low, high in pairs:
        gap = smallest - high - 2
        if gap > _U32 or len(runs) == MAX_ACK_RANGES - 1:
            break
        run = min(high - low, _U32)
        runs.append(_ACK_RANGE.pack(gap, run))
        smallest = high - run
    kind = FrameType.ACK if ecn is None else FrameType.ACK_ECN
    parts = [ACK_HEADER.pack(kind, last, min(max(delay_us, 0), _U32), len(runs), head), *runs]
    if ecn is not None:
        parts.append(_ECN.pack(*ecn))
    return b"".join(parts)


def is_ack_eliciting(frames: Sequence[Frame]) -> bool:
    """Whether a packet of these frames must be acknowledged."""
    return any(type(frame) not in _QUIET for frame in frames)


def is_probing(frames: Sequence[Frame]) -> bool:
    """Whether a packet of these frames only probes its path, so that it moves no traffic there."""
    return all(type(frame) in (PathChallenge, PathResponse) for frame in frames)


def parse_frames_untrusted(plain: bytes) -> list[Frame]:
    """All frames of one opened packet, in order, padding left out.

    :raises Violation: FRAME_ENCODING, if the packet is empty, a frame is cut short, unknown or contradicts itself.
    """
    size = len(plain)
    if not size:
        raise _broken("a packet without frames")
    frames: list[Frame] = []
    position = 0
    try:
        while position < size:
            if len(frames) >= MAX_FRAMES:
                raise _broken(f"a packet of more than {MAX_FRAMES} frames")
            kind = plain[position]
            if kind & 0x7F == FrameType.DATA:
                _, stream_id, offset, length = unpack_data(plain, position)
                position += DATA_OVERHEAD
                frames.append(Data(stream_id, offset, _take(plain, position, length), kind == FrameType.DATA_FIN))
                position += length
            elif kind == FrameType.PADDING:
                if plain[position:] != bytes(size - position):
                    raise _broken("padding is not zero")
                break
            else:
                parser = _PARSERS.get(kind)
                if parser is None:
                    raise _broken(f"unknown frame type 0x{kind:02x}")
                frame, position = parser(plain, position)
                frames.append(frame)
    except struct_error:
        raise _broken("a frame is cut short") from None
    return frames


def _broken(reason: str) -> Violation:
    return Violation(ErrorCode.FRAME_ENCODING, reason)


def _take(plain: bytes, position: int, length: int) -> bytes:
    """``length`` bytes from ``position`` on, all of them."""
    end = position + length
    if end > len(plain):
        raise _broken("a frame is cut short")
    return plain[position:end]


def _parse_ack_untrusted(plain: bytes, position: int) -> tuple[Frame, int]:
    kind, largest, delay, count, run = ACK_HEADER.unpack_from(plain, position)
    if count >= MAX_ACK_RANGES:
        raise _broken(f"an ACK of {count + 1} ranges")
    position += ACK_HEADER.size
    body = _take(plain, position, count * _ACK_RANGE.size)
    position += len(body)
    last = largest
    ranges = [(last - run, last)]
    for gap, run in _ACK_RANGE.iter_unpack(body):
        last = ranges[-1][0] - gap - 2
        ranges.append((last - run, last))
    # Numbers only fall from range to range, so the last lower end tells for all.
    if ranges[-1][0] < 0:
        raise _broken("an ACK reaches below packet number 0")
    ecn: tuple[int, int, int] | None = None
    if kind == FrameType.ACK_ECN:
        ecn = _ECN.unpack_from(plain, position)
        position += _ECN.size
    return Ack(tuple(ranges), delay / 1e6, ecn), position


def _fixed(cls: Any) -> _Parser:
    layout: Struct = cls.LAYOUT

    def parse_fixed_untrusted(plain: bytes, position: int) -> tuple[Frame, int]:
        return cls(*layout.unpack_from(plain, position)[1:]), position + layout.size

    return parse_fixed_untrusted


def _tailed(cls: Any) -> _Parser:
    layout: Struct = cls.LAYOUT

    def parse_tailed_untrusted(plain: bytes, position: int) -> tuple[Frame, int]:
        _, *head, length = layout.unpack_from(plain, position)
        position += layout.size
        return cls(*head, _take(plain, position, length)), position + length

    return parse_tailed_untrusted


def _reasoned(cls: type[SessionClose | Error]) -> _Parser:
    def parse_reasoned_untrusted(plain: bytes, position: int) -> tuple[Frame, int]:
        _, code, length = _REASON.unpack_from(plain, position)
        position += _REASON.size
        return cls(code, _take(plain, position, length).decode(errors="replace")), position + length

    return parse_reasoned_untrusted


def _parse_stream_open_untrusted(plain: bytes, position: int) -> tuple[Frame, int]:
    _, stream_id, mode, priority, length = _STREAM_OPEN.unpack_from(plain, position)
    position += _STREAM_OPEN.size
    if mode > StreamMode.BYTES:
        raise _broken(f"unknown stream mode {mode}")
    if priority > 7:
        raise _broken(f"priority {priority} is above 7")
    try:
        purpose = _take(plain, position, length).decode()
    except UnicodeDecodeError:
        raise _broken("a stream's purpose is not UTF-8") from None
    return StreamOpen(stream_id, StreamMode(mode), priority, purpose), position + length


def _parse_blocked_untrusted(plain: bytes, position: int) -> tuple[Frame, int]:
    _, kind, stream_id, limit = Blocked.LAYOUT.unpack_from(plain, position)
    if kind > BlockedKind.STREAMS:
        raise _broken(f"BLOCKED on unknown kind {kind}")
    return Blocked(BlockedKind(kind), stream_id, limit), position + Blocked.LAYOUT.size


def _parse_new_cid_untrusted(plain: bytes, position: int) -> tuple[Frame, int]:
    _, sequence, retire_before, cid, reset_token = NewCid.LAYOUT.unpack_from(plain, position)
    if retire_before > sequence:
        raise _broken("NEW_CID retires itself")
    return NewCid(sequence, retire_before, cid, reset_token), position + NewCid.LAYOUT.size


def _parse_path_response_untrusted(plain: bytes, position: int) -> tuple[Frame, int]:
    _, data, transport = PathResponse.LAYOUT.unpack_from(plain, position)
    if transport > PathTransport.WEBSOCKET:
        raise _broken(f"PATH_RESPONSE names unknown transport {transport}")
    return PathResponse(data, PathTransport(transport)), position + PathResponse.LAYOUT.size


_QUIET: Final = frozenset({Ack, KeepAliveAck, SessionClose, SessionCloseAck, Error})

_PARSERS: Final[dict[int, _Parser]] = {
    FrameType.ACK: _parse_ack_untrusted,
    FrameType.ACK_ECN: _parse_ack_untrusted,
    FrameType.STREAM_OPEN: _parse_stream_open_untrusted,
    FrameType.BLOCKED: _parse_blocked_untrusted,
    FrameType.NEW_CID: _parse_new_cid_untrusted,
    FrameType.PATH_RESPONSE: _parse_path_response_untrusted,
}
_PARSERS.update(
    {
        cls.TYPE: _fixed(cls)
        for cls in (
            *(KeepAlive, KeepAliveAck, StreamClose, StreamStop, MaxData, MaxStreamData, MaxStreams),
            *(SessionCloseAck, RetireCid, PathChallenge),
        )
    }
)
_PARSERS.update({cls.TYPE: _tailed(cls) for cls in (Datagram, Ticket, AddressToken, ResumeState, Dht)})
_PARSERS.update({cls.TYPE: _reasoned(cls) for cls in (SessionClose, Error)})
