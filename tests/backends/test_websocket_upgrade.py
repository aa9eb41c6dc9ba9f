"""The upgrade on both sides, URLs and proxies: what is agreed on, and who is told what where it isn't."""

from __future__ import annotations

import re

import pytest
from wsproto.utilities import generate_accept_token

from stt_backends.websocket.errors import UpgradeFailed, UpgradeRefused
from stt_backends.websocket.head import MAX_HEAD
from stt_backends.websocket.proxy import Tunnel
from stt_backends.websocket.upgrade import SUBPROTOCOL, ClientUpgrade, ServerUpgrade
from stt_backends.websocket.url import parse_proxy, parse_url
from stt_core.errors import ConfigurationError
from tests.backends.websocket_bytes import request

URL = parse_url("ws://node.example:4433/stt")


def answered(data: bytes, **settings: object) -> bytes:
    answer = ServerUpgrade(**settings).receive_untrusted(data)  # type: ignore[arg-type]
    assert answer is not None
    return answer


def refused(data: bytes, **settings: object) -> UpgradeRefused:
    with pytest.raises(UpgradeRefused) as raised:
        ServerUpgrade(**settings).receive_untrusted(data)  # type: ignore[arg-type]
    return raised.value


# --- the server's side


def test_the_rfcs_example_is_answered_as_there() -> None:
    answer = answered(request())
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert b"Protocol" not in answer.partition(b"\r\n")[2]


def test_a_request_a_byte_at_a_time_is_answered_at_its_end() -> None:
    upgrade = ServerUpgrade()
    whole = request()
    answers = [upgrade.receive_untrusted(whole[at : at + 1]) for at in range(len(whole))]
    assert answers[:-1] == [None] * (len(whole) - 1)
    assert answers[-1] is not None


def test_our_subprotocol_is_taken_among_others_and_an_extension_is_not() -> None:
    offers = request(Sec_WebSocket_Protocol=f"chat, {SUBPROTOCOL}", Sec_WebSocket_Extensions="permessage-deflate")
    answer = answered(offers)
    assert f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n".encode() in answer
    assert b"Extensions" not in answer


def test_the_path_may_have_a_query_and_must_match() -> None:
    answered(request(line="GET /stt?x=1 HTTP/1.1"), path="/stt?x=1")
    assert refused(request(line="GET /stt HTTP/1.1"), path="/").status == 404


@pytest.mark.parametrize("origin", ["https://good.example", "HTTPS://GOOD.example"])
def test_a_page_from_an_allowed_origin_may_connect_and_so_may_what_is_no_page(origin: str) -> None:
    answered(request(Origin=origin), allowed_origins=["https://good.example"])
    answered(request(), allowed_origins=["https://good.example"])
    answered(request(Origin="https://any.example"), allowed_origins=None)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "https://good.example.evil.example"])
def test_a_page_from_another_origin_may_not(origin: str) -> None:
    assert refused(request(Origin=origin), allowed_origins=["https://good.example"]).status == 403


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (request(line="GET / HTTP/1.0"), 400),
        (request(line="GET / HTTP/2.0"), 400),
        (request(line="GET  / HTTP/1.1"), 400),
        (request(line="POST / HTTP/1.1"), 405),
        (request(line="CONNECT evil.example:80 HTTP/1.1"), 405),
        (request(Host=None), 400),
        (request(Upgrade=None), 400),
        (request(Upgrade="h2c"), 400),
        (request(Connection="keep-alive"), 400),
        (request(Sec_WebSocket_Key=None), 400),
        (request(Sec_WebSocket_Key="dG9vIHNob3J0"), 400),
        (request(Sec_WebSocket_Key="no base64"), 400),
        (request(Sec_WebSocket_Version="8"), 426),
        (request(Sec_WebSocket_Version=None), 400),
        (request(Sec_WebSocket_Protocol="chat"), 400),
        (request(Sec_WebSocket_Protocol="ch\xe4t"), 400),
        (request(Host="\xff" * 70), 400),
        (request(Content_Length="5") + b"abcde", 400),
        (request(Content_Length="5"), 400),
        (request(Transfer_Encoding="chunked"), 400),
        (request(X="a\r\n b"), 101),
        (request() + request(), 400),
        (request() + b"\x82\x80\0\0\0\0", 400),
        (request().replace(b"\r\n", b"\n") + b"\r\n\r\n", 400),
        (request(X="a\nInjected: b"), 400),
        (request(X="a\rb"), 400),
        (request(X="x" * MAX_HEAD), 431),
        (b"GET /" + b"x" * MAX_HEAD, 431),
    ],
    ids=[
        *("TLS", "HTTP/0.9", "HTTP/1.0", "HTTP/2.0", "two spaces", "POST", "CONNECT", "no Host", "no Upgrade", "h2c"),
        *("keep-alive", "no key", "short key", "bad key", "version 8", "no version", "another protocol"),
        *("protocol not ASCII", "host not ASCII", "body", "body to come", "chunked", "folded line", "two requests"),
        *("frames too early", "bare LF", "LF in a value", "CR in a value", "large header", "endless line"),
    ],
)
def test_what_is_no_proper_request_is_told_so(data: bytes, status: int) -> None:
    if status == 101:  # obsolete, and still to be read (RFC 9112 section 5.2)
        assert answered(data).startswith(b"HTTP/1.1 101 ")
        return
    error = refused(data)
    assert error.status == status
    head, _, body = error.response.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head
    assert (b"Sec-WebSocket-Version: 13" in head) == (status == 426)


def test_a_head_without_end_is_cut_off_at_its_limit() -> None:
    upgrade = ServerUpgrade()
    for _ in range(MAX_HEAD):
        assert upgrade.receive_untrusted(b"x") is None
    with pytest.raises(UpgradeRefused) as raised:
        upgrade.receive_untrusted(b"x")
    assert raised.value.status == 431


# --- the client's side


def accepting(upgrade: ClientUpgrade, **changes: str) -> bytes:
    key = next(line for line in upgrade.request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key: "))[19:]
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": generate_accept_token(key).decode(),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return "\r\n".join(["HTTP/1.1 101 Yes", *(f"{n}: {v}" for n, v in headers.items()), "", ""]).encode("latin-1")


def failure(data: bytes) -> str:
    with pytest.raises(UpgradeFailed) as raised:
        ClientUpgrade(URL).receive_untrusted(data)
    return str(raised.value)


def test_a_client_asks_for_the_urls_path_at_its_host() -> None:
    sent = ClientUpgrade(URL).request
    assert sent.startswith(b"GET /stt HTTP/1.1\r\n")
    assert b"host: node.example:4433\r\n" in sent.lower()
    assert f"sec-websocket-protocol: {SUBPROTOCOL}\r\n".encode() in sent.lower()
    assert b"extensions" not in sent.lower()


def test_a_client_and_a_server_agree() -> None:
    upgrade = ClientUpgrade(URL)
    assert upgrade.receive_untrusted(answered(upgrade.request, path="/stt")) == b""


def test_frames_right_behind_the_answer_are_kept() -> None:
    upgrade = ClientUpgrade(URL)
    assert upgrade.receive_untrusted(accepting(upgrade) + b"\x82\x01x") == b"\x82\x01x"


@pytest.mark.parametrize(
    "changes",
    [
        {"Sec_WebSocket_Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
        {"Upgrade": "h2c"},
        {"Connection": "close"},
        {"Sec_WebSocket_Extensions": "permessage-deflate"},
        {"Sec_WebSocket_Protocol": "chat"},
        {"Sec_WebSocket_Protocol": "ch\xe4t"},
    ],
    ids=["another key", "h2c", "close", "deflate", "another protocol", "protocol not ASCII"],
)
def test_an_answer_that_is_not_to_our_question_is_refused(changes: dict[str, str]) -> None:
    upgrade = ClientUpgrade(URL)
    with pytest.raises(UpgradeFailed, match="no proper answer"):
        upgrade.receive_untrusted(accepting(upgrade, **changes))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404.*is the path right"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "301.*redirects are not followed"),
        (b"HTTP/1.1 403 No\r\n\r\n", "403"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "502.*reverse proxy"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200.*is it a WebSocket's address"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "no proper answer"),
        (b"x" * (MAX_HEAD + 1), "no proper answer.*headers of more than"),
        (b"\x15\x03\x03\x00\x02\x02\x46\r\n\r\n", "no proper answer"),
    ],
    ids=["404", "301", "403", "502", "200", "SSH", "endless", "TLS alert"],
)
def test_whoever_is_refused_learns_by_what_and_what_to_do(data: bytes, words: str) -> None:
    said = failure(data)
    assert re.search(words, said)
    assert "ws://node.example:4433/stt" in said


# --- URLs


@pytest.mark.parametrize(
    ("text", "authority", "target"),
    [
        ("ws://host", "host", "/"),
        ("ws://host:80/a", "host", "/a"),
        ("wss://host:443/", "host", "/"),
        ("wss://host:80/?q=1", "host:80", "/?q=1"),
        ("ws://[::1]:8080/a/b", "[::1]:8080", "/a/b"),
        ("WS://HOST/", "host", "/"),
        ("ws://b\xfccher.example/", "xn--bcher-kva.example", "/"),
    ],
)
def test_urls_are_taken_apart(text: str, authority: str, target: str) -> None:
    url = parse_url(text)
    assert (url.authority, url.target) == (authority, target)
    assert parse_url(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        *("http://host/", "ws://", "ws:///path", "ws://user:secret@host/", "ws://host/#there", "ws://host:0/"),
        *("ws://host:99999/", "ws://host:port/", "ws://host/a b", "ws://host/\r\nX: y", "ws://h\x00st/", "ws://[::1/"),
        *("ws://host/\xe4", "ws://a..b/"),
    ],
)
def test_what_is_no_websockets_url_is_refused_before_anything_is_sent(text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_url(text)
    assert "secret" not in str(raised.value)


# --- proxies


def test_a_proxy_is_asked_for_the_host_and_given_the_password() -> None:
    proxy = parse_proxy("http://us%65r:p%40ss@proxy.example:3128")
    sent = Tunnel(proxy, "::1", 4433).request
    assert sent.startswith(b"CONNECT [::1]:4433 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in sent
    assert b"authorization" not in Tunnel(parse_proxy("http://proxy.example"), "h", 1).request.lower()


def test_a_proxys_password_shows_nowhere() -> None:
    proxy = parse_proxy("http://user:secret@proxy.example:3128")
    shown = [repr(proxy), str(proxy)]
    for status in (407, 403, 502, 500):
        with pytest.raises(UpgradeFailed) as raised:
            Tunnel(proxy, "h", 1).receive_untrusted(f"HTTP/1.1 {status} No\r\n\r\n".encode())
        shown.append(str(raised.value))
        assert str(status) in shown[-1]
    with pytest.raises(ConfigurationError) as wrong:
        parse_proxy("https://user:secret@proxy.example:x")
    assert "secret" not in "".join([*shown, str(wrong.value)])


@pytest.mark.parametrize(
    "text", ["socks5://h:1", "http://h:1/path", "https://h:1/path", "http://", "h:1", "http://a%3Ab:c@h"]
)
def test_what_is_no_http_proxy_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="proxy"):
        parse_proxy(text)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 Connection established\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"]
)
def test_an_open_tunnel_gives_what_came_behind_the_answer(answer: bytes) -> None:
    tunnel = Tunnel(parse_proxy("http://proxy.example"), "h", 1)
    assert tunnel.receive_untrusted(answer[:10]) is None
    assert tunnel.receive_untrusted(answer[10:] + b"more") == b"more"


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 100 + b"\r\n\r\n", b"SSH-2.0\r\n\r\n", b"x" * (MAX_HEAD + 1), b"HTTP/1.1 100 Continue\r\n\r\n", b"a\nb\n"],
)
def test_a_proxy_that_answers_garbage_is_named(garbage: bytes) -> None:
    with pytest.raises(UpgradeFailed, match=r"the proxy http://proxy\.example:80 gave no proper answer"):
        Tunnel(parse_proxy("http://proxy.example"), "h", 1).receive_untrusted(garbage)


def test_a_proxy_that_wants_a_password_says_so_or_that_it_was_wrong() -> None:
    for url, words in (("http://proxy.example", "wants a user"), ("http://a:b@proxy.example", "refused the user")):
        with pytest.raises(UpgradeFailed, match=words):
            Tunnel(parse_proxy(url), "h", 1).receive_untrusted(b"HTTP/1.1 407 Authenticate\r\n\r\n")
