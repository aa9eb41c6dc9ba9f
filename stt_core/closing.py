"""The end of a session on the wire: SESSION_CLOSE, its acknowledgement, and the quiet time after it.

Rule: closing is bounded. A close is acknowledged, or given up after three PTOs; then both sides stay for three more
PTOs so that stragglers meet silence (or one more acknowledgement) rather than a reset (RFC 9000 section 10.2).
"""

from __future__ import annotations

from stt_core.errors import CloseReason, ErrorCode
from stt_core.packing import Batch

PTOS = 3
"""How many PTOs a close waits for its acknowledgement, and how many it lingers after it."""


MAX_PTO = 2.0
"""Seconds: a peer that answers late on purpose must not make our close last."""

FIRST_OF_APPLICATION = 0x100
"""Codes from here on are the application's: whoever closes with one closed on purpose."""

MAX_WORDS = 64
"""Packets that last words may take in all: a peer that says goodbye without end gets no answer without end."""


class Farewell:
    """Either side's last words.

    ``frame`` is what still has to leave (our SESSION_CLOSE, or the answer to the peer's); ``initiated`` tells
    whether we wait for an acknowledgement. ``done`` is true once the application need not wait any longer.
    """

    __slots__ = (
        "_interval", "_left", "_pending", "_resend_at", "done", "drain_until", "frame", "give_up_at", "initiated",
    )  # fmt: skip

    def __init__(self, frame: bytes, *, initiated: bool, now: float, pto: float) -> None:
        pto = min(pto, MAX_PTO)
        self.frame = frame
        self.initiated = initiated
        self.done = not initiated
        self._interval = pto
        self._pending = True
        self._left = MAX_WORDS
        self._resend_at: float | None = None
        self.give_up_at = now + PTOS * pto
        self.drain_until = now + (2 if initiated else 1) * PTOS * pto

    def fill(self, batch: Batch, now: float) -> None:
        """Put the frame into a packet if it is due."""
        if self._pending and batch.add(self.frame):
            self._pending = False
            self._left -= 1
            if not self.done:
                self._resend_at = now + self._interval

    def on_acknowledged(self, now: float, pto: float, *, reliable: bool = False) -> None:
        """SESSION_CLOSE_ACK arrived: nothing more to say. On a ``reliable`` path nothing comes late, either: then there
        is nothing to stay for, and the connection can be given back."""
        if not self.done:
            self.done = True
            self._pending = False
            self._resend_at = None
            self.drain_until = now + PTOS * min(pto, MAX_PTO)
        if reliable and not self._pending:
            self.drain_until = now

    def on_peer_close(self, answer: bytes) -> None:
        """The peer's SESSION_CLOSE arrived (again, or crossing ours): answer it."""
        self.frame = answer
        self.done = True
        self._pending = True
        self._resend_at = None

    def give_up(self, now: float) -> None:
        """Nothing can be said any more, nor will anything come."""
        self.done = True
        self._pending = False
        self._resend_at = None
        self.drain_until = now

    @property
    def wants_to_send(self) -> bool:
        """Whether :meth:`fill` has something."""
        return self._pending and self._left > 0

    def next_timer(self) -> float:
        """When :meth:`handle_timer` wants to be called."""
        if self.done:
            return self.drain_until
        return self.give_up_at if self._resend_at is None else min(self._resend_at, self.give_up_at)

    def handle_timer(self, now: float) -> bool:
        """Resend or give up; True once the session can be forgotten."""
        if not self.done and now >= self.give_up_at:
            self.done = True
            self._pending = False
            self._resend_at = None
        if not self.done and self._resend_at is not None and now >= self._resend_at:
            self._pending = True
            self._resend_at = None
        return self.done and now >= self.drain_until


_REASONS: dict[int, CloseReason] = {
    ErrorCode.NO_ERROR: CloseReason.GRACEFUL,
    ErrorCode.APPLICATION: CloseReason.GRACEFUL,
    ErrorCode.SHUTTING_DOWN: CloseReason.GRACEFUL,
    ErrorCode.SUPERSEDED: CloseReason.SUPERSEDED,
}


def reason_of(code: int) -> CloseReason:
    """What a code in the peer's SESSION_CLOSE means to the application, whose own codes begin at 256."""
    return CloseReason.GRACEFUL if code >= FIRST_OF_APPLICATION else _REASONS.get(code, CloseReason.ERROR)


def code_name(code: int) -> str:
    """A code for people."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"code {code:#x}"
