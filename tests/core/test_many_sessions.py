"""Thousands of sessions on a machine that is late: what one of them costs the others."""

from __future__ import annotations

from stt_core.endpoint import TIMERS_AT_ONCE
from stt_core.session import Session
from stt_core.types import StreamMode
from tests.core.pair import Pair, channel_of, dead, read_or_none


def lonely(pair: Pair) -> tuple[Session, float]:
    """A session whose peer is gone, and the time of its next probe; whatever it had to say is acknowledged."""
    ours, _ = pair.connect()
    pair.rest()
    pair.wire = dead
    return ours, channel_of(ours).pto


class TestTimers:
    def test_many_that_are_due_at_once_are_served_in_parts(self) -> None:
        pair = Pair()
        count = 2 * TIMERS_AT_ONCE + 10
        for _ in range(count):
            pair.start()
        pair.settle()
        endpoint = pair.alice.endpoint
        late = pair.now + 1.5  # each HELLO is to be repeated after one second
        repeated = []
        for _ in range(3):
            due = endpoint.next_timer()
            assert due is not None
            assert due <= late
            endpoint.handle_timer(late)
            repeated.append(0)
            while (transmit := endpoint.poll_transmit(late)) is not None:
                repeated[-1] += len(transmit.data) // transmit.segment_size
        assert repeated == [TIMERS_AT_ONCE, TIMERS_AT_ONCE, 10]
        following = endpoint.next_timer()
        assert following is not None
        assert following > late


class TestProbes:
    def test_a_keep_alive_is_probed_for_once_a_timeout(self) -> None:
        pair = Pair()
        ours, pto = lonely(pair)
        channel_of(ours).send_keep_alive(pair.now)
        ours.mark_ready()
        pair.settle()
        before = len(pair.sent)
        pair.run(1.5 * pto)
        assert len(pair.sent) - before == 1

    def test_data_is_probed_for_twice(self) -> None:
        pair = Pair()
        ours, pto = lonely(pair)
        ours.write(ours.open_stream(mode=StreamMode.BYTES), b"data")
        pair.settle()
        before = len(pair.sent)
        pair.run(1.5 * pto)
        assert len(pair.sent) - before == 2


class TestOneRemote:
    def test_sessions_to_one_socket_take_turns_with_large_batches(self) -> None:
        pair = Pair(receive_buffer_hint=1 << 20)
        sessions = [pair.connect() for _ in range(40)]
        pair.rest()
        size = 200_000
        streams = []
        for ours, _ in sessions:
            stream = ours.open_stream(mode=StreamMode.BYTES)
            assert ours.write(stream, bytes(size)) == size
            ours.finish(stream)
            streams.append(stream)
        done = 0

        def work() -> bool:
            nonlocal done
            for (_, theirs), stream in zip(sessions, streams, strict=True):
                while chunk := read_or_none(theirs, stream):
                    done += len(chunk)
            return done == size * len(sessions)

        pair.run_until(work, 60.0)
        for ours, _ in sessions:
            assert ours.statistics().packets_lost == 0
