"""What can end a command, as one line and one exit code.

Rule: 0 done, 2 usage, 3 cannot reach, 4 authentication, 5 integrity or disk, 130 interrupted. A person sees one line
that says what was wrong and what to do; the trace is for ``--debug``.
"""

from __future__ import annotations

from enum import IntEnum

from stt_core.errors import AuthenticationError, ConfigurationError, SessionClosedError, StreamError, STTError


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    USAGE = 2
    UNREACHABLE = 3
    AUTHENTICATION = 4
    INTEGRITY = 5
    INTERRUPTED = 130


class Failure(Exception):  # noqa: N818 - an outcome more than an error
    """Ends the command with ``code`` and one line."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


def failure_of(error: BaseException) -> Failure | None:
    """The failure that an exception amounts to; None where it is a bug and deserves its trace."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return failure_of(error.exceptions[0])
    if isinstance(error, Failure):
        return error
    for kind, code, text in _KINDS:
        if isinstance(error, kind):
            return Failure(code, text.format(error))
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return Failure(Exit.INTEGRITY, f"{where}{error.strerror or error}")
    return None


_KINDS: tuple[tuple[type[Exception], Exit, str], ...] = (
    (AuthenticationError, Exit.AUTHENTICATION, "{}; check that both sides use the same seed"),
    (ConfigurationError, Exit.USAGE, "{}"),
    (SessionClosedError, Exit.UNREACHABLE, "the session ended: {}"),
    (StreamError, Exit.INTEGRITY, "the other side gave the transfer up: {}"),
    (STTError, Exit.UNREACHABLE, "{}"),
)
"""From the special to the general: the first that fits counts."""
