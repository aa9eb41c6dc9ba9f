"""Frames and heads written by hand, so that what reads them is held to the RFC and not to what wrote them."""

from __future__ import annotations

from stt_backends.websocket.framing import MAX_FRAME, Datagram, Framing

KEY = bytes((0x37, 0xFA, 0x21, 0x3D))
"""The masking key of RFC 6455's examples."""
BINARY, TEXT, CONTINUATION, CLOSE, PING, PONG = 0x82, 0x81, 0x80, 0x88, 0x89, 0x8A
"""First bytes of frames that are whole."""
NOT_LAST = 0x7F
"""To be ANDed with a first byte."""


def under(key: bytes, data: bytes) -> bytes:
    """RFC 6455 section 5.3, as it is written there."""
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(data))


def frame(first: int, payload: bytes = b"", *, masked: bool = True, length: bytes | None = None) -> bytes:
    """A frame (section 5.2); ``length`` stands in for its length field, second byte included."""
    size = len(payload)
    if length is None:
        if size <= 125:
            length = bytes((size,))
        elif size < 1 << 16:
            length = b"\x7e" + size.to_bytes(2, "big")
        else:
            length = b"\x7f" + size.to_bytes(8, "big")
    if masked:
        length = bytes((length[0] | 0x80,)) + length[1:] + KEY
        payload = under(KEY, payload)
    return bytes((first,)) + length + payload


def feed(framing: Framing, data: bytes, piece: int | None = None) -> list[bytes]:
    """What ``framing`` makes of ``data``, given whole or in pieces, by way of a buffer that is used again."""
    buffer = bytearray(MAX_FRAME + len(data))
    whole: list[bytes] = []
    step = piece or max(len(data), 1)
    for start in range(0, len(data), step):
        rest = len(framing.rest)
        buffer[:rest] = framing.rest
        part = data[start : start + step]
        buffer[rest : rest + len(part)] = part
        found: list[Datagram] = []
        framing.receive_untrusted(buffer, rest + len(part), found)
        whole += map(bytes, found)
    return whole


def request(**changes: str | None) -> bytes:
    """A client's upgrade (section 1.3). A change to None leaves that header out; ``line`` is the request line."""
    line = changes.pop("line", "GET / HTTP/1.1")
    headers: dict[str, str | None] = {
        "Host": "server.example.com",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([str(line), *lines, "", ""]).encode("latin-1")
