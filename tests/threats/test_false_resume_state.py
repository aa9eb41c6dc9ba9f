"""Threat "false RESUME_STATE": a peer that lies about what it has gets a reset or the end, and never a silent gap."""

from __future__ import annotations

import tracemalloc

import pytest

from stt_core import frames
from stt_core.errors import ErrorCode, StreamResetError
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.streams.resuming import _ENTRY, Entry, EntryFlag, StateFlag, encode_states
from stt_core.types import StreamMode
from tests.core.pair import channel_of, sealed
from tests.core.test_resuming import Resumable, token_of

SENT = 1000


class Liar(Resumable):
    """Bob is honest up to his RESUME_STATE, which the test writes."""

    def __init__(self) -> None:
        super().__init__()
        self.ours, self.theirs = self.connect()
        self.stream = self.ours.open_stream(mode=StreamMode.BYTES)
        self.ours.write(self.stream, bytes(SENT))
        self.rest()
        self.theirs.read(self.stream)
        self.cut()
        attempt = self.ask(token_of(self.ours))
        self.wire = lambda flight: () if flight.sender is self.bob and flight.data[0] & 0xC0 == 0x40 else (flight,)
        self.run_until(lambda: self.theirs.state is SessionState.ESTABLISHED)
        assert attempt != self.ours.key

    def say(self, *plains: bytes) -> Session:
        for packet in sealed(self.theirs, *plains, now=self.now):
            self.alice.endpoint.receive_datagram(packet, self.bob.path, self.now)
        self.settle()
        return self.ours

    def lie(self, *entries: Entry, lost: bool = False) -> Session:
        return self.say(*encode_states(list(entries), lost=lost))


def closed_with(session: Session) -> int | None:
    return getattr(session.error, "code", None)


class TestLies:
    def test_the_truth_goes_on(self) -> None:
        liar = Liar()
        liar.lie(Entry(liar.stream, EntryFlag.OPENED, SENT, SENT))
        assert liar.ours.state is SessionState.ESTABLISHED
        assert liar.ours.write(liar.stream, b"more") == 4

    @pytest.mark.parametrize(
        "entry",
        [
            Entry(0, EntryFlag.OPENED, SENT + 1, 0),
            Entry(0, EntryFlag.OPENED | EntryFlag.COMPLETE, SENT, 0),
            Entry(0, EntryFlag.RESET, SENT, 0),
            Entry(77, EntryFlag.OPENED, 0, 0),
            Entry(78, EntryFlag(0), 1, 0),
        ],
        ids=["bytes never sent", "an end", "a reset", "an opening", "bytes of no stream"],
    )
    def test_claiming_what_never_was_ends_the_session(self, entry: Entry) -> None:
        liar = Liar()
        session = liar.lie(entry if entry.stream_id else entry._replace(stream_id=liar.stream))
        assert closed_with(session) == ErrorCode.PROTOCOL_VIOLATION

    def test_lacking_what_it_had_acknowledged_resets_the_stream_and_no_other(self) -> None:
        liar = Liar()
        session = liar.lie(Entry(liar.stream, EntryFlag.OPENED, SENT - 1, 0))
        assert session.state is SessionState.ESTABLISHED
        with pytest.raises(StreamResetError) as raised:
            session.write(liar.stream, b"x")
        assert raised.value.code == ErrorCode.RESUME_GAP
        with pytest.raises(StreamResetError):
            session.read(liar.stream)

    def test_forgetting_a_stream_that_is_not_over_resets_it(self) -> None:
        liar = Liar()
        session = liar.lie()
        with pytest.raises(StreamResetError) as raised:
            session.write(liar.stream, b"x")
        assert raised.value.code == ErrorCode.RESUME_GAP

    def test_having_lost_everything_resets_all(self) -> None:
        liar = Liar()
        session = liar.lie(lost=True)
        assert session.state is SessionState.ESTABLISHED
        with pytest.raises(StreamResetError):
            session.write(liar.stream, b"x")

    @pytest.mark.parametrize(
        "frame",
        [
            frames.ResumeState(StateFlag.LAST, 0, b"x"),
            frames.ResumeState(4, 0, b""),
            frames.ResumeState(0, 5000, b""),
            frames.ResumeState(StateFlag.LAST, 0, _ENTRY.pack(1, 0, 1, 2)),
            frames.ResumeState(StateFlag.LAST, 0, _ENTRY.pack(1, 8, 2, 1)),
        ],
        ids=["part of an entry", "unknown flags", "too many", "more consumed than received", "unknown entry flags"],
    )
    def test_malformed_ones_end_the_session(self, frame: frames.ResumeState) -> None:
        liar = Liar()
        assert closed_with(liar.say(frame.encode())) == ErrorCode.FRAME_ENCODING

    def test_more_streams_than_there_can_be_are_refused_before_they_take_memory(self) -> None:
        liar = Liar()
        plains = [
            frames.ResumeState(0, index, b"".join(_entry(index * 48 + k + 1) for k in range(48))).encode()
            for index in range(200)
        ]
        tracemalloc.start()
        session = liar.say(*plains)
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert closed_with(session) == ErrorCode.LIMIT_EXCEEDED
        assert used < 2 << 20

    def test_data_waits_for_the_last_of_it(self) -> None:
        liar = Liar()
        one, *_ = encode_states([Entry(liar.stream, EntryFlag.OPENED, SENT, SENT)])
        body = frames.parse_frames_untrusted(one)[0]
        assert isinstance(body, frames.ResumeState)
        session = liar.say(frames.ResumeState(StateFlag.LAST, 1, b"").encode())
        assert channel_of(session).streams.resuming
        assert session.write(liar.stream, b"x") == 0
        liar.say(frames.ResumeState(0, 0, body.entries).encode())
        assert session.write(liar.stream, b"x") == 1


def _entry(stream_id: int) -> bytes:
    return stream_id.to_bytes(4, "big") + bytes(17)
