"""Targets: what comes on a WebSocket connection, layer by layer. Each raises Violation, or gives the same however it is
cut in pieces."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from stt_backends.websocket.forwarded import TrustedProxies
from stt_backends.websocket.framing import MAX_FRAME, Datagram, Framing
from stt_backends.websocket.proxy import Tunnel
from stt_backends.websocket.upgrade import ClientUpgrade, ServerUpgrade
from stt_backends.websocket.url import parse_proxy, parse_url
from stt_core.config import MAX_DATAGRAM
from stt_core.errors import Violation

_URL = parse_url("ws://node.example/")
_PROXY = parse_proxy("http://user:password@proxy.example")


def target_websocket_frames(data: bytes) -> None:
    """Frames after the upgrade: the first byte says at which side, and in what pieces they come."""
    how, wire = (data[0], data[1:]) if data else (0, b"")
    client = bool(how & 1)
    whole, ended = _read(Framing(client=client), wire, len(wire))
    assert (whole, ended) == _read(Framing(client=client), wire, 1 + how // 2)
    assert all(len(datagram) <= MAX_DATAGRAM for datagram in whole)
    again = b"".join(part for datagram in whole for part in Framing(client=not client).encode(datagram))
    assert _read(Framing(client=client), again, len(again))[0] == whole


def _read(framing: Framing, wire: bytes, step: int) -> tuple[list[bytes], str]:
    """The datagrams in ``wire``, and how it ended."""
    buffer = bytearray(MAX_FRAME + step)
    whole: list[bytes] = []
    found: list[Datagram] = []
    try:
        for start in range(0, len(wire), step or 1):
            rest = len(framing.rest)
            assert rest < MAX_FRAME
            part = framing.rest + wire[start : start + step]
            buffer[: len(part)] = part
            framing.receive_untrusted(buffer, len(part), found)
            whole += map(bytes, found)
            found.clear()
    except Violation as error:
        return [*whole, *map(bytes, found)], error.reason
    return whole, repr(framing.closed_by_peer)


def target_websocket_request(data: bytes) -> None:
    """A client's upgrade; and, where there is one, the answer is one head."""
    answer = _ask(lambda: ServerUpgrade("/", ["https://good.example"]), data)
    if answer is not None:
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert answer.endswith(b"\r\n\r\n")
        assert answer.count(b"\r\n\r\n") == 1


def target_forwarded_for(data: bytes) -> None:
    """X-Forwarded-For headers, a line each: whoever they name is an address, or it is the proxy that sent them."""
    values = data.split(b"\n")
    assert TrustedProxies().client_untrusted("192.0.2.1", values) == "192.0.2.1"
    client = TrustedProxies(["192.0.2.0/24", "2001:db8::/32"]).client_untrusted("192.0.2.1", values)
    assert f"{ipaddress.ip_address(client)}" == client


def target_websocket_answer(data: bytes) -> None:
    """A server's answer to an upgrade, and a proxy's to CONNECT."""
    _ask(lambda: ClientUpgrade(_URL), data)
    behind = _ask(lambda: Tunnel(_PROXY, "node.example", 80), data)
    assert behind is None or data.endswith(behind)


def _ask(make: Callable[[], Any], data: bytes) -> bytes | None:
    """What a parser makes of ``data``, in one piece; in two it must come to the same verdict."""

    def verdict(cut: int) -> tuple[bytes | None, bool]:
        parser = make()
        try:
            found = parser.receive_untrusted(data[:cut]) if cut else None
            if found is None and cut < len(data):
                return parser.receive_untrusted(data[cut:]), True
            return found, True
        except Violation:
            return None, False

    whole = verdict(len(data))
    if b"\r\n\r\n" in data[:-1]:
        cut = data.index(b"\r\n\r\n") // 2
        assert verdict(cut) == whole
    return whole[0]
