"""One message to many sessions (chapter, "Server Mode"): a bounded queue each, so that no one's slowness is another's.

Rule: what a stream takes at once is sent at once; what it doesn't waits in that session's own queue, and leaves as the
peer reads. Where the queue is full too, the policy decides, for this session alone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from stt_core.errors import ErrorCode, STTError

if TYPE_CHECKING:
    from stt_backends.adapter.session import BaseSession
    from stt_backends.adapter.stream import BaseMessageStream

logger = logging.getLogger("stt.node")

MOST_QUEUED: Final = 256
"""Messages that may wait for one session."""
MOST_QUEUED_BYTES: Final = 4 * 1024 * 1024
"""Bytes of them; one message may wait whatever its size."""


class SlowPolicy(StrEnum):
    """What becomes of a message for a session whose queue is full."""

    DROP = "drop"
    """It is not sent there."""
    CLOSE = "close"
    """The session is closed, with code LIMIT_EXCEEDED."""
    WAIT = "wait"
    """The call waits for room; the others have the message already."""


class Outcome(StrEnum):
    """What became of a message for one session."""

    SENT = "sent"
    """The stream has accepted it."""
    QUEUED = "queued"
    """It leaves when the peer has read what is before it."""
    DROPPED = "dropped"
    CLOSED = "closed"
    """The session was closed for being slow."""
    FAILED = "failed"
    """The session or the stream was over."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One session's part in a broadcast; ``error`` tells why it FAILED."""

    outcome: Outcome
    error: STTError | None = None

    def __bool__(self) -> bool:
        """Whether the message is on its way."""
        return self.outcome in (Outcome.SENT, Outcome.QUEUED)


class Outbox:
    """What waits to be sent on one stream."""

    __slots__ = ("_bytes", "_stream", "_waiting")

    def __init__(self, stream: BaseMessageStream) -> None:
        self._stream = stream
        self._waiting: deque[bytes] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, message: bytes) -> Outcome | None:
        """Send ``message``, or queue it; None where there is no room for it.

        :raises STTError: if the stream or the session is over.
        """
        self.flush()
        if not self._waiting and self._stream.try_send(message):
            return Outcome.SENT
        if self._waiting and (len(self._waiting) >= MOST_QUEUED or self._bytes + len(message) > MOST_QUEUED_BYTES):
            return None
        self._waiting.append(message)
        self._bytes += len(message)
        return Outcome.QUEUED

    def flush(self) -> None:
        """Send what there is room for.

        :raises STTError: if the stream or the session is over.
        """
        while self._waiting and self._stream.try_send(self._waiting[0]):
            self._bytes -= len(self._waiting.popleft())

    def handle_writable(self) -> None:
        """The stream takes more now, or is over: then nothing of this will be sent, and its end is told elsewhere."""
        try:
            self.flush()
        except STTError as error:
            logger.info("%d messages were not sent: %s", len(self._waiting), error)
            self._waiting.clear()
            self._bytes = 0


class Broadcast:
    """One message on its way to several sessions; :attr:`waiting` are those whose peers must read first."""

    def __init__(
        self, sessions: Iterable[BaseSession[Any, Any]], message: bytes, stream_id: int, policy: SlowPolicy
    ) -> None:
        self.results: dict[bytes, Delivery] = {}
        """By session id."""
        self.waiting: list[BaseSession[Any, Any]] = []
        self.stream_id = stream_id
        self._message = message
        self._policy = policy
        for session in sessions:
            if not self.try_session(session):
                self.waiting.append(session)

    def unknown(self, session_id: bytes, error: STTError) -> None:
        """There is no such session."""
        self.results[session_id] = Delivery(Outcome.FAILED, error)

    def try_session(self, session: BaseSession[Any, Any]) -> bool:
        """Send to one session; False where that has to wait for its peer."""
        try:
            outcome = session.outbox(self.stream_id).offer(self._message)
        except STTError as error:
            self.results[session.session_id] = Delivery(Outcome.FAILED, error)
            return True
        if outcome is None:
            if self._policy is SlowPolicy.WAIT:
                return False
            if self._policy is SlowPolicy.CLOSE:
                session.core.close(ErrorCode.LIMIT_EXCEEDED, "too slow for what is broadcast")
                session.kick()
                outcome = Outcome.CLOSED
            else:
                outcome = Outcome.DROPPED
        self.results[session.session_id] = Delivery(outcome)
        return True
