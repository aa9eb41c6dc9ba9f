"""One stream: its two halves, and what both ends agreed to call it.

Rule: every stream is bidirectional, and its state is freed when both halves are done and the peer knows that it was
opened. Until the peer's STREAM_OPEN has come, what it sent is held and nobody hears of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stt_core.state import ReceiveState, SendState
from stt_core.streams.receive import ReceiveHalf
from stt_core.streams.send import SendHalf
from stt_core.types import StreamMode

if TYPE_CHECKING:
    from stt_core.streams.schedule import Schedule


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What ``Session.stream_info`` tells. ``unsent`` and ``unacknowledged`` count accepted bytes."""

    stream_id: int
    mode: StreamMode
    purpose: str
    priority: int
    opened: bool
    """This side opened it."""
    peer_opened: bool
    """The peer opened it; both may have, on an id from 1 to 2^20."""
    send_state: SendState
    receive_state: ReceiveState
    unsent: int
    unacknowledged: int
    acknowledged: int
    """The peer has everything up to this offset."""
    received: int
    """Everything up to this offset has arrived."""


class Stream:
    """A live stream. ``mode`` is None while only the peer's data has come, and not what it is."""

    __slots__ = (
        "blocked_at", "frame_limit", "level", "mode", "notified", "open_acked", "opened", "peer_opened", "priority",
        "purpose", "queue", "receive", "send", "stop_code", "stream_id", "told", "turn",
    )  # fmt: skip

    def __init__(self, stream_id: int, send: SendHalf, receive: ReceiveHalf) -> None:
        self.stream_id = stream_id
        self.send = send
        self.receive = receive
        self.mode: StreamMode | None = None
        self.purpose = ""
        self.priority = 3
        self.frame_limit = 0
        """Bytes that a DATA frame of this side's may carry; 0 for as many as a packet holds."""
        self.opened = False
        self.peer_opened = False
        self.open_acked = False
        self.stop_code = 0
        self.blocked_at = -1
        """The flow-control limit a BLOCKED frame already named."""
        self.notified = False
        """A StreamReadable is out and nothing was read since."""
        self.told = False
        """The application knows of the stream: it opened it, or got a StreamOpened."""
        self.queue: Schedule | None = None
        """The schedule in which it waits to send; None where it has nothing to."""
        self.level = 0
        """Its level there: the priority of when it was put in."""
        self.turn = 0
        """Bytes left of its turn there."""

    @property
    def announcing(self) -> bool:
        """Whether the peer may still not know what this stream is."""
        return self.opened and not self.open_acked

    @property
    def done(self) -> bool:
        """Whether nothing can happen to this stream any more."""
        return self.send.terminal and self.receive.terminal and not self.announcing

    @property
    def info(self) -> StreamInfo:
        """A snapshot."""
        send = self.send
        return StreamInfo(
            stream_id=self.stream_id,
            mode=StreamMode.MESSAGES if self.mode is None else self.mode,
            purpose=self.purpose,
            priority=self.priority,
            opened=self.opened,
            peer_opened=self.peer_opened,
            send_state=send.state,
            receive_state=self.receive.state,
            unsent=send.unsent,
            unacknowledged=send.end - send.base,
            acknowledged=send.base,
            received=self.receive.expected,
        )
