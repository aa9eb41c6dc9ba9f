"""The order of a turn, on a real socket over an endpoint that writes down what is asked of it."""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import pytest

from stt_backends.absent import AbsentSocket
from stt_backends.driver import MOST_READS, READS_BEFORE_TIMERS, Driver
from stt_backends.udp import UdpSocket
from stt_backends.websocket.hub import Hub
from stt_core.endpoint import Endpoint
from stt_core.types import Path, Transmit


class FakeEndpoint:
    """Says what is in ``to_send``; its timer is due whenever ``due`` is."""

    has_events = False

    def __init__(self) -> None:
        self.due: float | None = None
        self.happened: list[str] = []
        self.to_send: deque[Transmit] = deque()

    @property
    def wants_to_send(self) -> bool:
        return bool(self.to_send)

    def poll_transmit(self, *_: Any) -> Transmit | None:
        return self.to_send.popleft() if self.to_send else None

    def receive_path_blocked(self, path: Path) -> None:
        self.happened.append(f"{path.transport} blocked")

    def receive_path_writable(self, path: Path) -> None:
        self.happened.append(f"{path.transport} writable")

    @property
    def quiet_until(self) -> float:
        return math.inf if self.due is None else self.due

    def next_timer(self) -> float | None:
        return self.due

    def handle_timer(self, now: float) -> None:
        self.happened.append("timer")

    def receive_datagrams(self, *_: Any) -> None:
        self.happened.append("datagram")

    def next_event(self) -> None:
        return None


@pytest.fixture
def rig() -> Iterator[tuple[Driver, FakeEndpoint]]:
    with UdpSocket("127.0.0.1", recv_buffer_size=4 << 20) as sock:
        endpoint = FakeEndpoint()
        ticks = count()
        yield Driver(cast(Endpoint, endpoint), sock, lambda _: None, clock=lambda: float(next(ticks))), endpoint


def send(driver: Driver, datagrams: int) -> None:
    """Put that many datagrams into the driver's socket, each from a socket of its own, so that none are read as one."""
    address = driver.socket.address
    for _ in range(datagrams):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"datagram", address)


def test_a_turn_reads_a_few_where_no_timer_is_due(rig: tuple[Driver, FakeEndpoint]) -> None:
    driver, endpoint = rig
    send(driver, 5 * MOST_READS)
    for _ in range(10):
        before = len(endpoint.happened)
        driver.turn()
        assert len(endpoint.happened) - before <= MOST_READS
    assert endpoint.happened == ["datagram"] * 5 * MOST_READS


def test_what_has_arrived_is_read_before_a_timer_is_acted_on(rig: tuple[Driver, FakeEndpoint]) -> None:
    driver, endpoint = rig
    send(driver, 5 * MOST_READS)
    endpoint.due = 0.0
    driver.turn()
    assert endpoint.happened == ["datagram"] * 5 * MOST_READS + ["timer"]


def test_datagrams_without_end_do_not_keep_timers_waiting(rig: tuple[Driver, FakeEndpoint]) -> None:
    driver, endpoint = rig
    send(driver, READS_BEFORE_TIMERS + 10)
    endpoint.due = 0.0
    driver.turn()
    assert endpoint.happened == ["datagram"] * READS_BEFORE_TIMERS + ["timer"]


class FullSocket(AbsentSocket):
    """A UDP socket that takes nothing until it has ``room``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0))
        self.room = False
        self.sent: list[bytes] = []

    def send(self, data: bytes, segment_size: int, address: Any, ecn: int = 0) -> bool:
        if self.room:
            self.sent.append(data)
        return self.room


class Connections:
    """A hub that takes whatever it is given."""

    due = None

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.dirty: list[bytes] = []

    def send(self, transmit: Transmit) -> None:
        self.dirty.append(transmit.data)

    def flush(self, now: float) -> None:
        self.sent += self.dirty
        self.dirty.clear()


def test_a_full_udp_socket_does_not_hold_up_what_leaves_by_connections() -> None:
    udp, websocket = Path("udp", ("192.0.2.1", 1)), Path("websocket", ("192.0.2.1", 2, 1))
    endpoint, sock, hub = FakeEndpoint(), FullSocket(), Connections()
    ticks = count(1)
    driver = Driver(cast(Endpoint, endpoint), sock, lambda _: None, lambda: float(next(ticks)), cast(Hub, hub))
    endpoint.to_send += [Transmit(b"waits", udp, 5), Transmit(b"one", websocket, 3)]
    driver.flush()
    assert (driver.blocked, endpoint.happened) == (True, ["udp blocked"])
    endpoint.to_send += [Transmit(b"a probe", udp, 7), Transmit(b"two", websocket, 3)]
    assert not driver.join(), "or what a command queued would wait for the socket"
    driver.submit()
    assert hub.sent == [b"one", b"two"]
    assert sock.sent == []
    sock.room = True
    driver.turn()
    assert sock.sent == [b"waits"]
    assert (driver.blocked, endpoint.happened) == (False, ["udp blocked", "udp writable"])
