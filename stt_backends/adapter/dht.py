"""A DHT node of its own: everything about it but the waits.

Rule: as for the node: what doesn't wait is here, and each adapter adds the waits.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from stt_backends.adapter.lodging import Lodging
from stt_backends.adapter.node import BaseNode
from stt_backends.adapter.parking import ParkingLot
from stt_backends.adapter.pump import Pump
from stt_backends.dht_driver import DhtDriver
from stt_backends.dht_table import load_table, save_table
from stt_backends.pyca import PycaCrypto
from stt_backends.udp import UdpSocket
from stt_core.config import check_bytes
from stt_core.dht import Dht, DHTConfig, DHTEvent, DHTNode
from stt_core.dht.events import ExternalAddressChanged
from stt_core.errors import ConfigurationError, StateError
from stt_core.keys import expand, extract

DEFAULT_PORT: Final = 9337
ANYWHERE: Final = "0.0.0.0"
PRIVATE_TIMEOUT: Final = 3.0
"""Seconds a query has in private mode: it may take a handshake first."""
EventT = TypeVar("EventT")


class Waiting:
    """A command whose event isn't there yet."""

    __slots__ = ("event", "news")

    def __init__(self, news: ParkingLot) -> None:
        self.news = news
        self.event: DHTEvent | None = None


class BaseKademliaDHT(ABC):
    """A DHT node, on a UDP socket of its own or on that of a ``node``.

    On a node it is in **private mode**, unless ``private`` is False: its messages travel in sessions, between nodes
    that hold the same seed, and nobody else gets to say or to hear a word. Sessions are made for them where there are
    none; the application doesn't see those. The node must be started, and when it stops, so does this. Its port is
    announced, as others see it from outside of a NAT, and its ``node_id``.

    ``node_id`` is what the provider records of this node say it is called, up to 64 bytes: the ``node_id`` of the
    :class:`STTNode` that serves the content. Where it is None, that is the DHT's own id of 32 bytes. ``bootstrap`` are
    addresses of nodes to begin with, ``(host, port)``. ``node_seed``, 16 bytes or more, makes the id the same each
    time; it is random otherwise, or the node's. ``saved_table`` is what :meth:`saved_table` gave before
    a restart; ``table_path`` names a file instead, which is read at the start and written at the stop. Other settings
    are those of :class:`~stt_core.dht.DHTConfig`, and in its units.

    Content is announced with the port of this node, so ``port`` should be what the :class:`STTNode` listens on, or
    ``announced_port`` say what that is.

    :raises ConfigurationError: naming the setting, on a setting that is wrong.
    """

    def __init__(
        self,
        node_id: bytes | None = None,
        port: int = DEFAULT_PORT,
        bootstrap: Sequence[tuple[str, int]] = (),
        *,
        node: BaseNode[Any] | None = None,
        private: bool | None = None,
        bind_address: str = ANYWHERE,
        node_seed: bytes | None = None,
        announced_port: int | None = None,
        saved_table: bytes | None = None,
        table_path: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        if node_id is not None:
            check_bytes("node_id", node_id, 1, 64)
        if node_seed is not None:
            check_bytes("node_seed", node_seed, 16, 1024, secret=True)
        if saved_table is not None and table_path is not None:
            raise ConfigurationError("saved_table and table_path are two ways to give the same: take one")
        if unknown := settings.keys() & {"carrier", "shares_socket", "name"}:
            raise TypeError(f"{unknown.pop()} is said by node=, private= and node_id=")
        if node is None and private:
            raise ConfigurationError("private mode needs node=, whose sessions the messages travel in")
        if node is not None and (port, bind_address) != (DEFAULT_PORT, ANYWHERE):
            raise ConfigurationError("port and bind_address are for a socket of the DHT's own, and node= has one")
        self._private = node is not None and private is not False
        if self._private:
            settings = {"rpc_timeout": PRIVATE_TIMEOUT, **settings, "carrier": "session"}
        self._node = node
        self._name = node_id
        self._port = port
        self._friends = list(bootstrap)
        self._bind_address = bind_address
        self._node_seed = node_seed
        self._announced_port = announced_port
        self._saved = saved_table
        self._table_path = None if table_path is None else Path(table_path)
        self._settings = settings
        DHTConfig(port=announced_port or port or 1, **settings)  # wrong settings are told of here, not at start()
        self._driver: DhtDriver | Lodging | None = None
        self._pump: Pump | Lodging | None = None
        self._waiting: dict[int, Waiting] = {}
        self._stopping = self._stopped = False
        self._crash: Exception | None = None
        self._over: ParkingLot | None = None

    # --- what the adapter supplies

    @abstractmethod
    def make_parking_lot(self) -> ParkingLot:
        """A new one."""

    @abstractmethod
    def _launch(self, driver: DhtDriver) -> Pump:
        """Make a pump for ``driver`` and run it in the background; its end is for :meth:`_end`."""

    # --- what it is

    @property
    def dht_id(self) -> bytes:
        """The id among the nodes of the DHT, 32 bytes: BLAKE2b-256 of the key that signs for this node."""
        return self.core.node_id

    @property
    def node_id(self) -> bytes:
        """What provider records say this node is called."""
        return self._name or self.dht_id

    @property
    def port(self) -> int:
        """The port it listens on, also where it was asked to choose one."""
        return int(self._started().address[1])

    @property
    def external_address(self) -> tuple[str, int] | None:
        """Where most of the nodes that answer see this one, if they agree."""
        return self.core.external_address

    @property
    def core(self) -> Dht:
        """The state machine.

        :raises StateError: before the node is started.
        """
        return self._started().dht

    def known_providers(self, content_hash: bytes) -> tuple[DHTNode, ...]:
        """Who is known already to provide this; asks nobody. What :class:`ContentAffinityPool` wants of a DHT."""
        return self.core.known_providers(content_hash)

    def saved_table(self) -> bytes:
        """All contacts, to be given to the next of this class after a restart."""
        return self.core.saved_table()

    def withdraw(self, content_id: bytes) -> None:
        """Announce it no more; what others keep of it lives out its day."""
        self.core.withdraw(content_id)

    def statistics(self) -> dict[str, int]:
        """Counters by name."""
        driver = self._started()
        return {**driver.dht.statistics(), **(driver.counters if isinstance(driver, Lodging) else {})}

    def __repr__(self) -> str:
        where = "not started"
        if self._driver is not None:
            where = f"{self._driver.address[0]}:{self._driver.address[1]}{', private' if self._private else ''}"
        return f"<{type(self).__name__} {where}>"

    # --- for the adapter

    def _start(self) -> None:
        if self._driver is not None:
            raise StateError("this node was started already; make a new one")
        self._over = self.make_parking_lot()
        if self._table_path is not None:
            self._saved = load_table(self._table_path)
        if self._node is not None:
            endpoint = self._node.endpoint
            self._name = self._name or endpoint.config.node_id
            dht = self._make_core(self._node.port, self._node_seed or endpoint.config.node_seed)
            self._driver = self._pump = Lodging(self._node, dht, self, self._on_event, lambda: self._end(None))
            return
        sock = UdpSocket(self._bind_address, self._port)
        try:
            driver = DhtDriver(self._make_core(int(sock.address[1]), self._node_seed), sock, self._on_event)
            self._pump = self._launch(driver)
        except BaseException:
            sock.close()
            raise
        self._driver = driver

    def _make_core(self, port: int, node_seed: bytes | None) -> Dht:
        shares = self._node is not None and self._announced_port is None
        return Dht(
            DHTConfig(
                port=self._announced_port or port, name=self._name or b"", shares_socket=shares, **self._settings
            ),
            crypto=PycaCrypto(),
            entropy=os.urandom,
            node_seed=_key_seed(os.urandom(32) if node_seed is None else node_seed),
            wall_offset=time.time() - time.monotonic(),
        )

    def _started(self) -> DhtDriver | Lodging:
        if self._driver is None:
            raise StateError("this node was not started: use it as `async with`, or call start()")
        return self._driver

    def _command(self) -> tuple[Dht, float]:
        """What to give a command to, and the time.

        :raises StateError: before the node is started, and once it stops.
        """
        driver = self._started()
        if self._stopping:
            raise StateError("this node was stopped")
        return driver.dht, driver.clock()

    def _wait_for(self, handle: int) -> Waiting:
        waiting = self._waiting[handle] = Waiting(self.make_parking_lot())
        if self._pump is not None:
            self._pump.submit()
        return waiting

    def _result(self, waiting: Waiting, kind: type[EventT]) -> EventT:
        """The event a command ended with.

        :raises StateError: where the node stopped first.
        """
        if not isinstance(waiting.event, kind):
            raise StateError("this node was stopped")
        return waiting.event

    def _on_event(self, event: DHTEvent) -> None:
        if isinstance(event, ExternalAddressChanged):
            return
        waiting = self._waiting.get(event.handle)
        if waiting is not None:
            waiting.event = event
            waiting.news.wake_all()

    def _begin_stop(self) -> bool:
        if self._driver is None:
            return False
        self._stopping = True
        if self._pump is not None and not self._stopped:
            self._pump.wake()
        for waiting in self._waiting.values():
            waiting.news.wake_all()
        return True

    def _is_finished(self) -> bool:
        return self._stopping

    def _end(self, crash: Exception | None) -> None:
        self._crash = crash
        self._stopping = self._stopped = True
        driver = self._started()
        if self._table_path is not None and len(driver.dht.table):
            save_table(self._table_path, driver.dht.saved_table())
        driver.close()
        for waiting in self._waiting.values():
            waiting.news.wake_all()
        if self._over is not None:
            self._over.wake_all()


def checked_friends(addresses: Iterable[Any]) -> list[tuple[str, int]]:
    """Addresses to bootstrap from, as they should be.

    :raises ConfigurationError: where one is no host and port.
    """
    found = []
    for address in addresses:
        if not isinstance(address, tuple | list) or len(address) < 2 or not isinstance(address[0], str):
            raise ConfigurationError(f"bootstrap holds {address!r}, expected (host, port)")
        if not isinstance(address[1], int) or not 1 <= address[1] <= 65_535:
            raise ConfigurationError(f"bootstrap holds {address!r}, expected a port from 1 to 65535")
        found.append((address[0], address[1]))
    return found


def _key_seed(node_seed: bytes) -> bytes:
    """The seed of the DHT's key: another than that of the node's identity, so that neither signs for the other."""
    return expand(extract(b"STT1 DHT seed", node_seed), "dht key")
