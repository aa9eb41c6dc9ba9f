"""The order of a turn, on a real socket over an endpoint that writes down what is asked of it."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from itertools import count
from typing import Any, cast

import pytest

from stt_backends.driver import MOST_READS, READS_BEFORE_TIMERS, Driver
from stt_backends.udp import UdpSocket
from stt_core.endpoint import Endpoint


class FakeEndpoint:
    """Says nothing; its timer is due whenever ``due`` is."""

    wants_to_send = has_events = False

    def __init__(self) -> None:
        self.due: float | None = None
        self.happened: list[str] = []

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
