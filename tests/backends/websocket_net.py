"""Hubs on loopback sockets under a clock of the test's own, over endpoints that write down what they are told."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from pathlib import Path as File
from typing import Any, cast

from benchmarks import certificates
from stt_backends.websocket.forwarded import TrustedProxies
from stt_backends.websocket.hub import Hub
from stt_backends.websocket.link import Link, Target
from stt_backends.websocket.listener import Listener
from stt_backends.websocket.url import parse_proxy, parse_url
from stt_core.endpoint import Endpoint
from stt_core.links import LinkState
from stt_core.types import Path, Transmit

PATIENCE = 10.0
"""Seconds for what must come; nothing waits for them to pass."""


class FakeEndpoint:
    """Knows of links what the test says."""

    def __init__(self) -> None:
        self.received: list[tuple[Path, bytes]] = []
        self.told: list[tuple[str, Path]] = []
        self.states: dict[Path, LinkState] = {}
        self.on_datagram = LinkState.TRUSTED
        """What a datagram makes of who sent it."""

    def receive_datagram(self, data: bytes | memoryview, path: Path, now: float) -> None:
        self.received.append((path, bytes(data)))
        self.states[path] = self.on_datagram

    def link_state(self, path: Path) -> LinkState:
        return self.states.get(path, LinkState.SILENT)

    def receive_path_blocked(self, path: Path) -> None:
        self.told.append(("blocked", path))

    def receive_path_writable(self, path: Path) -> None:
        self.told.append(("writable", path))

    def receive_path_closed(self, path: Path, now: float) -> None:
        self.told.append(("closed", path))


class Party:
    """A hub and its endpoint; several share a ``Room``."""

    def __init__(self, *, listen: bool = False, trusted: TrustedProxies | None = None, **settings: Any) -> None:
        self.core = FakeEndpoint()
        listener = Listener("127.0.0.1", trusted=trusted) if listen else None
        self.hub = Hub(cast(Endpoint, self.core), listener, **settings)
        self.settled: list[Link] = []

    @property
    def port(self) -> int:
        assert self.hub.listener is not None
        return self.hub.listener.address[1]

    @property
    def datagrams(self) -> list[bytes]:
        return [data for _, data in self.core.received]

    @property
    def closed(self) -> list[Path]:
        return [path for what, path in self.core.told if what == "closed"]

    def send(self, path: Path, *datagrams: bytes, now: float) -> None:
        for data in datagrams:
            self.hub.send(Transmit(data, path, len(data)))
        self.hub.flush(now)


class Room:
    """Turns for everybody, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.parties: list[Party] = []

    def party(self, **settings: Any) -> Party:
        party = Party(**settings)
        self.parties.append(party)
        return party

    def dial(self, client: Party, url: str, port: int | None = None, *, proxy: str | None = None, **more: Any) -> Link:
        parsed = parse_url(url)
        target = Target(
            parsed,
            socket.AF_INET,
            ("127.0.0.1", port or parsed.port),
            None if proxy is None else parse_proxy(proxy),
            **more,
        )
        return client.hub.connect(target, self.now + 10, client.settled.append)

    def join(self, client: Party, server: Party, path: str = "/") -> Link:
        """An open link between the two."""
        link = self.dial(client, f"ws://127.0.0.1:{server.port}{path}")
        self.until(lambda: bool(client.settled))
        assert link.failure is None
        return link

    def turn(self, wait: float = 0.0, also: list[socket.socket] | None = None) -> bool:
        """Whoever is ready has a turn; False if nobody was. Sockets of the test's are waited for, ``also``."""
        owners = {source: party for party in self.parties for source in party.hub.sources}
        readable: list[Any] = [source for source in owners if source.wants_read]
        writable = [source for source in owners if source.wants_write]
        ready, room, _ = select.select([*readable, *(also or [])], writable, [], wait)
        for source in [source for source in ready if source in owners]:
            owners[source].hub.turn(source, self.now)
        for source in room:
            if source.fileno() >= 0:
                owners[source].hub.turn(source, self.now, writable=True)
        return bool(ready or room)

    def until(self, done: Callable[[], bool]) -> None:
        """Turns until ``done()``; it must come without anybody's timer."""
        while not done():
            assert self.turn(PATIENCE), "nothing happens any more"

    def hear(self, sock: socket.socket, size: int = 4096) -> bytes:
        """What comes on a socket of the test's, which must; the others go on meanwhile."""
        while not select.select([sock], [], [], 0.0)[0]:
            assert self.turn(PATIENCE, [sock]), "nothing happens any more"
        return sock.recv(size)

    def settle(self) -> None:
        """Turns until nothing has come for a hundredth of a second; for what must come, see :meth:`until`."""
        while self.turn(0.01):
            continue

    def pass_time(self, seconds: float) -> None:
        """Let timers be due."""
        self.now += seconds
        for party in self.parties:
            party.hub.handle_timers(self.now)
        self.settle()

    def close(self) -> None:
        for party in self.parties:
            party.hub.close(self.now)
            assert party.hub.sources in ([], [party.hub.listener])


def contexts(folder: File) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's that trusts it, under the name of localhost and 127.0.0.1."""
    certificates.make(folder)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(folder / "authority.pem")
    return server, client
