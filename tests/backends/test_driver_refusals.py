"""The driver between a real endpoint and a real socket, on loopback, with no event loop but these lines."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator

import pytest

from stt_backends.driver import Driver
from stt_backends.pyca import PycaCrypto
from stt_backends.udp import UdpSocket
from stt_backends.udp_address import Address
from stt_core.config import EndpointConfig
from stt_core.endpoint import Endpoint
from stt_core.events import AnyEvent, SessionEstablished
from stt_core.session import Session
from stt_core.types import StreamMode

WAIT = 10.0
SEED = b"the seed of the driver's tests"


class NarrowSocket(UdpSocket):
    """Its interface's MTU can change; it notes the sizes of what leaves."""

    __slots__ = ("largest", "sizes")

    def __init__(self) -> None:
        super().__init__("127.0.0.1")
        self.largest = 65_507
        self.sizes: list[int] = []

    def send(self, data: bytes, segment_size: int, address: Address, ecn: int = 0) -> bool:
        size = min(segment_size, len(data))
        if size > self.largest:
            self.too_big.append((address, size))
            return True
        self.sizes.append(size)
        return super().send(data, segment_size, address, ecn)


class Side:
    """One endpoint with its socket."""

    def __init__(self, node_id: bytes) -> None:
        self.socket = NarrowSocket()
        # No keep-alive comes to the rescue of who forgot to send.
        config = EndpointConfig(
            shared_seed=SEED,
            node_id=node_id,
            receive_buffer_hint=self.socket.receive_buffer,
            keep_alive_interval=1000.0,
            keep_alive_timeout=2000.0,
        )
        self.events: list[AnyEvent] = []
        endpoint = Endpoint(config, crypto=PycaCrypto(), entropy=os.urandom)
        self.driver = Driver(endpoint, self.socket, self.events.append)

    @property
    def session(self) -> Session:
        (established,) = [event for event in self.events if isinstance(event, SessionEstablished)]
        return self.driver.endpoint.session(established.session_key)


@pytest.fixture
def sides() -> Iterator[tuple[Side, Side]]:
    """Two that hold a session with each other, and have found that their path takes large datagrams."""
    one, other = Side(b"one"), Side(b"other")
    try:
        one.driver.endpoint.connect(other.socket.address, now=time.monotonic())
        one.driver.flush()
        run_until(lambda: established(one) and established(other), one, other)
        stream = one.session.open_stream(mode=StreamMode.BYTES)
        run_until(lambda: fill(one.session, stream) > 8900, one, other)
        run_until(lambda: one.session.statistics().bytes_in_flight == 0, one, other)
        yield one, other
    finally:
        one.socket.close()
        other.socket.close()


def established(side: Side) -> bool:
    return any(isinstance(event, SessionEstablished) for event in side.events)


def fill(session: Session, stream: int) -> int:
    """Keep a stream's buffer full; the size of the session's datagrams."""
    session.write(stream, bytes(16_384))
    return session.statistics().datagram_size


def run_until(done: Callable[[], bool], *sides: Side) -> None:
    """Take turns as an adapter would."""
    end = time.monotonic() + WAIT
    while not done():
        now = time.monotonic()
        assert now < end
        timers = [at for side in sides if (at := side.driver.next_timer()) is not None]
        select.select([side.socket for side in sides], [], [], max(0.0, min([end, *timers]) - now))
        for side in sides:
            held = side.driver.turn()
            while held:
                held = side.driver.settle()


def test_what_was_too_big_leaves_again_in_the_same_flush(sides: tuple[Side, Side]) -> None:
    one, _ = sides
    before = one.session.statistics()
    one.socket.largest = 1472
    one.socket.sizes.clear()
    stream = one.session.open_stream()
    one.session.send_message(stream, bytes(100_000))
    one.driver.flush()
    after = one.session.statistics()
    assert one.socket.too_big == []
    assert sum(one.socket.sizes) > 0
    assert max(one.socket.sizes) == after.datagram_size == 1200
    assert after.cwnd == pytest.approx(before.cwnd, rel=0.01), "a refusal is no congestion"


def test_a_message_arrives_though_the_interface_shrank(sides: tuple[Side, Side]) -> None:
    one, other = sides
    one.socket.largest = 1472
    stream = one.session.open_stream(stream_id=1)
    one.session.send_message(stream, bytes(100_000))
    one.driver.flush()
    run_until(lambda: stream in streams_of(other) and other.session.is_readable(stream), one, other)
    assert other.session.read_message(stream) == bytes(100_000)


def streams_of(side: Side) -> set[int]:
    return {stream for event in side.events if (stream := getattr(event, "stream_id", None)) is not None}
