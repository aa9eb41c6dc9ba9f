"""Sessions with one peer, one after the other (chapter, "Reconnection Strategies")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Self

import trio

from stt_backends.adapter.reconnecting import BaseReconnecting
from stt_core.errors import STTError

if TYPE_CHECKING:
    from stt_trio.node import STTNode
    from stt_trio.session import STTSession


class Reconnecting(BaseReconnecting):
    """What :meth:`STTNode.reconnecting` gives."""

    def __init__(
        self,
        node: STTNode,
        connect: Callable[[], Awaitable[STTSession]],
        address: object,
        first_delay: float,
        max_delay: float,
    ) -> None:
        super().__init__(first_delay, max_delay)
        self._node = node
        self._connect = connect
        self._address = address
        self._session: STTSession | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> STTSession:
        if self._session is not None:
            last, self._session = self._session, None
            await last.close()
        while True:
            await self._node.sleep_unless_stopped(self._delay(trio.current_time()))
            try:
                session = self._session = await self._connect()
            except STTError as error:
                if self._node.stopping:
                    raise StopAsyncIteration from None
                self._failed(error, self._address)
            else:
                self._succeeded(trio.current_time())
                return session
