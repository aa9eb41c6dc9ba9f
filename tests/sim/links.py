"""Reliable links: what a WebSocket connection between two hosts does to messages, and when it tells of it.

Rule: a message arrives whole, in order and once, or the connection is over. A writer holds so many bytes and says when
it has more; a connection that is closed delivers what was given to it before, one that is cut delivers nothing more.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from stt_core.endpoint import Endpoint
from stt_core.types import Path, SessionKey
from tests.sim.lab import Sent
from tests.sim.wire import Datagram

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.lab import Lab

WRITER = 256 * 1024
"""Bytes given to a connection and not yet sent above which its writer can take no more."""
_serials = count(1)


class LinkEnd:
    """One host's end of a connection, known to its endpoint as ``path``."""

    def __init__(self, lab: Lab, host: Host, peer: Host, serial: int, delay: float, rate: float | None) -> None:
        self.lab = lab
        self.host = host
        self.serial = serial
        self.path = Path("websocket", (*peer.address, serial))
        self.delay = delay
        self.rate = rate
        self.open = True
        self.frozen = False
        """While set nothing leaves, as on a network that is gone before TCP notices."""
        self.waiting = 0
        """Bytes that have not left yet."""
        self.longest = 0
        self.messages = 0
        self.other: LinkEnd
        self._queue: list[bytes] = []
        self._busy = False
        self._full = False

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint at this end."""
        endpoint = self.host.endpoint
        assert isinstance(endpoint, Endpoint)
        return endpoint

    def send(self, data: bytes) -> None:
        """Give a message to the connection."""
        if not self.open:
            return
        self.messages += 1
        record = Sent(self.lab.now, (self.host.name, self.serial), self.path.address, data)
        for observer in self.lab.observers:
            observer(record)
        self._queue.append(data)
        self.waiting += len(data)
        self.longest = max(self.longest, self.waiting)
        if self.waiting > WRITER and not self._full:
            self._full = True
            self.endpoint.receive_path_blocked(self.path)
        self._pump()

    def thaw(self) -> None:
        """The network is back, and TCP goes on where it was."""
        self.frozen = False
        self._pump()

    def _pump(self) -> None:
        if self._busy or self.frozen or not self._queue:
            return
        self._busy = True
        size = len(self._queue[0])
        self.lab.clock.after(size / self.rate if self.rate else 0.0, self._left)

    def _left(self) -> None:
        self._busy = False
        if not self._queue:
            return
        if not self.frozen:
            data = self._queue.pop(0)
            self.waiting -= len(data)
            self.lab.clock.after(self.delay, lambda: self.other.arrive(data))
        if self._full and self.waiting <= WRITER // 2 and self.open:
            self._full = False
            self.endpoint.receive_path_writable(self.path)
            self.host.wake()
        self._pump()

    def arrive(self, data: bytes) -> None:
        """A message has come to this end."""
        if self.open:
            self.host.deliver(Datagram(self.path, self.host.address, data))

    def close(self) -> None:
        """Send what waits, then close; the other end learns of it after that."""
        self._end()
        self.lab.clock.after(self.waiting / self.rate if self.rate else 0.0, self._goodbye)

    def _goodbye(self) -> None:
        self.lab.clock.after(self.delay, self.other.end)

    def end(self) -> None:
        """This end learns that the connection is over."""
        self._queue.clear()
        self.waiting = 0
        self._end()

    def _end(self) -> None:
        if self.open:
            self.open = False
            del self.host.links[self.path]
            if self.host.alive:
                self.endpoint.receive_path_closed(self.path, self.lab.now)
                self.host.wake()


class Link:
    """A connection that ``client`` opened to ``server``: both ends."""

    def __init__(self, lab: Lab, client: Host, server: Host, *, delay: float = 0.01, rate: float | None = None) -> None:
        serial = next(_serials)
        self.client = LinkEnd(lab, client, server, serial, delay, rate)
        self.server = LinkEnd(lab, server, client, serial, delay, rate)
        self.client.other, self.server.other = self.server, self.client
        client.links[self.client.path] = self.client
        server.links[self.server.path] = self.server

    def connect(self, **options: Any) -> SessionKey:
        """Begin a session over it; ``options`` as for ``Endpoint.connect``."""
        end = self.client
        key = end.endpoint.connect(end.path.address, now=end.lab.now, transport="websocket", **options)
        end.host.wake()
        return key

    def cut(self) -> None:
        """The connection breaks: nothing that is under way arrives, and both ends learn of it at once."""
        self.client.end()
        self.server.end()

    def freeze(self) -> None:
        """The network goes away, and nobody is told."""
        self.client.frozen = self.server.frozen = True

    def thaw(self) -> None:
        """The network is back."""
        self.client.thaw()
        self.server.thaw()
