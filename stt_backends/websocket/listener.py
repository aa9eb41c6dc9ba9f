"""Where WebSocket clients knock: a non-blocking listening socket, and the limits to those that never say anything.

Rule: a connection costs us memory and its maker nothing, so those whose maker has not shown that it holds the seed are
few, in all and from one address, and are given little time (docs/protocol.md, "Reliable paths").
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from stt_backends.udp_address import Address, canonical, resolve_numeric
from stt_backends.websocket.forwarded import TrustedProxies
from stt_core.errors import ConfigurationError

MAX_STRANGERS: Final = 64
"""Connections that serve no session yet. Above it the next ones wait in the system's queue."""
MAX_STRANGERS_PER_SOURCE: Final = 4
"""Likewise, from one IPv4 address or one /64 of IPv6; those above it are closed at once."""
FIRST_WORD: Final = 5.0
"""Seconds from the accept to a message that is a handshake's, TLS and upgrade included."""
INTRODUCTION: Final = 15.0
"""Seconds to a packet that opens: a handshake is pending 10 s at most."""
_BACKLOG: Final = 128
_ACCEPTS: Final = 16
"""Connections accepted in a turn."""
_GONE: Final = (errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH)
"""What accept(2) says of a connection that is over before it was accepted."""
_FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""What it says where this process, or the system, can have no more."""


class Listener:
    """A bound TCP socket. Raises as :class:`~stt_backends.udp.UdpSocket` does.

    :param port: 0 lets the system choose, see :attr:`address`.
    :param ration: False for no limit per source, as where all come by way of a reverse proxy. Loopback has none.
    :param trusted: reverse proxies, whose limit is that of whom they speak for: see :meth:`rename`.
    """

    __slots__ = ("_ration", "_socket", "_sources", "_trusted", "address", "refused", "starved")

    def __init__(
        self,
        bind_address: str = "0.0.0.0",
        port: int = 0,
        *,
        reuse_port: bool = False,
        dual_stack: bool = True,
        ration: bool = True,
        trusted: TrustedProxies | None = None,
    ) -> None:
        self._socket = _listening(bind_address, port, reuse_port=reuse_port, dual_stack=dual_stack)
        self._ration = ration
        self._trusted = trusted or TrustedProxies()
        self._sources: Counter[str] = Counter()
        self.address: Address = canonical(self._socket.getsockname())
        """Where it is bound, with the real port."""
        self.refused = 0
        """Connections closed at once because their source had enough of them already."""
        self.starved = False
        """Whether the system had no descriptor for the last connection: it waits until one of ours is closed."""

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._socket.fileno()

    @property
    def wants_read(self) -> bool:
        """Whether another connection is welcome."""
        return not self.starved and self._sources.total() < MAX_STRANGERS

    wants_write = False

    def accept(self) -> Iterator[tuple[socket.socket, Address]]:
        """The sockets of those that wait, a few in a turn; each counts as a stranger until :meth:`forget`.

        :raises OSError: only for what must be our own mistake.
        """
        for _ in range(_ACCEPTS):
            if not self.wants_read:
                return
            try:
                sock, raw = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    continue
                if error.errno not in _FULL:
                    raise
                self.starved = True
                return
            address = canonical(raw)
            source = _source(address[0])
            if address[0] not in self._trusted and self._has_enough(source):
                self.refused += 1
                sock.close()
                continue
            self._sources[source] += 1
            yield sock, address

    def _has_enough(self, source: str) -> bool:
        return self._ration and self._sources[source] >= MAX_STRANGERS_PER_SOURCE and not _is_loopback(source)

    def rename(self, host: str, values: list[bytes]) -> str | None:
        """Who a stranger from ``host`` is, by the X-Forwarded-For headers of its request; it counts as one from there.
        None where that source has enough of them already."""
        client = self._trusted.client_untrusted(host, values)
        if client != host:
            source = _source(client)
            if self._has_enough(source):
                self.refused += 1
                return None
            self.forget(host)
            self._sources[source] += 1
        return client

    def forget(self, host: Any) -> None:
        """A stranger from this host is known by now, or gone."""
        source = _source(host)
        self._sources[source] -= 1
        if self._sources[source] <= 0:
            del self._sources[source]

    def close(self) -> None:
        """Give the descriptor back. May be called again."""
        self._socket.close()


def _source(host: str) -> str:
    """What limits count by: an IPv4 address, or a /64."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 4 or address.is_loopback:
        return str(address)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def _is_loopback(source: str) -> bool:
    return source.startswith("127.") or source == "::1"


def _listening(host: str, port: int, *, reuse_port: bool, dual_stack: bool) -> socket.socket:
    family, address = resolve_numeric("bind_address", host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart would wait for old connections
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual_stack else 1)
        if reuse_port:
            if not hasattr(socket, "SO_REUSEPORT"):
                raise ConfigurationError("reuse_port is True, expected False: this system can't share a TCP port")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"can't listen on {host} TCP port {port}: {error.strerror}") from error
    except ConfigurationError:
        sock.close()
        raise
    return sock
