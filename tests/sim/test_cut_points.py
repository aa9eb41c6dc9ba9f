"""A session cut anywhere, some thousand times: in the middle of a transfer, of a resume, of the resume after that.

Both sides write and read all the time. What is read must be what was written, byte for byte, at each cut, and each
resume must go on with the streams. The seed is in the test's name: it plays it again.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from stt_core.events import SessionClosed, SessionEstablished, SessionResumed, StreamOpened
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.types import Resumed, StreamMode
from tests.core.pair import End, Flight, Pair, dead, straight

CUTS = 200
SEEDS = int(os.environ.get("STT_CUT_POINTS", "2000")) // CUTS
"""STT_CUT_POINTS=10000 is all of them, in about a minute."""
BULK = 1
"""The id of a stream that lasts from beginning to end."""
SILENCE = 40.0


def content(name: str, offset: int, size: int) -> bytes:
    """What stands at that offset of a stream, whoever asks."""
    block = 4096
    blocks = range(offset // block, -(-(offset + size) // block))
    parts = [hashlib.shake_128(f"{name} {index}".encode()).digest(block) for index in blocks]
    start = offset % block
    return b"".join(parts)[start : start + size]


@dataclass
class Party:
    """One side's application: what it has written and read of each stream."""

    end: End
    session: Session
    written: dict[int, int] = field(default_factory=dict)
    read: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    messages: int = 0
    seen: int = 0

    def name(self, stream: int) -> str:
        return f"{self.end.name} {stream}"

    def write(self, stream: int, size: int) -> None:
        offset = self.written.setdefault(stream, 0)
        self.written[stream] += self.session.write(stream, content(self.name(stream), offset, size))

    def take(self, other: Party) -> None:
        """Read what there is, of old streams and new ones."""
        events, self.seen = self.end.events[self.seen :], len(self.end.events)
        for event in events:
            if isinstance(event, StreamOpened):
                self.read.setdefault(event.stream_id, 0)
        for stream in list(self.read):
            if stream in self.ended:
                continue
            while chunk := self.session.read(stream):
                offset = self.read[stream]
                assert chunk == content(other.name(stream), offset, len(chunk)), f"stream {stream} at {offset}"
                self.read[stream] += len(chunk)
            if self.session.at_end(stream):
                assert self.read[stream] == other.written.get(stream, 0)
                self.ended.add(stream)


class Story:
    """One pair under one seed."""

    def __init__(self, seed: int) -> None:
        self.choose = random.Random(seed)
        self.pair = Pair(resumable=True, stream_window=16_384, session_window=32_768, send_buffer=65_536)
        ours, theirs = self.pair.connect()
        self.alice, self.bob = Party(self.pair.alice, ours), Party(self.pair.bob, theirs)
        self.parties = (self.alice, self.bob)
        for party in self.parties:
            party.session.open_stream(stream_id=BULK, mode=StreamMode.BYTES)
            party.read[BULK] = 0
        self.pair.run_until(lambda: ours.resumption_token is not None)

    def act(self) -> None:
        """Both do something, or nothing."""
        for party, other in (self.parties, self.parties[::-1]):
            if self.choose.random() < 0.7:
                party.write(BULK, self.choose.choice([1, 1000, 5000, 20_000]))
            if self.choose.random() < 0.2 and len(party.written) - len(party.ended) < 20:
                stream = party.session.open_stream(mode=StreamMode.BYTES)
                party.read[stream] = 0
                party.write(stream, self.choose.randrange(3000))
                party.session.finish(stream)
            for stream in list(party.read):  # end what the other has begun
                if stream not in party.written and stream != BULK:
                    party.written[stream] = 0
                    party.session.finish(stream)
            if self.choose.random() < 0.6:
                party.take(other)

    def cut_after(self, datagrams: int, loss: float) -> Callable[[Flight], Iterable[Flight]]:
        """A wire that loses some, and then all."""
        left = iter(range(datagrams))

        def wire(flight: Flight) -> Iterable[Flight]:
            if next(left, None) is None:
                return ()
            return () if self.choose.random() < loss else (flight,)

        return wire

    def cut(self) -> None:
        """Go on for a random number of datagrams, then be cut off, for ever or until it is resumed at once."""
        self.pair.wire = self.cut_after(self.choose.randrange(60), self.choose.choice([0.0, 0.0, 0.1, 0.3]))
        for _ in range(self.choose.randrange(1, 5)):
            if self.alice.session.state is SessionState.ESTABLISHED and self.bob.session.state in LIVE:
                self.act()
            self.pair.run(self.choose.choice([0.0, 0.005, 0.03, 0.2]))
        self.pair.wire = dead
        if self.choose.random() < 0.5:
            self.pair.run(SILENCE)

    def resume(self, *, undisturbed: bool) -> bool:
        """Ask to go on; False where that was cut off as well."""
        token = self.alice.session.resumption_token
        assert token is not None
        pair = self.pair
        pair.wire = straight if undisturbed else self.cut_after(self.choose.randrange(1, 30), 0.1)
        attempt = pair.alice.endpoint.resume(token, pair.bob.address, now=pair.now, timeout=8.0)

        def resumed() -> bool:
            events = pair.alice.events[-40:]
            return any(isinstance(event, SessionResumed) and event.attempt == attempt for event in events)

        pair.run_until(resumed, 9.0, must=undisturbed)
        for end in pair.ends:
            assert not end.told(SessionClosed)
            assert len(end.told(SessionEstablished)) == 1
        return resumed()

    def check_everything(self) -> None:
        """In the end nothing is missing."""
        pair = self.pair
        pair.wire = straight

        def done() -> bool:
            for party, other in (self.parties, self.parties[::-1]):
                party.take(other)
            return all(
                party.read.get(stream, 0) == size
                for party, other in (self.parties, self.parties[::-1])
                for stream, size in other.written.items()
            )

        pair.run_until(done, 120.0)


LIVE = (SessionState.ESTABLISHED, SessionState.DETACHED)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_bytes_are_equal_wherever_a_session_is_cut(seed: int) -> None:
    story = Story(seed)
    for _ in range(CUTS // 2):
        story.cut()
        while not story.resume(undisturbed=story.choose.random() < 0.5):
            pass
        for party, other in (story.parties, story.parties[::-1]):
            assert party.session.resumed is Resumed.FULL
            party.take(other)
    story.check_everything()
