"""Sessions to one remote socket share its receive buffer: none has it for itself, whoever came first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt_core.session import Session
from stt_core.types import StreamMode
from tests.core.pair import Flight, Pair, channel_of, read_or_none

CHUNK = bytes(65_536)


class Crowd:
    """Sessions between the same two sockets, each with as much to send as there is room for once it has begun."""

    def __init__(self, begins: list[float], hint: int, delay: float, host: str | None) -> None:
        def wire(flight: Flight) -> Iterable[Flight]:
            return (replace(flight, delay=delay),)

        self.pair = Pair(receive_buffer_hint=hint)
        if host is not None:
            self.pair.alice.address, self.pair.bob.address = (host, 1111), (host, 2222)
        self.pair.wire = wire
        self.sessions: list[tuple[Session, Session]] = [self.pair.connect() for _ in begins]
        self.streams = [ours.open_stream(mode=StreamMode.BYTES) for ours, _ in self.sessions]
        self.begins = [self.pair.now + begin for begin in begins]
        self.arrived = [0] * len(begins)

    def run(self, seconds: float) -> list[int]:
        """Let time pass; what arrived of each meanwhile."""
        before, until = list(self.arrived), self.pair.now + seconds

        def work() -> bool:
            for index, (ours, theirs) in enumerate(self.sessions):
                if self.pair.now >= self.begins[index]:
                    while ours.write(self.streams[index], CHUNK):
                        continue
                while chunk := read_or_none(theirs, self.streams[index]):
                    self.arrived[index] += len(chunk)
            budget = channel_of(self.sessions[0][0]).outbound.budget
            one_each = len(self.sessions) * 2300
            assert budget.used <= budget.limit + one_each
            return self.pair.now >= until

        self.pair.run_until(work, seconds + 1.0)
        return [now - then for now, then in zip(self.arrived, before, strict=True)]


@pytest.mark.parametrize("host", [None, "127.0.0.1"])
def test_who_comes_later_gets_as_much_as_who_filled_the_buffer(host: str | None) -> None:
    crowd = Crowd([0.0, 0.5], 212_992, 0.01, host)
    crowd.run(1.5)
    first, second = crowd.run(2.0)
    assert second > 0.8 * first


@settings(max_examples=10)
@given(
    st.lists(st.floats(0.0, 0.5), min_size=2, max_size=4),
    st.integers(100_000, 300_000),
    st.sampled_from((0.002, 0.02, 0.1)),
    st.sampled_from((None, "127.0.0.1")),
)
def test_nobody_starves(begins: list[float], hint: int, delay: float, host: str | None) -> None:
    crowd = Crowd(begins, hint, delay, host)
    crowd.run(1.5)
    shares = crowd.run(30 * delay)
    assert min(shares) > 0.3 * sum(shares) / len(shares), shares
