"""From a node's settings to what it runs on: the one place where sockets, endpoint and driver are put together."""

from __future__ import annotations

import errno
import logging
import os
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from stt_backends.absent import AbsentSocket
from stt_backends.driver import Driver
from stt_backends.pyca import PycaCrypto
from stt_backends.seed import load_shared_seed
from stt_backends.udp import UdpSocket
from stt_backends.websocket.forwarded import TrustedProxies
from stt_backends.websocket.hub import Hub
from stt_backends.websocket.listener import Listener
from stt_backends.websocket.url import check_target, parse_proxy
from stt_core.config import EndpointConfig, check_bytes
from stt_core.endpoint import Endpoint
from stt_core.errors import ConfigurationError
from stt_core.events import AnyEvent
from stt_core.handshake import Identity, node_id_of, weak_seed_reason
from stt_core.resumption import TicketStore

logger = logging.getLogger("stt.node")

TRANSPORTS: Final = ("udp", "websocket", "both")
BIND_TRIES: Final = 16
"""Ports tried, where any would do, for one that is free for UDP and TCP alike."""
_OF_ENDPOINT: Final = {field.name for field in fields(EndpointConfig)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What a node is made of.

    :param shared_seed: None looks for it in the environment, see :func:`~stt_backends.seed.load_shared_seed`.
    :param tickets: what several processes of one service share to resume each other's sessions; None for none.
    :param endpoint: settings of :class:`~stt_core.config.EndpointConfig` by name; its seed and buffer hint are added.

    :raises ConfigurationError: on a transport that isn't there; ``TypeError`` on a setting that isn't.
    """

    bind_address: str
    port: int
    transport: str
    reuse_port: bool
    recv_buffer_size: int | None
    send_buffer_size: int | None
    ssl_context: ssl.SSLContext | None
    websocket_path: str
    allowed_origins: Collection[str] | None
    proxy: str | None = field(repr=False)
    proxy_ssl_context: ssl.SSLContext | None
    trusted_proxies: Collection[str]
    shared_seed: bytes | None = field(repr=False)
    endpoint: Mapping[str, Any] = field(repr=False)
    tickets: TicketStore | None = None

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            raise ConfigurationError(
                f"transport is {self.transport!r}, expected one of {', '.join(map(repr, TRANSPORTS))}"
            )
        if self.ssl_context is not None and self.transport == "udp":
            raise ConfigurationError(
                "ssl_context is for a server of wss:// URLs, and this node listens by UDP alone (transport='udp')"
            )
        if isinstance(self.allowed_origins, str):
            raise ConfigurationError(f"allowed_origins is {self.allowed_origins!r}, expected a list of such")
        check_target("websocket_path", self.websocket_path)
        if self.proxy is not None:
            parse_proxy(self.proxy)
        TrustedProxies(self.trusted_proxies)
        unknown = sorted(self.endpoint.keys() - _OF_ENDPOINT)
        if unknown:
            raise TypeError(f"unknown setting {unknown[0]!r}, expected one of {', '.join(sorted(_OF_ENDPOINT))}")


def build_driver(settings: NodeSettings, on_event: Callable[[AnyEvent], None]) -> Driver:
    """Bind the sockets and make an endpoint on them; closing the driver is the caller's.

    :raises ConfigurationError: if a setting is wrong or there is no seed; ``OSError`` if the port is taken.
    """
    seed = settings.shared_seed if settings.shared_seed is not None else load_shared_seed(os.environ)
    check_bytes("shared_seed", seed, 1, 1024, secret=True)
    weak = weak_seed_reason(seed)
    if weak is not None:
        logger.warning("the shared seed is weak: %s", weak)
    crypto = PycaCrypto()
    details = dict(settings.endpoint)
    if details["node_seed"] is not None:
        check_bytes("node_seed", details["node_seed"], 16, 1024, secret=True)
    if details["node_id"] is None:
        details["node_id"] = node_id_of(Identity(details["node_seed"], crypto, os.urandom).public)
    sock, listener = _bind(settings)
    try:
        details = {"mtu_search": sock.dont_fragment, **details}
        config = EndpointConfig(shared_seed=seed, receive_buffer_hint=sock.receive_buffer, **details)
        wall_offset = time.time() - time.monotonic()
        endpoint = Endpoint(
            config, crypto=crypto, entropy=os.urandom, wall_offset=wall_offset, tickets=settings.tickets
        )
        hub = Hub(
            endpoint,
            listener,
            tls=settings.ssl_context,
            path=settings.websocket_path,
            allowed_origins=settings.allowed_origins,
        )
        return Driver(endpoint, sock, on_event, hub=hub)
    except BaseException:
        sock.close()
        if listener is not None:
            listener.close()
        raise


def _bind(settings: NodeSettings) -> tuple[UdpSocket | AbsentSocket, Listener | None]:
    """The sockets that ``settings.transport`` asks for; where it is both, at one port number."""
    if settings.transport == "udp":
        return _bind_udp(settings), None
    if settings.transport == "websocket":
        listener = _bind_tcp(settings, settings.port)
        return AbsentSocket(listener.address), listener
    for _ in range(BIND_TRIES):
        sock = _bind_udp(settings)
        try:
            return sock, _bind_tcp(settings, sock.address[1])
        except OSError as error:
            sock.close()
            # Where any port would do, the one that UDP got may be TCP's already: others won't be.
            if settings.port or error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"no port of {settings.bind_address} was free for both UDP and TCP")


def _bind_udp(settings: NodeSettings) -> UdpSocket:
    return UdpSocket(
        settings.bind_address,
        settings.port,
        reuse_port=settings.reuse_port,
        recv_buffer_size=settings.recv_buffer_size,
        send_buffer_size=settings.send_buffer_size,
    )


def _bind_tcp(settings: NodeSettings, port: int) -> Listener:
    rationed = settings.endpoint.get("rate_limits") is not None
    trusted = TrustedProxies(settings.trusted_proxies)
    return Listener(settings.bind_address, port, reuse_port=settings.reuse_port, ration=rationed, trusted=trusted)
