"""How the streams of one session go on under new keys: what each side has of the other's bytes, and what is sent again.

Rule: no silent gap. A stream goes on from the first byte the peer lacks, or is reset with RESUME_GAP; a peer that
claims bytes we never sent breaks the protocol. Until all of the peer's RESUME_STATE is here no data leaves
(docs/protocol.md, "Resumption").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntFlag
from struct import Struct
from typing import Final, NamedTuple

from stt_core import frames
from stt_core.errors import ErrorCode, Violation
from stt_core.state import ReceiveState
from stt_core.streams.ids import StreamIds
from stt_core.streams.outgoing import CLOSE, MAX_STREAMS, OPEN, STOP, Outgoing
from stt_core.streams.stream import Stream

ENTRIES_AT_ONCE: Final = 48
"""Entries in one frame: with its head about 1 KB, so that it fits the smallest datagram beside other frames."""
MOST_FRAMES: Final = 4096

_ENTRY: Final = Struct(">IBQQ")


class EntryFlag(IntFlag):
    """What the sender of an entry knows of the other side's half."""

    OPENED = 1
    """Its STREAM_OPEN has come."""
    COMPLETE = 2
    """All of it has come, the end included."""
    RESET = 4
    """Its STREAM_CLOSE has come."""


class StateFlag(IntFlag):
    """About a whole frame."""

    LAST = 1
    LOST_STATE = 2


class Entry(NamedTuple):
    """One stream: bytes received in order, and how many of these were consumed."""

    stream_id: int
    flags: EntryFlag
    received: int
    consumed: int


def encode_states(entries: list[Entry], *, lost: bool = False) -> list[bytes]:
    """The RESUME_STATE frames that say so, at least one."""
    starts = range(0, max(len(entries), 1), ENTRIES_AT_ONCE)
    encoded = []
    for index, start in enumerate(starts):
        flags = StateFlag.LAST * (start == starts[-1]) | StateFlag.LOST_STATE * lost
        body = b"".join([_ENTRY.pack(*entry) for entry in entries[start : start + ENTRIES_AT_ONCE]])
        encoded.append(frames.ResumeState(flags, index, body).encode())
    return encoded


def parse_entries_untrusted(body: bytes) -> list[Entry]:
    """The entries of one frame.

    :raises Violation: on a part of an entry, unknown flags, or more consumed than received.
    """
    if len(body) % _ENTRY.size:
        raise Violation(ErrorCode.FRAME_ENCODING, "RESUME_STATE ends inside an entry")
    entries = []
    for stream_id, flags, received, consumed in _ENTRY.iter_unpack(body):
        if flags > 7 or consumed > received:
            raise Violation(ErrorCode.FRAME_ENCODING, f"RESUME_STATE contradicts itself about stream {stream_id}")
        entries.append(Entry(stream_id, EntryFlag(flags), received, consumed))
    return entries


class PeerState:
    """Collects one peer's RESUME_STATE, whose frames may come in any order."""

    __slots__ = ("_indices", "_last", "_most", "entries", "lost")

    def __init__(self, most: int) -> None:
        self._most = most
        self._indices: set[int] = set()
        self._last: int | None = None
        self.entries: dict[int, Entry] = {}
        self.lost = False

    def receive(self, frame: frames.ResumeState) -> bool:
        """Take one in; True where nothing is missing any more. A repeated one changes nothing.

        :raises Violation: if it contradicts another, or they name more streams than there can be.
        """
        if frame.flags > StateFlag.LAST | StateFlag.LOST_STATE or frame.index >= MOST_FRAMES:
            raise Violation(ErrorCode.FRAME_ENCODING, "RESUME_STATE with unknown flags, or too many of them")
        if frame.index in self._indices:
            return False
        self._indices.add(frame.index)
        if frame.flags & StateFlag.LAST:
            if self._last is not None:
                raise Violation(ErrorCode.PROTOCOL_VIOLATION, "RESUME_STATE ends twice")
            self._last = frame.index
        self.lost = self.lost or bool(frame.flags & StateFlag.LOST_STATE)
        for entry in parse_entries_untrusted(frame.entries):
            if entry.stream_id in self.entries:
                raise Violation(ErrorCode.PROTOCOL_VIOLATION, f"RESUME_STATE names stream {entry.stream_id} twice")
            self.entries[entry.stream_id] = entry
        if len(self.entries) > self._most:
            raise Violation(ErrorCode.LIMIT_EXCEEDED, f"RESUME_STATE names {len(self.entries)} streams")
        if self._last is None or len(self._indices) <= self._last:
            return False
        if len(self._indices) > self._last + 1:
            raise Violation(ErrorCode.PROTOCOL_VIOLATION, "RESUME_STATE goes on after its end")
        return True


class Resumption:
    """The exchange of one session. ``window`` is what the peer allows each stream beyond what it consumed.

    ``fail(stream, code)`` ends a stream both ways, ``settled(stream)`` is told of each that goes on.
    """

    __slots__ = ("_before", "_fail", "_ids", "_outgoing", "_settled", "_streams", "_theirs", "_window")

    def __init__(
        self,
        streams: Mapping[int, Stream],
        *,
        ids: StreamIds,
        outgoing: Outgoing,
        window: int,
        most: int,
        fail: Callable[[Stream, ErrorCode], None],
        settled: Callable[[Stream], None],
    ) -> None:
        self._streams = streams
        self._before = frozenset(streams)
        self._ids = ids
        self._outgoing = outgoing
        self._window = window
        self._fail = fail
        self._settled = settled
        self._theirs = PeerState(most)

    def ours(self) -> list[bytes]:
        """What to tell the peer, reliably."""
        return encode_states([_entry_of(stream) for stream in self._streams.values()])

    def receive(self, frame: frames.ResumeState) -> bool:
        """One of the peer's; True where it was the last that was missing, and the streams go on.

        A peer that has lost the streams has them all reset.

        :raises Violation: where it can't be true.
        """
        if not self._theirs.receive(frame):
            return False
        theirs = {} if self._theirs.lost else self._theirs.entries
        streams = list(self._streams.values())
        for stream in streams:
            entry = theirs.pop(stream.stream_id, None)
            # One that was opened since this began, by either side, is not what the peer speaks of.
            if stream.stream_id in self._before and not self._goes_on(stream, entry):
                self._fail(stream, ErrorCode.RESUME_GAP)
        for entry in theirs.values():
            self._check_stranger(entry)
        self._outgoing.release()
        self._outgoing.want(MAX_STREAMS)
        for stream in streams:
            self._want(stream)
            self._settled(stream)
        return True

    def _goes_on(self, stream: Stream, entry: Entry | None) -> bool:
        """Let the sending half go on from what the peer has; False where bytes are missing.

        :raises Violation: where the peer has what we never sent.
        """
        send = stream.send
        if self._theirs.lost:
            return False
        if entry is not None:
            if entry.flags & EntryFlag.OPENED:
                if not stream.opened:
                    raise _lie(f"it knows an opening of stream {stream.stream_id} that never was")
                stream.open_acked = True
            complete, reset = bool(entry.flags & EntryFlag.COMPLETE), bool(entry.flags & EntryFlag.RESET)
            if not send.resume(entry.received, entry.consumed + self._window, complete=complete, reset=reset):
                return False
            self._outgoing.count_reset(send, entry.received)
            return True
        if stream.announcing and not send.any_acked:
            return send.resume(0, self._window)  # it never heard of it, or is done with it and ignores what comes
        # Only a stream that is over is forgotten by a peer that kept its state.
        return send.conclude() and stream.receive.state not in (ReceiveState.OPEN, ReceiveState.SIZE_KNOWN)

    def _check_stranger(self, entry: Entry) -> None:
        """The peer has a stream that isn't alive here: over, or yet to be opened."""
        if not self._ids.is_closed(entry.stream_id) and (entry.received or entry.flags):
            raise _lie(f"it has bytes of stream {entry.stream_id}, which never was")

    def _want(self, stream: Stream) -> None:
        """Queue what has to be said again, as nobody knows whether it arrived."""
        if stream.announcing:
            self._outgoing.want(OPEN, stream.stream_id)
        if stream.send.resetting:
            self._outgoing.want(CLOSE, stream.stream_id)
        if stream.receive.state is ReceiveState.OPEN and stream.receive.discarding:
            self._outgoing.want(STOP, stream.stream_id)


def _entry_of(stream: Stream) -> Entry:
    receive = stream.receive
    flags = EntryFlag.OPENED * stream.peer_opened
    if receive.state in (ReceiveState.DATA_RECEIVED, ReceiveState.DATA_READ):
        flags |= EntryFlag.COMPLETE
    elif receive.state in (ReceiveState.RESET_RECEIVED, ReceiveState.RESET_READ):
        flags |= EntryFlag.RESET
    return Entry(stream.stream_id, EntryFlag(flags), receive.expected, min(receive.window.consumed, receive.expected))


def _lie(reason: str) -> Violation:
    return Violation(ErrorCode.PROTOCOL_VIOLATION, f"RESUME_STATE: {reason}")
