"""All state transitions, as tables: sessions, and the two halves of a stream.

Rule: no transition is written anywhere else. A room that wants to change state calls :func:`advance`; a pair of
state and trigger that has no row is a bug of ours and raises :class:`LookupError`. The diagrams in
``docs/states.md`` are drawn from these tables, and a test regenerates and compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, TypeVar


class _Named(Enum):
    """Members are keys of the tables below, and compared by identity: so let them be hashed by it, without a call."""

    __hash__ = object.__hash__


class SessionState(_Named):
    """A session's life (chapter, "Session State"). DETACHED: no keys, but its streams, until resumed."""

    INIT = "INIT"
    HANDSHAKING = "HANDSHAKING"
    ESTABLISHED = "ESTABLISHED"
    DETACHED = "DETACHED"
    CLOSING = "CLOSING"
    CLOSED = "CLOSED"


class SessionTrigger(_Named):
    """What can move a session."""

    START = "start"
    CONFIRMED = "peer proved the seed"
    CLOSE = "close by either side"
    DONE = "close acknowledged or drained"
    LOST = "timeout, reset or failure"
    DETACH = "silence, where it may be resumed"
    RESUME = "resumed"
    RESTART = "ticket spent by another"


class SendState(_Named):
    """The sending half of a stream (RFC 9000 section 3.1)."""

    OPEN = "open"
    DATA_SENT = "data sent"
    DATA_ACKED = "data acked"
    RESET_SENT = "reset sent"
    RESET_ACKED = "reset acked"


class SendTrigger(_Named):
    """What can move a sending half."""

    FINISH = "finish"
    ALL_ACKED = "everything acked"
    RESET = "reset"
    RESET_ACKED = "reset acked"


class ReceiveState(_Named):
    """The receiving half of a stream (RFC 9000 section 3.2)."""

    OPEN = "open"
    SIZE_KNOWN = "size known"
    DATA_RECEIVED = "data received"
    DATA_READ = "data read"
    RESET_RECEIVED = "reset received"
    RESET_READ = "reset read"


class ReceiveTrigger(_Named):
    """What can move a receiving half."""

    FIN = "fin arrived"
    COMPLETE = "no gap left"
    READ = "application read the end"
    RESET = "reset arrived"


class FallbackState(_Named):
    """Which way a session goes whose side can open connections to the peer (docs/protocol.md, "Falling back")."""

    DIRECT = "direct"
    SEEKING = "seeking"
    DETOUR = "detour"


class FallbackTrigger(_Named):
    """What can change that."""

    SILENCE = "no answer"
    ANSWER = "UDP answers"
    DETOUR = "moved to a connection"


S = TypeVar("S", SessionState, SendState, ReceiveState, FallbackState)
T = TypeVar("T", SessionTrigger, SendTrigger, ReceiveTrigger, FallbackTrigger)

SESSION: Final[Mapping[tuple[SessionState, SessionTrigger], SessionState]] = {
    (SessionState.INIT, SessionTrigger.START): SessionState.HANDSHAKING,
    (SessionState.INIT, SessionTrigger.LOST): SessionState.CLOSED,
    (SessionState.HANDSHAKING, SessionTrigger.CONFIRMED): SessionState.ESTABLISHED,
    (SessionState.HANDSHAKING, SessionTrigger.LOST): SessionState.CLOSED,
    (SessionState.ESTABLISHED, SessionTrigger.CLOSE): SessionState.CLOSING,
    (SessionState.ESTABLISHED, SessionTrigger.LOST): SessionState.CLOSED,
    (SessionState.ESTABLISHED, SessionTrigger.DETACH): SessionState.DETACHED,
    (SessionState.ESTABLISHED, SessionTrigger.RESUME): SessionState.ESTABLISHED,
    (SessionState.ESTABLISHED, SessionTrigger.RESTART): SessionState.HANDSHAKING,
    (SessionState.DETACHED, SessionTrigger.RESUME): SessionState.ESTABLISHED,
    (SessionState.DETACHED, SessionTrigger.LOST): SessionState.CLOSED,
    (SessionState.CLOSING, SessionTrigger.DONE): SessionState.CLOSED,
    (SessionState.CLOSING, SessionTrigger.LOST): SessionState.CLOSED,
}

SEND: Final[Mapping[tuple[SendState, SendTrigger], SendState]] = {
    (SendState.OPEN, SendTrigger.FINISH): SendState.DATA_SENT,
    (SendState.OPEN, SendTrigger.RESET): SendState.RESET_SENT,
    (SendState.DATA_SENT, SendTrigger.ALL_ACKED): SendState.DATA_ACKED,
    (SendState.DATA_SENT, SendTrigger.RESET): SendState.RESET_SENT,
    (SendState.RESET_SENT, SendTrigger.RESET_ACKED): SendState.RESET_ACKED,
}

RECEIVE: Final[Mapping[tuple[ReceiveState, ReceiveTrigger], ReceiveState]] = {
    (ReceiveState.OPEN, ReceiveTrigger.FIN): ReceiveState.SIZE_KNOWN,
    (ReceiveState.OPEN, ReceiveTrigger.RESET): ReceiveState.RESET_RECEIVED,
    (ReceiveState.SIZE_KNOWN, ReceiveTrigger.COMPLETE): ReceiveState.DATA_RECEIVED,
    (ReceiveState.SIZE_KNOWN, ReceiveTrigger.RESET): ReceiveState.RESET_RECEIVED,
    (ReceiveState.DATA_RECEIVED, ReceiveTrigger.READ): ReceiveState.DATA_READ,
    (ReceiveState.RESET_RECEIVED, ReceiveTrigger.READ): ReceiveState.RESET_READ,
}


FALLBACK: Final[Mapping[tuple[FallbackState, FallbackTrigger], FallbackState]] = {
    (FallbackState.DIRECT, FallbackTrigger.SILENCE): FallbackState.SEEKING,
    (FallbackState.DIRECT, FallbackTrigger.DETOUR): FallbackState.DETOUR,
    (FallbackState.SEEKING, FallbackTrigger.ANSWER): FallbackState.DIRECT,
    (FallbackState.SEEKING, FallbackTrigger.DETOUR): FallbackState.DETOUR,
    (FallbackState.DETOUR, FallbackTrigger.ANSWER): FallbackState.DIRECT,
    (FallbackState.DETOUR, FallbackTrigger.SILENCE): FallbackState.SEEKING,
}


def advance(table: Mapping[tuple[S, T], S], state: S, trigger: T) -> S:
    """The state after ``trigger``.

    :raises LookupError: where the table has no such row; that is a bug in the caller, never the peer's doing.
    """
    try:
        return table[state, trigger]
    except KeyError:
        raise LookupError(f"no transition from {state} on {trigger}") from None
