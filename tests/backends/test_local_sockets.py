"""Sockets besides the first: which path goes through which, what becomes of a full one, and of one nobody uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from stt_backends.driver import Driver
from stt_backends.local_sockets import DRAIN, MAX_LOCALS, LocalSocket, number_of, plain, through
from stt_backends.udp import UdpSocket
from stt_backends.udp_address import Address
from stt_core.endpoint import Endpoint
from stt_core.errors import ConfigurationError, ConnectError
from stt_core.types import Path, Transmit
from tests.backends.test_driver import FakeEndpoint

HOST = "127.0.0.1"


class Using(FakeEndpoint):
    """An endpoint whose sessions use ``used``; notes where datagrams came from and what was too big."""

    def __init__(self) -> None:
        super().__init__()
        self.used: set[Path] = set()
        self.came: list[tuple[bytes, Path]] = []
        self.too_big: list[tuple[Path, int]] = []

    def paths(self) -> set[Path]:
        return self.used

    def receive_datagrams(self, buffer: Any, segment_size: int, path: Path, *_: Any) -> None:
        self.came.append((bytes(buffer), path))

    def receive_too_big(self, path: Path, size: int, now: float) -> None:
        self.too_big.append((path, size))


class Watcher:
    """What is watched, as a pump would."""

    def __init__(self) -> None:
        self.watched: dict[Any, bool] = {}

    def watch(self, source: Any) -> None:
        self.watched[source] = source.wants_write

    def adjust(self, source: Any) -> None:
        if source in self.watched:
            self.watched[source] = source.wants_write

    def unwatch(self, source: Any) -> None:
        assert source.fileno() >= 0, "it is told before the descriptor is gone"
        del self.watched[source]


class Rig:
    """A driver with a first socket, a peer, and a clock."""

    def __init__(self, sock: UdpSocket, peer: UdpSocket) -> None:
        self.now = 100.0
        self.endpoint = Using()
        self.watcher = Watcher()
        self.peer = peer
        self.driver = Driver(cast(Endpoint, self.endpoint), sock, lambda _: None, clock=lambda: self.now)
        self.driver.hub.watcher = self.watcher

    def open(self, port: int = 0, host: str = "127.0.0.2") -> tuple[int, LocalSocket]:
        number = self.driver.open_local(host, port, lambda host, port: UdpSocket(host, port, send_buffer_size=4096))
        return number, self.driver._locals[number]

    def path(self, number: int) -> Path:
        return Path("udp", self.driver.reach(self.peer.address, number))

    def send(self, data: bytes, path: Path) -> None:
        self.endpoint.to_send.append(Transmit(data, path, len(data)))
        self.driver.flush()

    def read(self) -> tuple[bytes, Address] | None:
        got = self.peer.receive()
        return None if got is None else (bytes(got[0]), got[2])


@pytest.fixture
def rig() -> Iterator[Rig]:
    with UdpSocket(HOST) as sock, UdpSocket(HOST) as peer:
        made = Rig(sock, peer)
        yield made
        made.driver.close()


@pytest.mark.parametrize("address", [("192.0.2.1", 5), ("fe80::1", 5, 0, 3)])
def test_an_address_bears_the_number_of_its_socket_and_is_found_again(address: Address) -> None:
    assert through(address, 0) == address
    assert (number_of(address), plain(address)) == (0, address)
    tagged = through(address, 7)
    assert (number_of(tagged), plain(tagged)) == (7, address)


def test_what_goes_by_a_path_leaves_by_its_socket_and_what_comes_says_by_which(rig: Rig) -> None:
    number, local = rig.open()
    rig.send(b"first", rig.path(0))
    assert rig.read() == (b"first", rig.driver.socket.address)
    rig.send(b"second", rig.path(number))
    assert rig.read() == (b"second", local.socket.address)
    assert rig.peer.send(b"answer", 6, local.socket.address)
    rig.driver.turn_of(local)
    assert rig.endpoint.came == [(b"answer", rig.path(number))]


def test_one_address_has_one_socket_and_the_first_is_one_too(rig: Rig) -> None:
    number, _ = rig.open()
    assert rig.open()[0] == number
    assert rig.driver.open_local(*rig.driver.socket.address[:2], UdpSocket) == 0
    assert rig.driver.open_local(HOST, 0, UdpSocket) == 0


def test_one_that_nobody_uses_is_closed_after_a_while_and_another_stays(rig: Rig) -> None:
    (kept, local), (left, leaving) = rig.open(), rig.open(host="127.0.0.3")
    rig.endpoint.used = {rig.path(kept), rig.path(0)}
    assert rig.driver.next_timer() == rig.now + DRAIN
    for _ in range(2):
        assert leaving.fileno() >= 0, "what comes late is read"
        rig.now += DRAIN
        rig.driver.turn()
    assert leaving.fileno() < 0
    assert set(rig.watcher.watched) == {local}
    rig.send(b"too late", Path("udp", through(rig.peer.address, left)))
    assert rig.read() is None
    rig.endpoint.used = set()
    for _ in range(2):
        rig.now += DRAIN
        rig.driver.turn()
    assert not rig.watcher.watched
    assert rig.driver.next_timer() is None


def test_one_that_is_asked_for_between_two_looks_stays(rig: Rig) -> None:
    _, local = rig.open()
    rig.now += DRAIN
    rig.driver.turn()
    rig.open()
    rig.now += DRAIN
    rig.driver.turn()
    assert local.fileno() >= 0


def test_there_are_no_more_than_a_few(rig: Rig) -> None:
    for last in range(MAX_LOCALS):
        rig.open(host=f"127.0.1.{last + 1}")
    with pytest.raises(ConnectError, match="sockets are bound"):
        rig.open(host="127.0.2.1")
    rig.open(host="127.0.1.1")


def test_one_of_the_other_family_does_not_reach_the_peer(rig: Rig) -> None:
    number, _ = rig.open()
    with pytest.raises(ConfigurationError, match="IPv6"):
        rig.driver.reach(("::1", 5), number)


class Full:
    """Stands for a socket that takes nothing until ``room``."""

    def __init__(self, real: UdpSocket) -> None:
        self.real = real
        self.room = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def send(self, *arguments: Any) -> bool:
        return self.room and self.real.send(*arguments)


def test_a_full_one_is_waited_for_and_nothing_is_lost(rig: Rig) -> None:
    number, local = rig.open()
    full = Full(local.socket)
    local.socket = cast(UdpSocket, full)
    rig.send(b"waits", rig.path(number))
    assert rig.endpoint.happened == ["udp blocked"]
    assert rig.watcher.watched[local]
    assert not rig.driver.blocked, "it isn't the first socket that is full"
    full.room = True
    rig.driver.turn_of(local, writable=True)
    assert rig.read() == (b"waits", local.socket.address)
    assert rig.endpoint.happened[-1] == "udp writable"
    assert not rig.watcher.watched[local]


def test_what_is_too_big_is_told_of_its_path(rig: Rig) -> None:
    number, local = rig.open()
    local.socket.too_big.append((rig.peer.address, 9000))
    rig.driver.flush()
    assert rig.endpoint.too_big == [(rig.path(number), 9000)]


def test_closing_closes_them_all(rig: Rig) -> None:
    _, local = rig.open()
    rig.driver.close()
    assert local.fileno() < 0
    assert not rig.watcher.watched
