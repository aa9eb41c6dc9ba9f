"""Idle sockets: WebSockets that never speak are closed, and honest ones are served meanwhile."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from stt_backends.websocket.link import Link
from stt_backends.websocket.listener import (
    FIRST_WORD,
    INTRODUCTION,
    MAX_STRANGERS,
    MAX_STRANGERS_PER_SOURCE,
    Listener,
)
from stt_core.links import LinkState
from tests.backends.websocket_bytes import BINARY, PING, frame, request
from tests.backends.websocket_net import PATIENCE, Party, Room


@pytest.fixture
def room() -> Iterator[Room]:
    found = Room()
    yield found
    found.close()


def connect(server: Party) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def is_open(sock: socket.socket) -> bool:
    """Whether there is no sign of an end yet."""
    sock.setblocking(False)
    try:
        while sock.recv(4096):
            continue
    except BlockingIOError:
        sock.settimeout(PATIENCE)
        return True
    except ConnectionResetError:
        return False
    return False


def expect_end(sock: socket.socket) -> None:
    """The server has ended it, whatever it said before."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(4096):
            continue


@pytest.mark.parametrize(
    "said",
    [b"", request()[:50], request(), request() + frame(PING, b"?"), request() + frame(BINARY, b"y" * 999)[:-1]],
    ids=["nothing", "half a request", "only the upgrade", "only pings", "half a frame"],
)
def test_who_never_says_anything_that_counts_is_closed_after_five_seconds(room: Room, said: bytes) -> None:
    server = room.party(listen=True)
    head, _, rest = said.partition(b"\r\n\r\n")
    with connect(server) as idle:
        room.settle()
        idle.sendall(head + b"\r\n\r\n" if rest or said == request() else said)
        room.settle()
        idle.sendall(rest)
        room.settle()
        room.pass_time(FIRST_WORD - 0.1)
        assert is_open(idle)
        room.pass_time(0.2)
        expect_end(idle)
    room.until(lambda: len(server.hub.sources) == 1)


def test_a_request_by_drops_is_cut_off_all_the_same(room: Room) -> None:
    server = room.party(listen=True)
    with connect(server) as slow:
        room.settle()
        for byte in request()[:20]:
            slow.sendall(bytes((byte,)))
            room.settle()
            room.pass_time(FIRST_WORD / 20)
        expect_end(slow)


def test_who_begins_a_handshake_and_never_ends_it_is_closed_too(room: Room) -> None:
    server = room.party(listen=True)
    server.core.on_datagram = LinkState.SPEAKING
    with connect(server) as sock:
        sock.sendall(request())
        room.settle()
        sock.sendall(frame(BINARY, b"hello"))
        room.until(lambda: bool(server.datagrams))
        room.pass_time(FIRST_WORD + 0.1)
        assert is_open(sock)
        room.pass_time(INTRODUCTION - FIRST_WORD)
        expect_end(sock)


def test_who_opens_a_session_stays(room: Room) -> None:
    server, client = room.party(listen=True), room.party()
    link = room.join(client, server)
    client.send(link.path, b"a packet that opens", now=room.now)
    room.until(lambda: bool(server.datagrams))
    room.pass_time(1000 * INTRODUCTION)
    assert not server.closed
    assert not link.over


def test_silent_ones_fill_no_more_than_their_places_and_an_honest_one_is_served_when_they_are_closed(
    room: Room,
) -> None:
    server, client = room.party(listen=True), room.party()
    idle = [connect(server) for _ in range(MAX_STRANGERS + 6)]
    try:
        room.until(lambda: len(server.hub.sources) == 1 + MAX_STRANGERS)
        room.settle()
        assert len(server.hub.sources) == 1 + MAX_STRANGERS
        link = room.dial(client, f"ws://127.0.0.1:{server.port}/")
        room.settle()
        assert not client.settled
        room.pass_time(FIRST_WORD + 0.1)
        room.until(lambda: bool(client.settled))
        assert link.failure is None
        for sock in idle[:MAX_STRANGERS]:
            expect_end(sock)
        assert all(map(is_open, idle[MAX_STRANGERS:]))
    finally:
        for sock in idle:
            sock.close()


def test_sessions_take_no_strangers_places(room: Room) -> None:
    server = room.party(listen=True)
    clients = [room.party() for _ in range(MAX_STRANGERS + 2)]
    done: list[Link] = []
    for client in clients:
        link = room.join(client, server)
        client.send(link.path, b"a packet that opens", now=room.now)
        room.until(lambda: len(server.datagrams) == len(server.core.states) == len(done) + 1)
        done.append(link)
    assert len(server.datagrams) == len(clients)


class FakeListener(Listener):
    """Accepts what the test says, from wherever it says."""

    __slots__ = ("waiting",)

    def __init__(self, hosts: list[str], *, ration: bool = True) -> None:
        super().__init__("127.0.0.1", ration=ration)
        self._socket.close()
        self.waiting = hosts
        self._socket = self  # type: ignore[assignment]

    def accept(self) -> object:  # type: ignore[override]
        """As a socket's."""
        if not self.waiting:
            raise BlockingIOError
        return socket.socket(), (self.waiting.pop(0), 40_000)


@pytest.mark.parametrize(
    ("hosts", "welcome"),
    [
        (["192.0.2.1"] * 10, MAX_STRANGERS_PER_SOURCE),
        ([f"192.0.2.{number}" for number in range(10)], 10),
        ([f"2001:db8:0:1::{number:x}" for number in range(10)], MAX_STRANGERS_PER_SOURCE),
        ([f"2001:db8:0:{number}::1" for number in range(10)], 10),
        (["::ffff:192.0.2.1", "192.0.2.1"] * 5, MAX_STRANGERS_PER_SOURCE),
        (["fe80::1%lo"] * 10, MAX_STRANGERS_PER_SOURCE),
        (["127.0.0.1"] * 10, 10),
        (["::1"] * 10, 10),
    ],
    ids=["one host", "many hosts", "one /64", "many /64s", "one host, mapped", "link-local", "loopback", "loopback 6"],
)
def test_one_source_has_few_places(hosts: list[str], welcome: int) -> None:
    listener = FakeListener(list(hosts))
    accepted = list(Listener.accept(listener))
    for sock, _ in accepted:
        sock.close()
    assert len(accepted) == welcome
    assert listener.refused == len(hosts) - welcome
    for _, address in accepted:
        listener.forget(address[0])
    assert listener._sources.total() == 0


def test_behind_a_proxy_of_ones_own_sources_may_be_left_uncounted() -> None:
    listener = FakeListener(["192.0.2.1"] * 10, ration=False)
    accepted = list(Listener.accept(listener))
    for sock, _ in accepted:
        sock.close()
    assert len(accepted) == 10
