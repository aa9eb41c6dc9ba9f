"""From a node's settings to what it runs on: the one place where sockets, endpoint and driver are put together."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from stt_backends.driver import Driver
from stt_backends.pyca import PycaCrypto
from stt_backends.seed import load_shared_seed
from stt_backends.udp import UdpSocket
from stt_core.config import EndpointConfig, check_bytes
from stt_core.endpoint import Endpoint
from stt_core.errors import ConfigurationError
from stt_core.events import AnyEvent
from stt_core.handshake import Identity, node_id_of, weak_seed_reason

logger = logging.getLogger("stt.node")

_OF_ENDPOINT: Final = {field.name for field in fields(EndpointConfig)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What a node is made of.

    :param shared_seed: None looks for it in the environment, see :func:`~stt_backends.seed.load_shared_seed`.
    :param endpoint: settings of :class:`~stt_core.config.EndpointConfig` by name; its seed and buffer hint are added.

    :raises ConfigurationError: on a transport that isn't there; ``TypeError`` on a setting that isn't.
    """

    bind_address: str
    port: int
    transport: str
    reuse_port: bool
    recv_buffer_size: int | None
    send_buffer_size: int | None
    shared_seed: bytes | None = field(repr=False)
    endpoint: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        if self.transport != "udp":
            raise ConfigurationError(
                f"transport is {self.transport!r}, expected 'udp': this version speaks nothing else"
            )
        unknown = sorted(self.endpoint.keys() - _OF_ENDPOINT)
        if unknown:
            raise TypeError(f"unknown setting {unknown[0]!r}, expected one of {', '.join(sorted(_OF_ENDPOINT))}")


def build_driver(settings: NodeSettings, on_event: Callable[[AnyEvent], None]) -> Driver:
    """Bind the socket and make an endpoint on it; closing ``driver.socket`` is the caller's.

    :raises ConfigurationError: if a setting is wrong or there is no seed; ``OSError`` if the port is taken.
    """
    seed = settings.shared_seed if settings.shared_seed is not None else load_shared_seed(os.environ)
    check_bytes("shared_seed", seed, 1, 1024, secret=True)
    weak = weak_seed_reason(seed)
    if weak is not None:
        logger.warning("the shared seed is weak: %s", weak)
    crypto = PycaCrypto()
    details = dict(settings.endpoint)
    check_bytes("node_seed", details["node_seed"], 16, 1024, secret=True)
    if details["node_id"] is None:
        details["node_id"] = node_id_of(Identity(details["node_seed"], crypto, os.urandom).public)
    sock = UdpSocket(
        settings.bind_address,
        settings.port,
        reuse_port=settings.reuse_port,
        recv_buffer_size=settings.recv_buffer_size,
        send_buffer_size=settings.send_buffer_size,
    )
    try:
        details = {"mtu_search": sock.dont_fragment, **details}
        config = EndpointConfig(shared_seed=seed, receive_buffer_hint=sock.receive_buffer, **details)
        endpoint = Endpoint(config, crypto=crypto, entropy=os.urandom, wall_offset=time.time() - time.monotonic())
        return Driver(endpoint, sock, on_event)
    except BaseException:
        sock.close()
        raise
