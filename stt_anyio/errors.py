"""The library's errors as anyio's users expect them: each is STT's own and anyio's at once."""

from __future__ import annotations

from typing import Final

import anyio

from stt_backends.adapter.errors import ErrorFamily
from stt_core import errors as core


class SessionClosedError(core.SessionClosedError, anyio.BrokenResourceError):
    """The session is closing or over; ``reason`` and ``code`` tell why."""


class StreamClosedError(core.StreamClosedError, anyio.ClosedResourceError):
    """This side has closed the stream, or its sending half."""


class StreamResetError(core.StreamResetError, anyio.BrokenResourceError):
    """The peer abandoned the stream; ``code`` is its own."""


ERRORS: Final = ErrorFamily(
    session_closed=SessionClosedError,
    stream_closed=StreamClosedError,
    stream_reset=StreamResetError,
    end=anyio.EndOfStream,
)
