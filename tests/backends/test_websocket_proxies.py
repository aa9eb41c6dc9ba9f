"""Proxies on the way: of a client, spoken to by TLS; and in front of a server, saying for whom they speak."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path as File

import pytest

from stt_backends.websocket.forwarded import TrustedProxies
from stt_backends.websocket.listener import MAX_STRANGERS_PER_SOURCE
from stt_backends.websocket.wire import READ_SIZE, Wire
from stt_core.config import MAX_DATAGRAM
from stt_core.errors import ConfigurationError, ConnectError
from stt_core.types import Path
from tests.backends.websocket_bytes import BINARY, frame, request
from tests.backends.websocket_net import PATIENCE, Party, Room, contexts


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


class TlsProxy:
    """The proxy's end of a connection to it: TLS by ``context``, its bytes given and taken by the test."""

    def __init__(self, room: Room, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._room = room
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)

    def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._in.write(self._room.hear(self._sock, READ_SIZE))
            else:
                self._flush()
                return

    def hear(self) -> bytes:
        while True:
            try:
                return self._tls.read(READ_SIZE)
            except ssl.SSLWantReadError:
                self._in.write(self._room.hear(self._sock, READ_SIZE))

    def say(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def carry(self, far: socket.socket, done: Callable[[], bool]) -> None:
        """Carry bytes both ways between the client and ``far``, until ``done()``."""
        while not done():
            ready = select.select([self._sock, far], [], [], 0.0)[0]
            if far in ready:
                self.say(far.recv(READ_SIZE))
            if self._sock in ready:
                self._in.write(self._sock.recv(READ_SIZE))
                with suppress(ssl.SSLWantReadError):
                    while data := self._tls.read(READ_SIZE):
                        far.sendall(data)
            if not ready:
                assert self._room.turn(PATIENCE, [self._sock, far]), "nothing happens any more"

    def _flush(self) -> None:
        self._sock.sendall(self._out.read())


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_proxy_is_spoken_to_by_tls_and_the_tunnel_may_hold_tls_again(room: Room, tmp_path: File, scheme: str) -> None:
    inside, outside = contexts(tmp_path)
    secure = scheme == "wss"
    server, client = room.party(listen=True, tls=inside if secure else None), room.party()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        link = room.dial(
            client,
            f"{scheme}://localhost:4433/",
            listening.getsockname()[1],
            proxy="https://user:secret@localhost:3128",
            tls=outside if secure else None,
            proxy_tls=outside,
        )
        near, _ = listening.accept()
        with near, socket.create_connection(("127.0.0.1", server.port)) as far:
            proxy = TlsProxy(room, near, inside)
            proxy.shake_hands()
            asked = proxy.hear()
            assert asked.startswith(b"CONNECT localhost:4433 HTTP/1.1\r\n")
            assert b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=" in asked
            proxy.say(b"HTTP/1.1 200 OK\r\n\r\n")
            proxy.carry(far, lambda: bool(client.settled))
            assert link.failure is None
            sent = [b"x", b"y" * MAX_DATAGRAM]
            client.send(link.path, *sent, now=room.now)
            proxy.carry(far, lambda: len(server.datagrams) == len(sent))
            assert server.datagrams == sent
            assert link.unsent == 0


def test_a_proxy_with_a_certificate_nobody_trusts_is_not_told_the_password(room: Room, tmp_path: File) -> None:
    inside, _ = contexts(tmp_path)
    client = room.party()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        link = room.dial(
            client,
            "ws://node.example:1/",
            listening.getsockname()[1],
            proxy="https://user:secret@localhost:3128",
            proxy_tls=ssl.create_default_context(),
        )
        near, _ = listening.accept()
        with near:
            proxy = TlsProxy(room, near, inside)
            with pytest.raises(ssl.SSLError):
                proxy.shake_hands()
        room.until(lambda: bool(client.settled))
    assert isinstance(link.failure, ConnectError)
    assert "the certificate of 'localhost' was refused" in str(link.failure)
    assert "secret" not in str(link.failure)


def test_what_was_left_of_a_record_is_decrypted_with_the_next_read(tmp_path: File) -> None:
    inside, outside = contexts(tmp_path)
    near, far = socket.socketpair()
    with far:
        for end in (near, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * READ_SIZE)
        wire = Wire.__new__(Wire)
        _over_tcp_or_not(wire, near)
        wire.start_tls(outside, "localhost")
        given, taken = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = inside.wrap_bio(given, taken, server_side=True)
        done = wire.handshake_untrusted()
        while not done:
            given.write(far.recv(READ_SIZE))
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            far.sendall(taken.read())
            done = wire.handshake_untrusted()
        given.write(far.recv(READ_SIZE))
        tls.do_handshake()
        tls.write(bytes(READ_SIZE))
        secret = taken.read()
        view = memoryview(bytearray(READ_SIZE))
        far.sendall(secret[:16_000])
        assert wire.read_into_untrusted(view) == 0
        far.sendall(secret[16_000:])
        got = 0
        while (size := wire.read_into_untrusted(view)) > 0:
            assert size < READ_SIZE, "more may be left behind, of which no readable socket tells"
            got += size
        wire.close()
    assert got == READ_SIZE


@pytest.mark.parametrize(
    ("trusted", "host", "headers", "client"),
    [
        ((), "192.0.2.1", [b"203.0.113.9"], "192.0.2.1"),
        (("192.0.2.1",), "192.0.2.1", [], "192.0.2.1"),
        (("192.0.2.1",), "192.0.2.1", [b"203.0.113.9"], "203.0.113.9"),
        (("192.0.2.1",), "192.0.2.2", [b"203.0.113.9"], "192.0.2.2"),
        (("192.0.2.1",), "192.0.2.1", [b"198.51.100.7, 203.0.113.9"], "203.0.113.9"),
        (("192.0.2.1",), "192.0.2.1", [b"198.51.100.7", b"203.0.113.9"], "203.0.113.9"),
        (("192.0.2.1", "10.0.0.0/8"), "192.0.2.1", [b"198.51.100.7, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        (("192.0.2.1",), "192.0.2.1", [b"192.0.2.1"], "192.0.2.1"),
        (("192.0.2.1",), "192.0.2.1", [b"203.0.113.9:4711"], "203.0.113.9"),
        (("::1",), "::1", [b"[2001:db8::1]:4711"], "2001:db8::1"),
        (("::1",), "::1", [b"2001:DB8:0::1"], "2001:db8::1"),
        (("192.0.2.1",), "192.0.2.1", [b"::ffff:203.0.113.9"], "203.0.113.9"),
        (("192.0.2.1",), "192.0.2.1", [b"203.0.113.9, unknown"], "192.0.2.1"),
        (("192.0.2.1",), "192.0.2.1", [b"203.0.113.9,"], "192.0.2.1"),
        (("192.0.2.1",), "192.0.2.1", [b"fe80::1%eth0"], "192.0.2.1"),
        (("192.0.2.1", "10.0.0.0/8"), "192.0.2.1", [b"\xff\xfe, 10.1.2.3"], "10.1.2.3"),
    ],
)
def test_the_last_whom_a_trusted_proxy_names_is_the_client(
    trusted: tuple[str, ...], host: str, headers: list[bytes], client: str
) -> None:
    assert TrustedProxies(trusted).client_untrusted(host, headers) == client


@pytest.mark.parametrize("wrong", ["192.0.2.1", ["proxy.example"], ["192.0.2.1/33"]])
def test_what_is_no_proxys_address_is_refused(wrong: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        TrustedProxies(wrong)


def ask(room: Room, server: Party, forwarded_for: str) -> tuple[socket.socket, bytes]:
    """A connection by way of a proxy that names a client, and the answer to its request."""
    sock = socket.create_connection(("127.0.0.1", server.port))
    sock.sendall(request(X_Forwarded_For=forwarded_for))
    return sock, room.hear(sock)


def test_a_client_behind_a_trusted_proxy_is_known_by_its_own_address(room: Room) -> None:
    server = room.party(listen=True, trusted=TrustedProxies(["127.0.0.1"]))
    sock, answer = ask(room, server, "203.0.113.9")
    with sock:
        assert answer.startswith(b"HTTP/1.1 101 ")
        sock.sendall(frame(BINARY, b"datagram"))
        room.until(lambda: bool(server.datagrams))
        (path, _), *_ = server.core.received
        assert isinstance(path, Path)
        assert isinstance(path.address, tuple)
        assert path.address[0] == "203.0.113.9"
        server.send(path, b"answer", now=room.now)
        assert room.hear(sock).endswith(b"answer")
    room.until(lambda: bool(server.closed))
    assert server.closed == [path]
    assert server.hub.listener is not None
    assert server.hub.listener._sources.total() == 0


def test_each_client_behind_a_trusted_proxy_has_its_own_few_places(room: Room) -> None:
    server = room.party(listen=True, trusted=TrustedProxies(["127.0.0.1"]))
    server.hub.listener._ration = True  # type: ignore[union-attr]
    places = [ask(room, server, "203.0.113.9") for _ in range(MAX_STRANGERS_PER_SOURCE + 1)]
    elsewhere = ask(room, server, "203.0.113.10")
    answers = [answer[:12] for _, answer in [*places, elsewhere]]
    assert answers == [b"HTTP/1.1 101"] * MAX_STRANGERS_PER_SOURCE + [b"HTTP/1.1 429", b"HTTP/1.1 101"]
    for sock, _ in [*places, elsewhere]:
        sock.close()
    room.settle()
    assert server.hub.listener is not None
    assert server.hub.listener._sources.total() == 0


def _over_tcp_or_not(wire: Wire, sock: socket.socket) -> None:
    """A wire over a socket of the system's own kind, which has no TCP_NODELAY to set."""

    class Plain(socket.socket):
        def setsockopt(self, *_: object) -> None:
            """Nothing to set."""

    plain = Plain(sock.family, sock.type, fileno=sock.detach())
    Wire.__init__(wire, plain)
