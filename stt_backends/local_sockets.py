"""UDP sockets of a node besides its first, for sessions whose own address is to be another one.

Rule: a path through such a socket is another path than one to the same peer through any other: its address bears the
socket's number as one more item, ``(host, port, number)``. The first socket's addresses bear none, and the first stays
open. What comes late at a socket that sessions have left is read until nobody used it for a while; then it is closed.
"""

from __future__ import annotations

from typing import Any, Final

from stt_backends.udp import UdpSocket
from stt_core.endpoint import Endpoint
from stt_core.types import Path

DRAIN: Final = 5.0
"""Seconds between two looks at who uses a socket: one that nobody used at two of them is closed."""
MAX_LOCALS: Final = 16
"""Such sockets of a node at once."""
MOST_READS: Final = 8
"""System calls that read before anything else gets a turn, as for the first socket."""


def through(address: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    """A canonical address, reached through the socket of that number; 0 is the first."""
    return (*address, number) if number else address


def number_of(address: tuple[Any, ...]) -> int:
    """Through which socket an address is reached."""
    # (host, port), or (host, port, 0, scope) of a link-local address; see stt_backends.udp_address.
    return int(address[-1]) if len(address) % 2 else 0


def plain(address: tuple[Any, ...]) -> tuple[Any, ...]:
    """The canonical address alone."""
    return address[:-1] if len(address) % 2 else address


class LocalSocket:
    """One of them: a source that a pump watches, see :class:`~stt_backends.websocket.hub.Source`."""

    __slots__ = ("_last_path", "asked", "number", "socket", "unused", "wants_write")

    wants_read = True

    def __init__(self, socket: UdpSocket, number: int, asked: tuple[str, int]) -> None:
        self.socket = socket
        self.number = number
        self.asked = asked
        """Where it was to be bound."""
        self.unused = False
        """Whether nobody used it at the last look."""
        self.wants_write = False
        """Whether it is full."""
        self._last_path = Path("udp", ("", 0))

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self.socket.fileno()

    def receive(self, endpoint: Endpoint, now: float) -> None:
        """Give the endpoint what there is, as far as its turn goes."""
        socket = self.socket
        left = MOST_READS
        while left > 0 or socket.holding:
            got = socket.receive(max(left, 1))
            if got is None:
                return
            left -= socket.reads
            data, segment_size, address, ecn = got
            path = self._last_path
            tagged = through(address, self.number)
            if tagged != path.address:
                path = self._last_path = Path("udp", tagged)
            endpoint.receive_datagrams(data, segment_size, path, now, ecn)

    def tell_too_big(self, endpoint: Endpoint, now: float) -> None:
        """Tell what the system refused to send."""
        refused, self.socket.too_big = self.socket.too_big, []
        for address, size in refused:
            endpoint.receive_too_big(Path("udp", through(address, self.number)), size, now)


class LocalSockets(dict[int, LocalSocket]):
    """A node's, by number; its own truth is whether there is any."""

    __slots__ = ("_last", "due")

    def __init__(self) -> None:
        super().__init__()
        self.due = 0.0
        """When to :meth:`sweep`, where there is any; monotonic seconds."""
        self._last = 0

    def add(self, socket: UdpSocket, asked: tuple[str, int], now: float) -> LocalSocket:
        """Take in a socket that was bound as ``asked``."""
        if not self:
            self.due = now + DRAIN
        self._last += 1
        local = self[self._last] = LocalSocket(socket, self._last, asked)
        return local

    def find(self, asked: tuple[str, int]) -> LocalSocket | None:
        """One that is bound so already."""
        return next((local for local in self.values() if local.asked == asked), None)

    def sweep(self, endpoint: Endpoint, now: float) -> list[LocalSocket]:
        """Take out those that nobody used at two looks, to be closed."""
        self.due = now + DRAIN
        used = {number_of(path.address) for path in endpoint.paths() if isinstance(path.address, tuple)}
        idle = [local for local in self.values() if local.unused and local.number not in used]
        for local in idle:
            del self[local.number]
        for local in self.values():
            local.unused = local.number not in used
        return idle
