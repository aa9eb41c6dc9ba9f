"""Sessions with one peer, one after the other (chapter, "Reconnection Strategies")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from stt_backends.adapter.reconnecting import BaseReconnecting
from stt_core.errors import STTError
from stt_trio.session import STTSession

if TYPE_CHECKING:
    from stt_trio.node import STTNode


class Reconnecting(BaseReconnecting[STTSession]):
    """What :meth:`STTNode.reconnecting` gives."""

    _node: STTNode

    async def __anext__(self) -> STTSession:
        if self._session is not None:
            last, self._session = self._session, None
            await last.close()
        while True:
            await self._node.sleep_unless_stopped(self._delay(trio.current_time()))
            try:
                session = await self._connect()
            except STTError as error:
                self._failed(error)
            else:
                return self._succeeded(session, trio.current_time())
