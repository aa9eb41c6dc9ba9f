"""Links and hubs on real sockets: datagrams both ways, back-pressure, proxies, TLS, deadlines, and how each ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from stt_backends.websocket.link import CLOSE_PATIENCE, MAX_UNSENT, Link
from stt_backends.websocket.wire import Wire
from stt_core.config import MAX_DATAGRAM
from stt_core.errors import ConnectError, ConnectionRefusedError, ConnectionTimeoutError
from stt_core.types import Path
from tests.backends.websocket_bytes import BINARY, CLOSE, PING, PONG, TEXT, frame, request
from tests.backends.websocket_net import PATIENCE, Party, Room, contexts


@pytest.fixture
def room() -> Iterator[Room]:
    found = Room()
    yield found
    found.close()


def path_at(server: Party) -> Path:
    return server.core.received[0][0]


def raw_client(room: Room, server: Party, *, upgraded: bool = True) -> socket.socket:
    """A socket to ``server`` that says what it likes, after a proper upgrade or without."""
    sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    if upgraded:
        sock.sendall(request())
        assert room.hear(sock, 4096).startswith(b"HTTP/1.1 101 ")
    return sock


def listening() -> socket.socket:
    """Somebody else's server."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.settimeout(PATIENCE)
    return sock


def failure(link: Link) -> ConnectError:
    assert link.over
    assert link.failure is not None
    return link.failure


# --- datagrams


def test_datagrams_cross_both_ways_each_as_it_was(room: Room) -> None:
    server, client = room.party(listen=True), room.party()
    link = room.join(client, server)
    sent = [b"", b"x", b"y" * 1200, b"z" * MAX_DATAGRAM] * 3
    client.send(link.path, *sent, now=room.now)
    room.until(lambda: len(server.datagrams) == len(sent))
    assert server.datagrams == sent
    server.send(path_at(server), *sent, now=room.now)
    room.until(lambda: len(client.datagrams) == len(sent))
    assert client.datagrams == sent
    assert link.path.address == ("127.0.0.1", server.port, 1)


def test_many_small_datagrams_leave_by_one_system_call(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    server, client = room.party(listen=True), room.party()
    link = room.join(client, server)
    calls = []
    flush = Wire.flush

    def counted(wire: Wire) -> None:
        calls.append(wire)
        flush(wire)

    monkeypatch.setattr(Wire, "flush", counted)
    client.send(link.path, *[b"small"] * 30, now=room.now)
    assert calls == [link._wire]
    room.until(lambda: len(server.datagrams) == 30)


def test_a_link_that_is_full_says_so_once_and_again_when_it_has_room(room: Room) -> None:
    server, client = room.party(listen=True), room.party()
    link = room.join(client, server)
    other = room.party()
    third = room.join(other, server)
    count = 0
    while not client.core.told:
        client.send(link.path, b"x" * MAX_DATAGRAM, now=room.now)
        count += 1
        assert link.unsent <= MAX_UNSENT + MAX_DATAGRAM + 14
    assert client.core.told == [("blocked", link.path)]
    other.send(third.path, b"nobody waits for the other", now=room.now)
    room.until(lambda: len(server.datagrams) == count + 1)
    assert client.core.told == [("blocked", link.path), ("writable", link.path)]
    assert not link.wants_write


def test_sending_on_a_link_that_is_gone_loses_it_and_harms_nobody(room: Room) -> None:
    party = room.party()
    party.send(Path("websocket", ("192.0.2.1", 1, 1)), b"lost", now=room.now)


def test_pings_are_answered_by_a_pong_and_text_is_refused(room: Room) -> None:
    server = room.party(listen=True)
    with raw_client(room, server) as sock:
        sock.sendall(frame(PING, b"are you there"))
        assert room.hear(sock, 100) == frame(PONG, b"are you there", masked=False)
        sock.sendall(frame(BINARY, b"datagram") + frame(TEXT, b"text"))
        room.settle()
        assert server.datagrams == [b"datagram"]
        assert room.hear(sock, 100)[:4] == bytes((CLOSE, 2 + 36)) + (1003).to_bytes(2, "big")
    room.until(lambda: len(server.closed) == 1 and server.hub.idle)


# --- the end


def test_a_released_link_sends_what_it_was_given_and_both_ends_are_over_at_once(room: Room) -> None:
    server, client = room.party(listen=True), room.party()
    link = room.join(client, server)
    client.send(link.path, b"the last", now=room.now)
    client.hub.release(link.path, room.now)
    room.until(lambda: bool(server.closed) and client.hub.idle and server.hub.idle)
    assert server.datagrams == [b"the last"]
    assert client.closed == [link.path]
    assert link.over


def test_a_peer_that_never_answers_our_close_does_not_hold_us_up(room: Room) -> None:
    server = room.party(listen=True)
    with raw_client(room, server) as sock:
        sock.sendall(frame(BINARY, b"hello"))
        room.until(lambda: bool(server.datagrams))
        server.hub.release(path_at(server), room.now)
        room.settle()
        assert len(server.hub.sources) == 2
        room.pass_time(CLOSE_PATIENCE)
        assert server.hub.idle
        assert server.closed == [path_at(server)]


@pytest.mark.parametrize("how", ["reset", "end", "close frame"])
def test_a_connection_that_ends_under_a_session_is_told_once(room: Room, how: str) -> None:
    server = room.party(listen=True)
    with raw_client(room, server) as sock:
        sock.sendall(frame(BINARY, b"hello"))
        room.until(lambda: bool(server.datagrams))
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif how == "close frame":
            sock.sendall(frame(CLOSE, b"\x03\xe9"))
            assert room.hear(sock, 100) == frame(CLOSE, b"\x03\xe9", masked=False)
    room.until(lambda: bool(server.closed) and server.hub.idle)
    room.settle()
    assert server.closed == [path_at(server)]


def test_closing_a_hub_says_farewell(room: Room) -> None:
    server = room.party(listen=True)
    with raw_client(room, server) as sock:
        server.hub.close(room.now)
        assert room.hear(sock, 100)[:4] == bytes((CLOSE, 2 + 14)) + (1001).to_bytes(2, "big")
        assert room.hear(sock, 100) == b""


# --- refusals on the way in


def test_a_request_that_is_refused_gets_its_answer_and_the_end(room: Room) -> None:
    server = room.party(listen=True, path="/stt")
    with raw_client(room, server, upgraded=False) as sock:
        sock.sendall(request())
        assert room.hear(sock, 4096).startswith(b"HTTP/1.1 404 ")
        assert room.hear(sock, 100) == b""
    room.until(lambda: server.hub.idle)


def test_who_meets_another_path_learns_the_status(room: Room) -> None:
    server, client = room.party(listen=True, path="/stt"), room.party()
    link = room.dial(client, f"ws://127.0.0.1:{server.port}/other")
    room.until(lambda: bool(client.settled))
    assert "404" in str(failure(link))


# --- refusals on the way out


def test_a_port_where_nothing_listens_is_refused_by_name(room: Room) -> None:
    with listening() as gone:
        port = gone.getsockname()[1]
    client = room.party()
    link = room.dial(client, f"ws://127.0.0.1:{port}/")
    room.until(lambda: bool(client.settled))
    assert isinstance(failure(link), ConnectionRefusedError)
    assert f"ws://127.0.0.1:{port}/" in str(link.failure)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "the other side closed the connection.*waiting for the answer to the WebSocket upgrade"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"),
        (b"220 mail.example ESMTP\r\n\r\n", "no proper answer"),
    ],
    ids=["closes", "a web server", "another protocol"],
)
def test_whatever_else_listens_there_is_told_apart(room: Room, answer: bytes, words: str) -> None:
    client = room.party()
    with listening() as other:
        link = room.dial(client, f"ws://127.0.0.1:{other.getsockname()[1]}/")
        sock, _ = other.accept()
        with sock:
            assert room.hear(sock, 4096).startswith(b"GET / HTTP/1.1\r\n")
            sock.sendall(answer)
        room.until(lambda: bool(client.settled))
    with pytest.raises(ConnectError, match=words):
        raise failure(link)


def test_a_server_that_stays_silent_is_given_up_at_the_deadline(room: Room) -> None:
    client = room.party()
    with listening() as silent:
        link = room.dial(client, f"ws://127.0.0.1:{silent.getsockname()[1]}/")
        room.settle()
        room.pass_time(9.9)
        assert not client.settled
        room.pass_time(0.2)
        assert isinstance(failure(link), ConnectionTimeoutError)
        assert "the answer to the WebSocket upgrade did not come in time" in str(link.failure)


# --- proxies


def test_a_tunnel_through_a_proxy_carries_datagrams(room: Room) -> None:
    server, client = room.party(listen=True), room.party()
    with listening() as proxy:
        link = room.dial(
            client, "ws://127.0.0.1:4433/", proxy.getsockname()[1], proxy="http://user:secret@proxy.example:3128"
        )
        near, _ = proxy.accept()
        with near, socket.create_connection(("127.0.0.1", server.port)) as far:
            asked = room.hear(near)
            assert asked.startswith(b"CONNECT 127.0.0.1:4433 HTTP/1.1\r\n")
            assert b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=" in asked
            near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            far.sendall(room.hear(near))
            near.sendall(room.hear(far))
            room.until(lambda: bool(client.settled))
            assert link.failure is None
            client.send(link.path, b"through", now=room.now)
            far.sendall(room.hear(near))
            room.until(lambda: bool(server.datagrams))
    assert server.datagrams == [b"through"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Authentication\r\n\r\n", "407.*http://user:password@host:port"),
        (b"HTTP/1.1 403 No\r\n\r\n", "doesn't allow connections to 127"),
        (b"\0\1\2\3\r\n\r\n", "gave no proper answer to CONNECT"),
        (b"HTTP/1.1 200 OK\r\n\r\nearly", "sent what nobody asked for"),
        (b"", "closed the connection.*the proxy's answer"),
    ],
    ids=["407", "403", "garbage", "early", "closes"],
)
def test_a_proxy_that_refuses_is_told_apart(room: Room, answer: bytes, words: str) -> None:
    client = room.party()
    with listening() as proxy:
        link = room.dial(client, "ws://127.0.0.1:1/", proxy.getsockname()[1], proxy="http://a:secret@proxy.example")
        sock, _ = proxy.accept()
        with sock:
            room.hear(sock)
            sock.sendall(answer)
        room.until(lambda: bool(client.settled))
    with pytest.raises(ConnectError, match=words) as raised:
        raise failure(link)
    assert "secret" not in str(raised.value)


# --- TLS


def test_datagrams_cross_tls_both_ways(room: Room, tmp_path: File) -> None:
    inside, outside = contexts(tmp_path)
    server, client = room.party(listen=True, tls=inside), room.party()
    link = room.dial(client, f"wss://localhost:{server.port}/", tls=outside)
    room.until(lambda: bool(client.settled))
    assert link.failure is None
    sent = [b"x", b"y" * 1200, *[b"z" * MAX_DATAGRAM] * 8]
    client.send(link.path, *sent, now=room.now)
    room.until(lambda: len(server.datagrams) == len(sent))
    assert server.datagrams == sent
    server.send(path_at(server), *sent, now=room.now)
    room.until(lambda: len(client.datagrams) == len(sent))
    assert client.datagrams == sent
    client.hub.release(link.path, room.now)
    room.until(lambda: bool(server.closed) and client.hub.idle and server.hub.idle)


def test_a_certificate_of_another_name_or_authority_is_refused_with_the_reason(room: Room, tmp_path: File) -> None:
    inside, outside = contexts(tmp_path)
    (tmp_path / "other").mkdir()
    _, stranger = contexts(tmp_path / "other")
    server, client = room.party(listen=True, tls=inside), room.party()
    for url, context, words in (
        (f"wss://elsewhere.example:{server.port}/", outside, "elsewhere.example.*Hostname mismatch"),
        (f"wss://localhost:{server.port}/", stranger, "certificate of 'localhost' was refused"),
    ):
        link = room.dial(client, url, tls=context)
        room.until(lambda link=link: link.over)  # type: ignore[misc]
        with pytest.raises(ConnectError, match=words):
            raise failure(link)
    room.until(lambda: server.hub.sources == [server.hub.listener])
    assert not server.datagrams


def test_ws_where_wss_is_spoken_and_the_reverse_are_told_apart(room: Room, tmp_path: File) -> None:
    inside, outside = contexts(tmp_path)
    secure, plain, client = room.party(listen=True, tls=inside), room.party(listen=True), room.party()
    link = room.dial(client, f"wss://localhost:{plain.port}/", tls=outside)
    room.until(lambda: link.over)
    assert "doesn't speak TLS" in str(failure(link))
    other = room.dial(client, f"ws://localhost:{secure.port}/")
    room.until(lambda: other.over)
    assert "WebSocket upgrade" in str(failure(other))


def test_a_server_that_agrees_on_http_2_is_refused(room: Room, tmp_path: File) -> None:
    inside, outside = contexts(tmp_path)
    for context in (inside, outside):
        context.set_alpn_protocols(["h2"])
    server, client = room.party(listen=True, tls=inside), room.party()
    link = room.dial(client, f"wss://localhost:{server.port}/", tls=outside)
    room.until(lambda: link.over)
    assert "'h2'" in str(failure(link))


def test_what_is_no_tls_is_cut_off(room: Room, tmp_path: File) -> None:
    inside, _ = contexts(tmp_path)
    server = room.party(listen=True, tls=inside)
    with raw_client(room, server, upgraded=False) as sock:
        sock.sendall(request())
        assert b"HTTP/1.1" not in room.hear(sock)
    room.until(lambda: len(server.hub.sources) == 1)
    assert server.hub.sources == [server.hub.listener]


# --- many frames in one read


def test_a_large_read_of_many_frames_and_a_frame_over_many_reads(room: Room) -> None:
    server = room.party(listen=True)
    with raw_client(room, server) as sock:
        wire = frame(BINARY, b"m" * 100) * 500 + frame(BINARY, b"n" * MAX_DATAGRAM)
        for start in range(0, len(wire), 7001):
            sock.sendall(wire[start : start + 7001])
            room.turn()
        room.until(lambda: len(server.datagrams) == 501)
    assert server.datagrams == [b"m" * 100] * 500 + [b"n" * MAX_DATAGRAM]
