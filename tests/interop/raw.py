"""An endpoint of the core whose datagrams somebody else's WebSocket carries."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stt_backends.pyca import PycaCrypto
from stt_core.config import EndpointConfig
from stt_core.endpoint import Endpoint
from stt_core.events import AnyEvent
from stt_core.types import Path

EventT = TypeVar("EventT", bound=AnyEvent)
SEED = b"the seed of the interoperation tests"
PATH = Path("websocket", ("192.0.2.1", 80, 1))
"""A name: nothing here looks at it but the core."""


class RawPeer:
    """``send`` puts one datagram into a binary message, ``receive`` waits for the next."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]], receive: Callable[[], Awaitable[bytes]]) -> None:
        self.endpoint = Endpoint(
            EndpointConfig(shared_seed=SEED, node_id=b"raw"), crypto=PycaCrypto(), entropy=os.urandom
        )
        self._send = send
        self._receive = receive

    async def flush(self) -> None:
        """Send what there is."""
        while (transmit := self.endpoint.poll_transmit(time.monotonic())) is not None:
            await self._send(transmit.data)

    async def until(self, kind: type[EventT]) -> EventT:
        """Exchange datagrams until there is an event of that kind."""
        while True:
            await self.flush()
            while (event := self.endpoint.next_event()) is not None:
                if isinstance(event, kind):
                    return event
            self.endpoint.receive_datagram(await self._receive(), PATH, time.monotonic())
