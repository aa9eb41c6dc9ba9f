"""The library's errors as an event loop's users expect them: each is STT's own and the event loop's at once.

Rule: the core raises its own errors; every call from an adapter into the core goes through its family's
:attr:`ErrorFamily.translated` or :meth:`ErrorFamily.translate`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final

from stt_core.errors import SessionClosedError, StreamClosedError, StreamResetError, STTError


class ErrorFamily:
    """The errors of one adapter.

    :param session_closed: what a call raises on a session that is closing or over.
    :param stream_closed: what it raises on a stream, or a half of one, that this side has closed.
    :param stream_reset: what it raises on a stream that the peer abandoned.
    :param end: what a ``receive`` raises once the peer has ended the stream and everything was read.
    """

    __slots__ = ("_own", "end", "session_closed", "stream_closed", "stream_reset", "translated")

    def __init__(
        self,
        *,
        session_closed: type[SessionClosedError],
        stream_closed: type[StreamClosedError],
        stream_reset: type[StreamResetError],
        end: type[Exception],
    ) -> None:
        self.session_closed: Final = session_closed
        self.stream_closed: Final = stream_closed
        self.stream_reset: Final = stream_reset
        self.end: Final = end
        self.translated: Final = _Translated(self)
        """A context manager: inside, the errors of this family are raised in place of the core's."""
        self._own = (session_closed, stream_closed, stream_reset)

    def translate(self, error: STTError) -> STTError:
        """The same error, of this family where it has one."""
        if isinstance(error, self._own):
            return error
        if isinstance(error, SessionClosedError):
            return self.session_closed(str(error), reason=error.reason, code=error.code)
        if isinstance(error, StreamResetError):
            return self.stream_reset(str(error), code=error.code)
        if isinstance(error, StreamClosedError):
            return self.stream_closed(str(error))
        return error


class _Translated:
    """Holds no state of its own, so that one serves everybody; a generator would be made anew at each call."""

    __slots__ = ("_family",)

    def __init__(self, family: ErrorFamily) -> None:
        self._family = family

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, STTError):
            translated = self._family.translate(error)
            if translated is not error:
                raise translated from error.__cause__
