"""What can end a command, as one line and one exit code.

Rule: a person sees one line that says what was wrong and what to do; the trace is for ``--debug``.
"""

from __future__ import annotations

from enum import IntEnum

from stt_core.errors import (
    AuthenticationError,
    ConfigurationError,
    ErrorCode,
    PeerKeyError,
    SessionClosedError,
    StoreError,
    StreamError,
    STTError,
)


class Exit(IntEnum):
    """Exit codes. Those of signals are 128 and the signal's number, as shells have it."""

    DONE = 0
    BUG = 1
    USAGE = 2
    UNREACHABLE = 3
    AUTHENTICATION = 4
    INTEGRITY = 5
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class Failure(Exception):  # noqa: N818 - an outcome more than an error
    """Ends the command, or the transfer of one file, with ``code`` and one line."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception amounts to, with the exception as its cause; ``BUG`` where nobody foresaw it."""
    if isinstance(error, BaseExceptionGroup):
        return min(map(failure_of, error.exceptions), key=lambda failure: failure.code == Exit.BUG)
    if isinstance(error, Failure):
        return error
    failure = _translated(error)
    failure.__cause__ = error
    return failure


def _translated(error: BaseException) -> Failure:
    if isinstance(error, SessionClosedError) and error.code in _ENDS:
        return Failure(Exit.UNREACHABLE, _ENDS[error.code])
    for kind, code, text in _KINDS:
        if isinstance(error, kind):
            return Failure(code, text.format(error))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Failure(Exit.INTEGRITY, f"{where}{error.strerror or error}")
    return Failure(Exit.BUG, f"this is a bug, --debug shows where: {type(error).__name__}: {error}")


_ENDS: dict[int, str] = {
    ErrorCode.CANCELLED: "the other side was interrupted",
    ErrorCode.APPLICATION: "the other side failed",
    ErrorCode.SHUTTING_DOWN: "the other side has stopped",
}
"""What the peer's SESSION_CLOSE says to people."""

_KINDS: tuple[tuple[type[Exception], Exit, str], ...] = (
    (PeerKeyError, Exit.AUTHENTICATION, "{}"),
    (AuthenticationError, Exit.AUTHENTICATION, "{}; check that both sides use the same seed"),
    (ConfigurationError, Exit.USAGE, "{}"),
    (SessionClosedError, Exit.UNREACHABLE, "the session ended: {}"),
    (StreamError, Exit.INTEGRITY, "the other side gave the transfer up: {}"),
    (StoreError, Exit.INTEGRITY, "{}"),
    (STTError, Exit.UNREACHABLE, "{}"),
)
"""From the special to the general: the first that fits counts."""
