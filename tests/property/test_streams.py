"""Whatever the network and the application do, and in whatever order: equal bytes and messages come out."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from stt_core.streams.messages import MAX_LENGTH, length_prefix, parse_length_untrusted
from stt_core.types import StreamMode
from tests.core.stream_pair import End, Packet, Pair

ROOMS = (64, 1171, 16_339)
SIZES = (0, 1, 63, 64, 127, 128, 1000, 1156, 4096, 20_000, 70_000)


@dataclass
class Flow:
    """One direction of one stream: what was sent and what came out."""

    stream_id: int
    mode: StreamMode
    source: End
    target: End
    sent: list[bytes] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    ended: bool = False
    serial: int = 0

    def send(self, size: int) -> None:
        self.serial += 1
        data = (self.serial.to_bytes(3, "big") * (size // 3 + 1))[:size]
        if self.mode is StreamMode.MESSAGES:
            if self.source.map.send_message(self.stream_id, data):
                self.sent.append(data)
        else:
            accepted = self.source.map.write(self.stream_id, data)
            self.sent.append(data[:accepted])

    def read(self, size: int) -> None:
        if all(info != self.stream_id for info in self.target.map._streams):
            return
        if not self.target.map._streams[self.stream_id].told or self.ended:
            return
        if self.mode is StreamMode.MESSAGES:
            while (message := self.target.map.read_message(self.stream_id)) is not None:
                self.received.append(message)
            self.ended = self.target.map.at_end(self.stream_id)
        elif (data := self.target.map.read(self.stream_id, size + 1)) is not None:
            self.received.append(data)
            self.ended = not data


@dataclass
class World:
    """Two maps, and the packets between them that are neither delivered nor lost yet."""

    pair: Pair
    flows: list[Flow]
    in_flight: list[tuple[End, End, Packet]] = field(default_factory=list)
    late: list[tuple[End, Packet]] = field(default_factory=list)

    def act(self, action: str, first: int, second: int) -> None:
        flow = self.flows[first % len(self.flows)]
        match action:
            case "send":
                flow.send(second)
            case "read":
                flow.read(second)
            case "poll":
                self.poll(first, ROOMS[second % len(ROOMS)], 1 + second)
            case "deliver":
                self.deliver(first, second)
            case "lose":
                self.lose(first, second, spurious=False)
            case "delay":
                self.lose(first, second, spurious=True)
            case _:
                self.come_late()

    def poll(self, side: int, room: int, limit: int) -> None:
        source, target = self.pair.ends if side else self.pair.ends[::-1]
        self.pair.now += 0.01
        packets = source.fill(self.pair.now, room=room, limit=limit)
        self.in_flight += [(source, target, packet) for packet in packets]

    def deliver(self, index: int, count: int) -> None:
        """Some packets arrive, from anywhere in the line; their acknowledgements come back at once."""
        start = index % max(1, len(self.in_flight))
        for source, target, packet in self.in_flight[start : start + count]:
            target.receive([packet], self.pair.now)
            source.acked([packet])
        del self.in_flight[start : start + count]

    def lose(self, index: int, count: int, *, spurious: bool) -> None:
        """Some packets are given up; spuriously, if they are only late."""
        start = index % max(1, len(self.in_flight))
        for source, target, packet in self.in_flight[start : start + count]:
            source.lost([packet])
            if spurious:
                self.late.append((target, packet))
        del self.in_flight[start : start + count]

    def come_late(self) -> None:
        while self.late:
            target, packet = self.late.pop()
            target.receive([packet], self.pair.now)

    def finish(self) -> None:
        for flow in self.flows:
            flow.source.map.finish(flow.stream_id)
        for turn in range(500):
            for index in range(turn % 3, 0 if turn > 30 else len(self.in_flight), 2):
                self.lose(index, 1, spurious=turn % 2 == 0)
            self.deliver(0, len(self.in_flight))
            self.come_late()
            for flow in self.flows:
                flow.read(100_000)
            if all(len(end.map) == 0 for end in self.pair.ends):
                break
            self.poll(0, 1171, 50)
            self.poll(1, 1171, 50)


ACTION = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 5), st.sampled_from(SIZES)),
    st.tuples(st.just("read"), st.integers(0, 5), st.sampled_from(SIZES)),
    st.tuples(st.just("poll"), st.integers(0, 1), st.integers(0, 20)),
    st.tuples(st.just("deliver"), st.integers(0, 40), st.integers(1, 12)),
    st.tuples(st.just("lose"), st.integers(0, 40), st.integers(1, 6)),
    st.tuples(st.just("delay"), st.integers(0, 40), st.integers(1, 6)),
    st.tuples(st.just("late"), st.just(0), st.just(0)),
)


@settings(max_examples=150)
@given(actions=st.lists(ACTION, max_size=80), windows=st.sampled_from([4096, 20_000, 262_144]))
def test_bytes_and_messages_survive_loss_reordering_and_late_packets(
    actions: list[tuple[str, int, int]], windows: int
) -> None:
    pair = Pair(stream_window=windows, session_window=2 * windows, max_window=16 * windows, send_buffer=windows)
    flows: list[Flow] = []
    for opener, other, mode, stream_id in (
        (*pair.ends, StreamMode.BYTES, None),
        (*pair.ends[::-1], StreamMode.MESSAGES, None),
        (*pair.ends, StreamMode.MESSAGES, 7),
    ):
        opened = opener.map.open(mode=mode, stream_id=stream_id)
        flows.append(Flow(opened, mode, opener, other))
    shared = pair.responder.map.open(stream_id=7)
    flows.append(Flow(shared, StreamMode.MESSAGES, *pair.ends[::-1]))
    world = World(pair, flows)
    for action, first, second in actions:
        world.act(action, first, second)
    # What a stream answers is sent only once it was heard of.
    flows += [Flow(flow.stream_id, flow.mode, flow.target, flow.source) for flow in flows[:2]]
    for _ in range(50):
        world.deliver(0, len(world.in_flight))
        world.poll(0, 1171, 50)
        world.poll(1, 1171, 50)
    for flow in flows[-2:]:
        flow.send(1000)
    world.finish()
    for flow in flows:
        assert flow.ended
        if flow.mode is StreamMode.MESSAGES:
            assert flow.received == flow.sent
        else:
            assert b"".join(flow.received) == b"".join(flow.sent)
    for end in pair.ends:
        assert len(end.map) == 0
        assert not end.map.has_unacknowledged
        assert end.map._window.overhead == 0
        assert end.map._window.consumed == end.map._window.received
        assert end.map.outgoing._pool._total == 0


@given(st.integers(0, MAX_LENGTH), st.binary(max_size=8))
def test_a_length_is_read_as_it_was_written_whatever_follows(length: int, after: bytes) -> None:
    prefix = length_prefix(length)
    assert parse_length_untrusted(prefix + after) == (length, len(prefix))
