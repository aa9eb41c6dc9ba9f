"""A session's unreliable messages as a stream of objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel

from stt_anyio.errors import ERRORS
from stt_backends.adapter.datagrams import BaseDatagrams

if TYPE_CHECKING:
    from stt_anyio.session import STTSession


class DatagramStream(BaseDatagrams, anyio.abc.UnreliableObjectStream[bytes]):
    """Datagrams of one session: each arrives whole, once, late or not at all. Closing this leaves the session open.

    anyio's ``ObjectStream`` promises that what was sent arrives, in order; its ``UnreliableObjectStream`` doesn't.
    """

    errors = ERRORS
    session: STTSession

    def __init__(self, session: STTSession) -> None:
        super().__init__(session)
        self._receiving = anyio.ResourceGuard("receiving datagrams from")

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the session."""
        return self.session.extra_attributes

    async def send(self, item: bytes) -> None:
        """Send one; it is dropped where the queue is full, as the network would.

        :raises MessageTooLargeError: above the session's ``max_datagram_size``.
        :raises SessionClosedError: if the session ended; ``StreamClosedError`` after :meth:`aclose`.
        """
        await anyio.lowlevel.checkpoint()
        self._send_now(item)

    async def receive(self) -> bytes:
        """The next one.

        :raises anyio.EndOfStream: when the session was closed gracefully, else ``SessionClosedError`` when it ended.
        :raises StreamClosedError: after :meth:`aclose`.
        """
        with self._receiving:
            await anyio.lowlevel.checkpoint()
            while (data := self._next()) is None:
                await self._news.park()
            return data

    async def aclose(self) -> None:
        """Let go of the datagrams."""
        self._close()
        await anyio.lowlevel.checkpoint()
