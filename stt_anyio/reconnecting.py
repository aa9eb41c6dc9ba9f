"""Sessions with one peer, one after the other (chapter, "Reconnection Strategies")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from stt_anyio.session import STTSession
from stt_backends.adapter.reconnecting import BaseReconnecting
from stt_core.errors import STTError

if TYPE_CHECKING:
    from stt_anyio.node import STTNode


class Reconnecting(BaseReconnecting[STTSession]):
    """What :meth:`STTNode.reconnecting` gives."""

    _node: STTNode

    async def __anext__(self) -> STTSession:
        if self._session is not None:
            last, self._session = self._session, None
            await last.close()
        while True:
            await self._node.sleep_unless_stopped(self._delay(anyio.current_time()))
            try:
                session = await self._connect()
            except STTError as error:
                self._failed(error)
            else:
                return self._succeeded(session, anyio.current_time())
