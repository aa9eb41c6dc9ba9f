"""A session's unreliable messages as a channel."""

from __future__ import annotations

import trio

from stt_backends.adapter.datagrams import BaseDatagrams
from stt_trio.errors import ERRORS, Guard


class DatagramChannel(BaseDatagrams, trio.abc.Channel[bytes]):
    """Datagrams of one session: each arrives whole, once, late or not at all. Closing this leaves the session open."""

    errors = ERRORS

    def __init__(self, *details: object) -> None:
        super().__init__(*details)  # type: ignore[arg-type]
        self._receiving = Guard("receiving datagrams")

    async def send(self, value: bytes) -> None:
        """Send one; it is dropped where the queue is full, as the network would.

        :raises MessageTooLargeError: above the session's ``max_datagram_size``.
        :raises SessionClosedError: if the session ended; ``StreamClosedError`` after :meth:`aclose`.
        """
        await trio.lowlevel.checkpoint()
        self._send_now(value)

    async def receive(self) -> bytes:
        """The next one.

        :raises trio.EndOfChannel: when the session was closed gracefully, else ``SessionClosedError`` when it ended.
        :raises StreamClosedError: after :meth:`aclose`.
        """
        with self._receiving:
            await trio.lowlevel.checkpoint()
            while (data := self._next()) is None:
                await self._news.park()
            return data

    async def aclose(self) -> None:
        """Let go of the datagrams."""
        self._close()
        await trio.lowlevel.checkpoint()
