"""Two endpoints and all that is under an adapter, over one WebSocket connection on loopback: for counting what a packet
costs there. In virtual time; only the system decides when a byte arrives, and that is waited for uncounted.
"""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from stt_backends.absent import AbsentSocket
from stt_backends.driver import Driver
from stt_backends.pyca import PycaCrypto
from stt_backends.websocket.hub import Hub
from stt_backends.websocket.link import Link, Target
from stt_backends.websocket.listener import Listener
from stt_backends.websocket.url import parse_url
from stt_core.config import EndpointConfig
from stt_core.endpoint import Endpoint
from stt_core.session import Session
from stt_core.types import Entropy

PATIENCE = 10.0
"""Seconds for what must arrive."""


def _finish(driver: Driver, held: bool) -> None:
    """Send what a turn held back for others to join: there are none here."""
    while held:
        held = driver.settle()


class WebSocketPair:
    """A client and a server with a session between them; close it, or use it as a context manager."""

    def __init__(self, *entropy: Entropy) -> None:
        self.now = 1.0
        self._over = ExitStack()
        listener = Listener("127.0.0.1")
        names = (b"one", b"two")
        self.drivers = [
            self._driver(name, source, server)
            for name, source, server in zip(names, entropy, (None, listener), strict=True)
        ]
        self._session = self._connect(listener.address[1])

    def _driver(self, name: bytes, entropy: Entropy, listener: Listener | None) -> Driver:
        config = EndpointConfig(shared_seed=b"seed of a benchmark", node_id=name)
        endpoint = Endpoint(config, crypto=PycaCrypto(), entropy=entropy)
        driver = Driver(
            endpoint, AbsentSocket(("127.0.0.1", 0)), lambda _: None, lambda: self.now, Hub(endpoint, listener)
        )
        self._over.callback(driver.close)
        return driver

    def _connect(self, port: int) -> Session:
        client, server = self.drivers
        open_links: list[Link] = []
        target = Target(parse_url(f"ws://127.0.0.1:{port}/"), socket.AF_INET, ("127.0.0.1", port))
        client.hub.connect(target, self.now + PATIENCE, open_links.append)
        while not open_links:
            self.turn()
        key = client.endpoint.connect(open_links[0].path.address, now=self.now, transport="websocket")
        client.flush()
        while not server.endpoint.sessions():
            self.turn()
        return client.endpoint.session(key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.close()

    def turn(self) -> None:
        """Wait until anything is ready on either side, then let it have its turn."""
        owners = {source: driver for driver in self.drivers for source in driver.hub.sources}
        reading: list[Any] = [source for source in owners if source.wants_read]
        writing = [source for source in owners if source.wants_write]
        ready, room, _ = select.select(reading, writing, [], PATIENCE)
        assert ready or room, "nothing happens any more"
        for source in ready:
            _finish(owners[source], owners[source].turn_of(source))
        for source in room:
            if source.fileno() >= 0:
                _finish(owners[source], owners[source].turn_of(source, writable=True))
        self.now += 0.001

    def arrived(self, side: int) -> Link:
        """The link of one side, once there is something to read on it."""
        (link,) = (source for source in self.drivers[side].hub.sources if isinstance(source, Link))
        ready, _, _ = select.select([link], [], [], PATIENCE)
        assert ready, "nothing has arrived"
        return link

    def sessions(self) -> tuple[Session, Session]:
        """Both ends of the session."""
        return self._session, self.drivers[1].endpoint.sessions()[0]
