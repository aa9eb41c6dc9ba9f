"""The library's errors as anyio's users expect them: each is STT's own and anyio's at once.

Rule: the core raises its own errors; every call from an adapter into the core goes through :func:`translated`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from stt_core import errors as core


class SessionClosedError(core.SessionClosedError, anyio.BrokenResourceError):
    """The session is closing or over; ``reason`` and ``code`` tell why."""


class StreamClosedError(core.StreamClosedError, anyio.ClosedResourceError):
    """This side has closed the stream, or its sending half."""


class StreamResetError(core.StreamResetError, anyio.BrokenResourceError):
    """The peer abandoned the stream; ``code`` is its own."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise the errors of this module in place of the core's."""
    try:
        yield
    except (SessionClosedError, StreamClosedError, StreamResetError):
        raise
    except core.STTError as error:
        raise translate(error) from error.__cause__


def translate(error: core.STTError) -> core.STTError:
    """The same error, in anyio's family too where it has one."""
    if isinstance(error, core.SessionClosedError):
        return SessionClosedError(str(error), reason=error.reason, code=error.code)
    if isinstance(error, core.StreamResetError):
        return StreamResetError(str(error), code=error.code)
    if isinstance(error, core.StreamClosedError):
        return StreamClosedError(str(error))
    return error
