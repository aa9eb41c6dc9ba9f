"""Target: sequences of calls on two stream maps, with packets between them lost, late, doubled and reordered."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from fuzz.reader import Reader
from stt_core.config import EndpointConfig
from stt_core.errors import STTError
from stt_core.events import AnyEvent
from stt_core.frames import Data, parse_frames_untrusted
from stt_core.packing import Batch, BulkRun, Content, Token
from stt_core.parameters import TransportParameters
from stt_core.streams.map import StreamMap
from stt_core.types import Role, SessionKey, StreamMode

MOST_ROUNDS: Final = 400
PATTERN: Final = bytes(range(251)) * 1100
"""What is written: at no shift within a stream equal to itself, so that a byte out of place shows."""

_CONFIG: Final = EndpointConfig(
    b"a seed of the fuzzers", b"node", max_streams=8, stream_window=8192, session_window=32_768, max_window=131_072,
    max_message=20_000, send_buffer=32_768,
)  # fmt: skip
_PARAMETERS: Final = TransportParameters(
    initial_max_data=_CONFIG.session_window,
    initial_max_stream_data=_CONFIG.stream_window,
    max_streams=_CONFIG.max_streams,
    max_message=_CONFIG.max_message,
)


@dataclass(slots=True)
class Packet:
    """One packet of one side; ``content`` until its fate is known."""

    plain: bytes
    content: Content | None
    arrived: bool = False


@dataclass(slots=True)
class Flow:
    """One direction of one stream, as its two applications see it."""

    written: int = 0
    read: int = 0
    sent: list[bytes] = field(default_factory=list)
    received: int = 0
    finished: bool = False
    spoiled: bool = False
    """Reset or stopped: it may end anywhere, but what comes is still right."""


class Side:
    """A stream map, its application, and what it has in flight."""

    def __init__(self, role: Role) -> None:
        self.events: deque[AnyEvent] = deque()
        self.streams = StreamMap(role=role, config=_CONFIG, session_key=SessionKey(1), events=self.events)
        self.streams.set_peer_limits(_PARAMETERS)
        self.flight: list[Packet] = []
        self.modes: dict[int, StreamMode] = {}
        self.ended: set[int] = set()

    def fill(self, room: int, limit: int, now: float) -> None:
        """Put what the map has to say into packets."""
        batch = Batch(room, limit)
        self.streams.fill(batch, now)
        batch.end_packet(pad=False)
        plains = iter(batch.plains)
        for packets, content in batch.records:
            for k in range(packets):
                plain = next(plains)
                assert len(plain) <= room
                own = content
                if isinstance(content, tuple):
                    stream_id, start, body = content
                    own = (stream_id, start + k * body, body)
                self.flight.append(Packet(plain, own))
        assert next(plains, None) is None
        assert len(batch.plains) <= limit

    def settle(self, packet: Packet, *, acked: bool) -> None:
        """Tell the map what became of a packet, once."""
        content, packet.content = packet.content, None
        if isinstance(content, tuple):
            run: BulkRun = content
            (self.streams.on_run_acked if acked else self.streams.on_run_lost)(run, 1)
        elif content is not None:
            tokens: list[Token] = content
            for token in tokens:
                (self.streams.on_acked if acked else self.streams.on_lost)(token)


class Net:
    """Both sides, the packets between them, and what was promised to whom."""

    def __init__(self) -> None:
        self.sides = (Side(Role.INITIATOR), Side(Role.RESPONDER))
        self.flows: dict[tuple[int, int], Flow] = {}
        self.mixed: set[int] = set()
        """Opened as messages here and as bytes there: doomed, and senseless until both sides have noticed."""
        self._clock = count(1)

    @property
    def now(self) -> float:
        """Time passes with every look at it."""
        return next(self._clock) * 0.01

    def flow(self, sender: int, stream_id: int) -> Flow:
        """What ``sender`` sends on a stream."""
        return self.flows.setdefault((sender, stream_id), Flow())

    def spoil(self, stream_id: int) -> None:
        """Whatever this stream still carries may be cut off."""
        self.flow(0, stream_id).spoiled = self.flow(1, stream_id).spoiled = True

    def arrive(self, sender: int, packet: Packet) -> None:
        """A packet reaches the other side, perhaps not for the first time: packet numbers would sort that out."""
        if packet.arrived:
            return
        packet.arrived = True
        streams = self.sides[1 - sender].streams
        for frame in parse_frames_untrusted(packet.plain):
            half = streams.fast(frame.stream_id) if isinstance(frame, Data) and not frame.fin and frame.data else None
            if isinstance(frame, Data) and half is not None and half.expected == frame.offset:
                streams.commit(half, [frame.data], frame.offset + len(frame.data), self.now)
            else:
                streams.receive_frame(frame, self.now)

    # --- the applications

    def open(self, number: int, stream_id: int | None, mode: StreamMode) -> None:
        """One side opens a stream."""
        side = self.sides[number]
        opened = side.streams.open(stream_id=stream_id, mode=mode, purpose="fuzz", priority=mode)
        side.modes[opened] = mode
        if self.sides[1 - number].modes.get(opened, mode) is not mode:
            self.mixed.add(opened)

    def send(self, number: int, stream_id: int, size: int) -> None:
        """One side writes, or sends a message."""
        side, flow = self.sides[number], self.flow(number, stream_id)
        if side.streams.info(stream_id).mode is StreamMode.BYTES:
            at = flow.written % 251
            flow.written += side.streams.write(stream_id, PATTERN[at : at + size])
        else:
            at = len(flow.sent) % 251
            message = PATTERN[at : at + size]
            if side.streams.send_message(stream_id, message):
                flow.sent.append(message)

    def read(self, number: int, stream_id: int, most: int) -> bool:
        """One side reads once; whether anything came. What comes is what was written, in order."""
        streams, flow = self.sides[number].streams, self.flow(1 - number, stream_id)
        if stream_id in self.mixed:
            bytes_mode = streams.info(stream_id).mode is StreamMode.BYTES
            return bool(streams.read(stream_id, most) if bytes_mode else streams.read_message(stream_id))
        if streams.info(stream_id).mode is StreamMode.BYTES:
            data = streams.read(stream_id, most)
            if data:
                at = flow.read % 251
                assert data == PATTERN[at : at + len(data)], "bytes out of place"
                flow.read += len(data)
                assert flow.read <= flow.written
            elif data is not None:
                self._ended(number, stream_id, flow)
            return bool(data)
        message = streams.read_message(stream_id)
        if message is not None:
            assert message == flow.sent[flow.received], "messages out of place"
            flow.received += 1
        elif streams.at_end(stream_id):
            self._ended(number, stream_id, flow)
        return message is not None

    def _ended(self, number: int, stream_id: int, flow: Flow) -> None:
        assert flow.finished, "an end nobody sent"
        assert flow.spoiled or (flow.read, flow.received) == (flow.written, len(flow.sent)), "an early end"
        self.sides[number].ended.add(stream_id)

    def act(self, number: int, choice: int, argument: int, size: int) -> None:
        """One call of one application; a refused one changes nothing."""
        streams = self.sides[number].streams
        stream_id = argument & 0x1F
        with suppress(STTError, ValueError):
            if choice == 0:
                self.open(number, stream_id or None, StreamMode(argument >> 7))
            elif choice == 1:
                self.send(number, self._some(number, stream_id), size)
            elif choice == 2:
                self.read(number, self._some(number, stream_id), size + 1)
            elif choice == 3:
                stream_id = self._some(number, stream_id)
                streams.finish(stream_id)
                self.flow(number, stream_id).finished = True
            elif choice == 4:
                stream_id = self._some(number, stream_id)
                streams.reset(stream_id)
                self.spoil(stream_id)
            elif choice == 5:
                stream_id = self._some(number, stream_id)
                streams.stop(stream_id)
                self.spoil(stream_id)
            elif choice == 6:
                streams.watch(self._some(number, stream_id))

    def _some(self, number: int, which: int) -> int:
        """An id that means something on both sides, automatic ones included."""
        known = sorted({*self.sides[0].modes, *self.sides[1].modes}) or [1]
        return known[which % len(known)]

    # --- the end

    def deliver_everything(self) -> None:
        """A network that behaves from here on: what was accepted arrives, unless it was withdrawn."""
        for number, side in enumerate(self.sides):
            for packet in side.flight:
                if packet.content is not None and not packet.arrived:
                    side.settle(packet, acked=False)
            side.flight = [packet for packet in side.flight if packet.content is not None]
            assert all(packet.arrived for packet in side.flight), number
        for _ in range(MOST_ROUNDS):
            moved = False
            for number, side in enumerate(self.sides):
                side.fill(1171, 16, self.now)
                for packet in side.flight:
                    moved = True
                    self.arrive(number, packet)
                    side.settle(packet, acked=True)
                side.flight.clear()
                moved |= self._read_all(number)
                side.events.clear()
            if not moved:
                return
        raise AssertionError("the two sides never come to rest")

    def _read_all(self, number: int) -> bool:
        moved = False
        for stream_id in sorted({*self.sides[0].modes, *self.sides[1].modes}):
            with suppress(STTError):
                while self.read(number, stream_id, 10_000):
                    moved = True
        return moved

    def check(self) -> None:
        """Nothing is missing."""
        for (sender, stream_id), flow in self.flows.items():
            if not flow.spoiled and stream_id not in self.mixed:
                assert flow.read == flow.written, f"bytes of stream {stream_id} missing"
                assert flow.received == len(flow.sent), f"messages of stream {stream_id} missing"
                if flow.finished:
                    assert stream_id in self.sides[1 - sender].ended, f"the end of stream {stream_id} is missing"


def target_streams(data: bytes) -> None:
    """What one side writes the other reads, in order, once, to the end; and whatever happens the two come to rest."""
    reader = Reader(data)
    net = Net()
    while reader:
        choice = reader.byte()
        number, choice = choice >> 7, choice & 0x7F
        side = net.sides[number]
        if choice < 0x40:
            net.act(number, choice % 7, reader.byte(), reader.short() // 3)
        elif choice < 0x50:
            side.fill((40, 64, 100, 1171)[choice & 3], (choice >> 2 & 3) * 8 + 1, net.now)
        elif side.flight:
            packet = side.flight[reader.byte() % len(side.flight)]
            if choice < 0x68:
                net.arrive(number, packet)
            elif choice < 0x78:
                if packet.arrived:
                    side.settle(packet, acked=True)
            else:
                side.settle(packet, acked=False)
    net.deliver_everything()
    net.check()
