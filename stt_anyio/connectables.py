"""A session as something to connect to: each ``connect`` opens another stream of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.abc

from stt_anyio.streams import ByteStream, MessageStream

if TYPE_CHECKING:
    from stt_anyio.session import STTSession


class StreamConnectable(anyio.abc.ByteStreamConnectable):
    """Opens streams of bytes. See :meth:`STTSession.connectable`."""

    def __init__(self, session: STTSession, purpose: str, priority: int) -> None:
        self._session = session
        self._purpose = purpose
        self._priority = priority

    async def connect(self) -> ByteStream:
        """A new stream, as soon as the peer's limit allows one.

        :raises SessionClosedError: if the session ended.
        """
        stream = await self._session.open_stream_when_possible(
            purpose=self._purpose, priority=self._priority, mode="bytes"
        )
        assert isinstance(stream, ByteStream)
        return stream


class MessageConnectable(anyio.abc.ObjectStreamConnectable[bytes]):
    """Opens streams of messages. See :meth:`STTSession.message_connectable`."""

    def __init__(self, session: STTSession, purpose: str, priority: int) -> None:
        self._session = session
        self._purpose = purpose
        self._priority = priority

    async def connect(self) -> MessageStream:
        """A new stream, as soon as the peer's limit allows one.

        :raises SessionClosedError: if the session ended.
        """
        stream = await self._session.open_stream_when_possible(purpose=self._purpose, priority=self._priority)
        assert isinstance(stream, MessageStream)
        return stream
