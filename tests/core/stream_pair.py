"""Two stream maps joined by a wire that the test bends: what goes in at one end must come out equal at the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from stt_core.config import EndpointConfig
from stt_core.events import AnyEvent, Event
from stt_core.frames import DATA_OVERHEAD, Frame, FrameType, parse_frames_untrusted, unpack_data
from stt_core.packing import Batch, Content
from stt_core.parameters import TransportParameters
from stt_core.streams import StreamMap
from stt_core.types import Role, SessionKey, StreamMode

E = TypeVar("E", bound=Event)
ROOM = 1171
KEY = SessionKey(7)


def settings(**changes: Any) -> EndpointConfig:
    return EndpointConfig(shared_seed=b"a seed for tests", node_id=b"test", **changes)


def declared(config: EndpointConfig) -> TransportParameters:
    """What an endpoint of this configuration tells its peer."""
    return TransportParameters(
        initial_max_data=config.session_window,
        initial_max_stream_data=config.stream_window,
        max_streams=config.max_streams,
        max_message=config.max_message,
    )


@dataclass(frozen=True)
class Packet:
    """One packet on its way, and what its sender must be told of it."""

    plain: bytes
    content: Content

    @property
    def frames(self) -> list[Frame]:
        return parse_frames_untrusted(self.plain)


class End:
    """One side: its map and its events."""

    def __init__(self, role: Role, config: EndpointConfig, peer: EndpointConfig) -> None:
        self.config = config
        self.events: deque[AnyEvent] = deque()
        self.map = StreamMap(role=role, config=config, session_key=KEY, events=self.events)
        self.map.set_peer_limits(declared(peer))

    def take(self, kind: type[E]) -> list[E]:
        """Remove and return the events of one kind."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events = _without(self.events, kind)
        return found

    def fill(self, now: float = 0.0, *, room: int = ROOM, limit: int = 32) -> list[Packet]:
        """One poll's packets."""
        batch = Batch(room, limit)
        self.map.fill(batch, now)
        batch.end_packet(pad=False)
        assert len(batch.plains) <= limit
        assert all(len(plain) == room for plain in batch.plains[:-1])
        assert all(len(plain) <= room for plain in batch.plains)
        packets = []
        plains = iter(batch.plains)
        for count, content in batch.records:
            for index in range(count):
                if isinstance(content, tuple):
                    stream_id, start, body = content
                    packets.append(Packet(next(plains), (stream_id, start + index * body, body)))
                else:
                    packets.append(Packet(next(plains), content))
        return packets

    def receive(self, packets: Iterable[Packet], now: float = 0.0) -> None:
        """Take packets as a session does: plain in-order DATA by the column, the rest by the frame."""
        streams = self.map
        half, sid, expected = None, -1, 0
        chunks: list[bytes] = []
        for plain in [packet.plain for packet in packets]:
            if plain[0] == FrameType.DATA and len(plain) > DATA_OVERHEAD:
                _, stream_id, offset, length = unpack_data(plain)
                if length + DATA_OVERHEAD == len(plain):
                    if half is not None and stream_id == sid and offset == expected:
                        chunks.append(plain[DATA_OVERHEAD:])
                        expected += length
                        continue
                    if half is not None:
                        streams.commit(half, chunks, expected, now)
                    half = streams.fast(stream_id)
                    if half is not None and half.expected == offset:
                        sid, chunks, expected = stream_id, [plain[DATA_OVERHEAD:]], offset + length
                        continue
                    half = None
            if half is not None:
                streams.commit(half, chunks, expected, now)
                half = None
            for frame in parse_frames_untrusted(plain):
                streams.receive_frame(frame, now)
        if half is not None:
            streams.commit(half, chunks, expected, now)

    def acked(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            if isinstance(packet.content, tuple):
                self.map.on_run_acked(packet.content, 1)
            else:
                for token in packet.content:
                    self.map.on_acked(token)

    def lost(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            if isinstance(packet.content, tuple):
                self.map.on_run_lost(packet.content, 1)
            else:
                for token in packet.content:
                    self.map.on_lost(token)

    def open_bytes(self, **arguments: Any) -> int:
        return self.map.open(mode=StreamMode.BYTES, **arguments)

    def write_all(self, stream_id: int, data: bytes) -> None:
        assert self.map.write(stream_id, data) == len(data)

    def read_all(self, stream_id: int) -> bytes:
        """Everything that is there, up to the end if that is there too."""
        parts = []
        while part := self.map.read(stream_id):
            parts.append(part)
        return b"".join(parts)

    def messages(self, stream_id: int) -> list[bytes]:
        found = []
        while (message := self.map.read_message(stream_id)) is not None:
            found.append(message)
        return found


def _without(events: deque[AnyEvent], kind: type[Event]) -> deque[AnyEvent]:
    """The same deque without one kind of event: a map holds on to the object."""
    kept = [event for event in events if not isinstance(event, kind)]
    events.clear()
    events.extend(kept)
    return events


class Pair:
    """Both sides, and a clock."""

    def __init__(self, *, responder: EndpointConfig | None = None, **changes: Any) -> None:
        config = settings(**changes)
        other = responder or config
        self.initiator = End(Role.INITIATOR, config, other)
        self.responder = End(Role.RESPONDER, other, config)
        self.now = 0.0

    def move(
        self, source: End, target: End, *, drop: Callable[[Packet], bool] = lambda packet: False, **limits: int
    ) -> list[Packet]:
        """One poll of ``source`` across to ``target``, acknowledged or lost at once; returns the packets."""
        packets = source.fill(self.now, **limits)
        dropped = [packet for packet in packets if drop(packet)]
        arrived = [packet for packet in packets if packet not in dropped]
        target.receive(arrived, self.now)
        source.acked(arrived)
        source.lost(dropped)
        return packets

    def settle(self, *, drop: Callable[[Packet], bool] = lambda packet: False, **limits: int) -> None:
        """Move packets both ways until nobody has anything to say."""
        for _ in range(10_000):
            if not (self.initiator.map.wants_to_send or self.responder.map.wants_to_send):
                return
            self.now += 0.01
            self.move(self.initiator, self.responder, drop=drop, **limits)
            self.move(self.responder, self.initiator, drop=drop, **limits)
        raise AssertionError("the two never fall silent")

    @property
    def ends(self) -> tuple[End, End]:
        return self.initiator, self.responder


def frames_of(packets: Iterable[Packet], kind: type[Any]) -> list[Any]:
    """All frames of one kind in these packets, in order."""
    return [frame for packet in packets for frame in packet.frames if isinstance(frame, kind)]
