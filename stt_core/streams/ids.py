"""Stream ids: who may take which, how many, and which are used up.

Rule: an id is used once per session. Ids 1 to 2^20 are chosen by the application and shared by both ends; automatic
ids lie above, the initiator's even, the responder's odd. Limits are cumulative counts, as in RFC 9000 section 4.6, so
that ends that disagree for a moment about what is open never disagree about what is allowed.

What is remembered of the dead is bounded: a bitmap for the shared ids, and for automatic ones a range set that can't
have more holes than there are streams open at once.
"""

from __future__ import annotations

from typing import Final

from stt_core.errors import ErrorCode, StreamLimitError, Violation
from stt_core.ranges import RangeSet
from stt_core.types import Role

MAX_EXPLICIT: Final = 1 << 20
"""The highest id an application may choose."""
EXPLICIT_LIMIT: Final = 128
"""Application-chosen streams open at once."""
MAX_ID: Final = (1 << 32) - 1

_PAGE_BITS: Final = 10


class IdBitmap:
    """A set of shared ids, at most 200 KB however a peer spreads them, and nothing while empty."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}

    def add(self, number: int) -> None:
        """Put ``number`` in."""
        page = number >> _PAGE_BITS
        self._pages[page] = self._pages.get(page, 0) | 1 << (number & ((1 << _PAGE_BITS) - 1))

    def __contains__(self, number: int) -> bool:
        return self._pages.get(number >> _PAGE_BITS, 0) >> (number & ((1 << _PAGE_BITS) - 1)) & 1 == 1


class StreamIds:
    """One session's ids, seen from ``role``. ``max_streams`` automatic streams of the peer may be open at once."""

    __slots__ = (
        "_closed", "_closed_automatic", "_explicit_alive", "_explicit_opened", "_initiator", "_limit", "_max_streams",
        "_next", "_peer_closed", "_peer_explicit", "_peer_explicit_closed", "_peer_explicit_count", "_peer_next",
        "automatic_limit", "explicit_limit", "granted",
    )  # fmt: skip

    def __init__(self, role: Role, max_streams: int) -> None:
        self._initiator = role is Role.INITIATOR
        self._max_streams = max_streams
        self.automatic_limit = 0
        """Automatic streams this side may have opened, in all."""
        self.explicit_limit = EXPLICIT_LIMIT
        """Application-chosen streams this side may have opened, in all."""
        self.granted = (max_streams, EXPLICIT_LIMIT)
        """The same for the peer, as last announced."""
        self._next = 0  # automatic streams this side opened
        self._explicit_opened = 0
        self._explicit_alive = 0
        self._closed = IdBitmap()
        # The peer's: automatic ones by index, explicit ones by STREAM_OPEN (or data that must be followed by one).
        self._peer_next = 0
        self._closed_automatic: RangeSet | None = None
        self._peer_closed = 0
        self._peer_explicit = IdBitmap()
        self._peer_explicit_count = 0
        self._peer_explicit_closed = 0

    def raise_limits(self, automatic: int, explicit: int) -> bool:
        """The peer's MAX_STREAMS; True where it raised one of them. An older frame that comes late changes nothing."""
        raised = automatic > self.automatic_limit or explicit > self.explicit_limit
        self.automatic_limit = max(self.automatic_limit, automatic)
        self.explicit_limit = max(self.explicit_limit, explicit)
        return raised

    # --- this side opens

    def take_automatic(self) -> int:
        """The next automatic id.

        :raises StreamLimitError: at the peer's limit.
        """
        stream_id = MAX_EXPLICIT + 1 + self._initiator + 2 * self._next
        if self._next >= self.automatic_limit or stream_id > MAX_ID:
            raise StreamLimitError(f"the peer allows {self.automatic_limit} streams so far and all were opened")
        self._next += 1
        return stream_id

    def take_explicit(self, alive: bool) -> None:
        """Use one opening of a shared id; ``alive`` where the peer opened it before.

        :raises StreamLimitError: at the limit.
        """
        if self._explicit_opened >= self.explicit_limit or (not alive and self._explicit_alive >= EXPLICIT_LIMIT):
            raise StreamLimitError(f"{EXPLICIT_LIMIT} streams with ids chosen by the application are open")
        self._explicit_opened += 1
        self._explicit_alive += not alive

    # --- the peer opens

    def admit(self, stream_id: int) -> None:
        """A frame names an id that isn't alive and not used up: the peer opens a stream.

        :raises Violation: STREAM_STATE where it can't be the peer's to open, STREAM_LIMIT above what was granted.
        """
        if 0 < stream_id <= MAX_EXPLICIT:
            self.admit_explicit(stream_id)
            self._explicit_alive += 1
            return
        if stream_id == 0 or self._own(stream_id):
            raise Violation(ErrorCode.STREAM_STATE, f"stream {stream_id} does not exist")
        index = self._index(stream_id)
        if index >= self.granted[0]:
            raise Violation(ErrorCode.STREAM_LIMIT, f"stream {stream_id} is above the limit of {self.granted[0]}")
        self._peer_next = max(self._peer_next, index + 1)

    def admit_explicit(self, stream_id: int) -> None:
        """The peer opened a shared id, which this side may have opened too; counted once.

        :raises Violation: STREAM_LIMIT.
        """
        if stream_id in self._peer_explicit:
            return
        if self._peer_explicit_count >= self.granted[1]:
            raise Violation(ErrorCode.STREAM_LIMIT, f"stream {stream_id} is above the limit of {self.granted[1]}")
        self._peer_explicit.add(stream_id)
        self._peer_explicit_count += 1
        # A stream that is over here before we knew that the peer, too, had opened it.
        self._peer_explicit_closed += stream_id in self._closed

    # --- the end of a stream

    def is_closed(self, stream_id: int) -> bool:
        """Whether a stream with this id has been; only for ids that aren't alive."""
        if stream_id <= MAX_EXPLICIT:
            return stream_id in self._closed
        index = self._index(stream_id)
        if self._own(stream_id):
            return index < self._next
        return self._closed_automatic is not None and index in self._closed_automatic

    def close(self, stream_id: int) -> None:
        """A stream is over: its id is used up, its place is free."""
        if stream_id <= MAX_EXPLICIT:
            self._closed.add(stream_id)
            self._explicit_alive -= 1
            self._peer_explicit_closed += stream_id in self._peer_explicit
        elif not self._own(stream_id):
            if self._closed_automatic is None:
                self._closed_automatic = RangeSet()
            index = self._index(stream_id)
            self._closed_automatic.add(index, index + 1)
            self._peer_closed += 1

    @property
    def due(self) -> bool:
        """Whether the peer could be given more, and has used half of what it was given."""
        automatic, explicit = self.granted
        return (self._grantable[0] > automatic and 2 * (automatic - self._peer_next) <= self._max_streams) or (
            self._grantable[1] > explicit and 2 * (explicit - self._peer_explicit_count) <= EXPLICIT_LIMIT
        )

    def grant(self) -> tuple[int, int]:
        """Raise the peer's limits by what was closed and return them."""
        self.granted = self._grantable
        return self.granted

    @property
    def _grantable(self) -> tuple[int, int]:
        return self._peer_closed + self._max_streams, self._peer_explicit_closed + EXPLICIT_LIMIT

    def _own(self, stream_id: int) -> bool:
        """Whether an automatic id is this side's to open: even for the initiator."""
        return (stream_id & 1 == 0) is self._initiator

    def _index(self, stream_id: int) -> int:
        return (stream_id - MAX_EXPLICIT - 1) >> 1
