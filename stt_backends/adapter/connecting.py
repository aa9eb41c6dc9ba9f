"""A ``connect`` under way: where it goes, and what has become of it. For a URL there is a connection to open first.

Rule: whoever connects waits for one thing, :attr:`Connecting.news`, and for as long as ``timeout`` says, whatever lies
between: other addresses of the same name, a proxy, TLS, the upgrade, the handshake.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from stt_backends.adapter.opening import Opening
from stt_backends.adapter.parking import ParkingLot
from stt_backends.adapter.racing import Found, interleaved
from stt_backends.driver import Driver
from stt_backends.udp_address import resolve_numeric
from stt_backends.websocket.hub import Alarm
from stt_backends.websocket.link import Target
from stt_backends.websocket.tls import default_context
from stt_backends.websocket.url import ProxyUrl, WebSocketUrl, bracketed, is_url, parse_proxy, parse_url
from stt_core.errors import ConfigurationError, ConnectError, STTError
from stt_core.types import SessionKey

SessionT = TypeVar("SessionT")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a ``connect`` goes: ``host`` may be a name. ``numeric`` is what is found of it where it isn't.

    ``url`` is None for UDP. ``tls`` is the context for ``wss``, ``proxy_tls`` that for an ``https`` proxy.
    """

    host: str
    port: int
    numeric: Found | None
    url: WebSocketUrl | None = None
    proxy: ProxyUrl | None = None
    tls: ssl.SSLContext | None = None
    proxy_tls: ssl.SSLContext | None = None

    @property
    def kind(self) -> int:
        """The socket type to ask ``getaddrinfo`` for."""
        return socket.SOCK_DGRAM if self.url is None else socket.SOCK_STREAM

    def targets(self, found: Found) -> list[Target]:
        """What to try, in this order, to open a WebSocket."""
        assert self.url is not None
        return [
            Target(self.url, family, address, self.proxy, self.tls, self.proxy_tls)
            for family, address in interleaved(found)
        ]


def destination_of(
    address: object,
    ssl_context: ssl.SSLContext | None,
    proxy: str | None,
    proxy_ssl_context: ssl.SSLContext | None = None,
) -> Destination:
    """What ``address`` means: ``(host, port)`` or ``"host:port"`` for UDP, or a WebSocket's URL.

    :param ssl_context: for ``wss``; None is the system's authorities.
    :param proxy: the URL of an HTTP proxy, for either kind of URL.
    :param proxy_ssl_context: for one whose URL is ``https``; None is the system's authorities.
    :raises ConfigurationError: if it means nothing.
    """
    if not is_url(address):
        host, port, *_ = whole = split_address(address) if isinstance(address, str) else checked_address(address)
        if ssl_context is not None:
            raise ConfigurationError(f"ssl_context is for wss:// URLs, and the address is {address!r}")
        return Destination(host, port, [(0, 0, 0, "", whole)] if is_numeric(host) else None)
    url = parse_url(address)
    if ssl_context is not None and not url.secure:
        raise ConfigurationError(f"ssl_context is for wss:// URLs, and the address is {address!r}")
    through = None if proxy is None else parse_proxy(proxy)
    host, port = (url.host, url.port) if through is None else (through.host, through.port)
    tls = (default_context() if ssl_context is None else ssl_context) if url.secure else None
    numeric: Found | None = None
    if is_numeric(host):
        family, raw = resolve_numeric("the address", host, port)
        numeric = [(family, 0, 0, "", raw)]
    proxy_tls = (proxy_ssl_context or default_context()) if through is not None and through.secure else None
    return Destination(host, port, numeric, url, through, tls, proxy_tls)


def address_for(address: tuple[Any, ...] | str, transport: str) -> tuple[Any, ...] | str:
    """``address`` for use by ``transport``: ``(host, port)`` stands for a URL where that is WebSocket.

    :raises ConfigurationError: if the two don't go together.
    """
    if transport not in ("udp", "websocket"):
        raise ConfigurationError(f"transport is {transport!r}, expected 'udp' or 'websocket'")
    if transport == "udp" or isinstance(address, str):
        return address
    host, port, *_ = checked_address(address)
    return f"ws://{bracketed(host)}:{port}/"


class Connecting(Generic[SessionT]):
    """One of ``session`` and ``failure`` is there once ``done``.

    ``keys`` name sessions in the core whose handshake is under way, and the address each tries; ``key`` is the one
    that was made. Before there are any, ``opening`` may be a connection. What is done with all of it is in
    :mod:`~stt_backends.adapter.dialing`.
    """

    __slots__ = (
        "addresses", "alarm", "begin", "deadline", "driver", "failure", "key", "keys", "news", "opening", "session",
        "targets",
    )  # fmt: skip

    def __init__(
        self,
        news: ParkingLot,
        driver: Driver,
        begin: Callable[..., SessionKey],
        deadline: float,
        addresses: Sequence[tuple[Any, ...]],
    ) -> None:
        self.news = news
        self.driver = driver
        self.begin = begin
        """What begins the handshake, once it is known on which path: the endpoint's ``connect`` or ``resume``."""
        self.deadline = deadline
        """When it is given up, monotonic seconds."""
        self.addresses = deque(addresses)
        """Those not tried yet."""
        self.alarm: Alarm | None = None
        """For the next of them."""
        self.keys: dict[SessionKey, tuple[Any, ...]] = {}
        self.targets: list[Target] = []
        """Where the peer takes WebSocket connections, as far as is known."""
        self.key: SessionKey | None = None
        self.opening: Opening | None = None
        self.session: SessionT | None = None
        self.failure: STTError | None = None

    @property
    def done(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.session is not None or self.failure is not None

    def call_off(self) -> None:
        """No further address is to be tried for now."""
        if self.alarm is not None:
            self.driver.hub.call_off(self.alarm)
            self.alarm = None

    def succeed(self, session: SessionT, key: SessionKey) -> None:
        """The session was made, by the handshake of that key."""
        if not self.done:
            self.session = session
            self.key = key
            self.news.wake_all()

    def fail(self, error: STTError) -> None:
        """It wasn't and won't be."""
        if not self.done:
            self.failure = error
            self.news.wake_all()


def checked_address(address: object) -> tuple[Any, ...]:
    """``address``, if it looks like one.

    :raises ConfigurationError: if it doesn't.
    """
    if isinstance(address, tuple | list) and len(address) in (2, 4):
        host, port, *_ = address
        if isinstance(host, str) and isinstance(port, int):
            return tuple(address)
    raise ConfigurationError(f"peer_address is {address!r}, expected (host, port): a string and a number")


def split_address(text: str) -> tuple[str, int]:
    """``host:port`` or ``[ipv6]:port`` taken apart.

    :raises ConfigurationError: if it is neither.
    """
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    brackets = len(host) - len(bare) == 2
    number = int(port) if re.fullmatch("[0-9]{1,5}", port) else 0
    if not bare or brackets != (":" in bare) or not 0 < number < 65536:
        raise ConfigurationError(f"the address is {text!r}, expected HOST:PORT or [IPV6]:PORT, with a port 1 to 65535")
    return bare, number


def is_numeric(host: str) -> bool:
    """Whether ``host`` is an address already, and no name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def pick(host: str, found: Found, bind_address: str) -> tuple[Any, ...]:
    """Of what a host's name resolved to, the address that a socket bound to ``bind_address`` reaches best.

    :raises ConnectError: if there is none.
    """
    prefer = socket.AF_INET6 if ":" in bind_address else socket.AF_INET
    addresses = [(family, tuple(address)) for family, _, _, _, address in found]
    if not addresses:
        raise ConnectError(f"can't resolve {host!r}: there is no address")
    return next((address for family, address in addresses if family == prefer), addresses[0][1])


def unresolved(host: str, error: OSError) -> ConnectError:
    """What ``connect`` raises where ``host`` is a name that nobody knows."""
    return ConnectError(f"can't resolve {host!r}: {error.strerror or error}")
