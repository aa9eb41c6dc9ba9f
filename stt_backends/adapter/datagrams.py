"""A session's unreliable messages as an object of their own, but for the waits."""

from __future__ import annotations

from typing import Any, ClassVar

from stt_backends.adapter.errors import ErrorFamily
from stt_backends.adapter.parking import ParkingLot
from stt_backends.adapter.session import BaseSession
from stt_core.errors import CloseReason, SessionClosedError


class BaseDatagrams:
    """One user's hold on a session's datagrams (RFC 9221). Closing it leaves the session as it is."""

    errors: ClassVar[ErrorFamily]
    """The adapter's."""

    def __init__(self, session: BaseSession[Any, Any]) -> None:
        self.session = session
        self._closed = False
        self._news: ParkingLot = session.news

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.session!r}{', closed' if self._closed else ''}>"

    def _check_open(self) -> None:
        if self._closed:
            raise self.errors.stream_closed("these datagrams were closed on this side")

    def _send_now(self, data: bytes | bytearray | memoryview) -> None:
        self._check_open()
        self.session.send_datagram_now(data)

    def _next(self) -> bytes | None:
        """The next datagram, None where none waits; a session that was closed gracefully is an end, not a failure."""
        self._check_open()
        try:
            return self.session.next_datagram()
        except SessionClosedError as error:
            if error.reason is CloseReason.GRACEFUL:
                raise self.errors.end from error
            raise

    def _close(self) -> None:
        self._closed = True
        self._news.wake_all()
