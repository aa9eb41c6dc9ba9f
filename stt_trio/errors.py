"""The library's errors as trio's users expect them: each is STT's own and trio's at once."""

from __future__ import annotations

from types import TracebackType
from typing import Final

import trio

from stt_backends.adapter.errors import ErrorFamily
from stt_core import errors as core


class SessionClosedError(core.SessionClosedError, trio.BrokenResourceError):
    """The session is closing or over; ``reason`` and ``code`` tell why."""


class StreamClosedError(core.StreamClosedError, trio.ClosedResourceError):
    """This side has closed the stream, or its sending half."""


class StreamResetError(core.StreamResetError, trio.BrokenResourceError):
    """The peer abandoned the stream; ``code`` is its own."""


ERRORS: Final = ErrorFamily(
    session_closed=SessionClosedError,
    stream_closed=StreamClosedError,
    stream_reset=StreamResetError,
    end=trio.EndOfChannel,
)


class Guard:
    """Lets one task in at a time; the next gets :exc:`trio.BusyResourceError`. What trio has for this isn't public."""

    __slots__ = ("_busy", "_doing")

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is {self._doing} already")
        self._busy = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._busy = False
