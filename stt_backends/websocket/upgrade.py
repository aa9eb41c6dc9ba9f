"""The HTTP upgrade, both sides (RFC 6455 section 4): bytes in, bytes out.

Rule: nothing that wsproto would overlook gets past: a head is whole, within its limit, with honest line ends and no
body before it is parsed; and whoever is refused is told why, with the status that says whose fault it is.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Collection
from typing import Final

from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from stt_backends.websocket.errors import UpgradeFailed, UpgradeRefused
from stt_backends.websocket.forwarded import HEADER
from stt_backends.websocket.head import Head
from stt_backends.websocket.url import WebSocketUrl

SUBPROTOCOL: Final = "stt1"
"""What we ask for in Sec-WebSocket-Protocol. A client that asks for others only wants something else from us."""


class ServerUpgrade:
    """Answers one request for ``path``; of browsers, only pages from ``allowed_origins``, where that isn't None."""

    def __init__(self, path: str = "/", allowed_origins: Collection[str] | None = None) -> None:
        self._path = path
        self._origins = None if allowed_origins is None else {origin.lower() for origin in allowed_origins}
        self._head = Head()
        self.forwarded_for: list[bytes] = []
        """What the request says of its source; :mod:`~stt_backends.websocket.forwarded` tells when it counts."""

    def receive_untrusted(self, data: bytes) -> bytes | None:
        """Add what has arrived; the answer to send once the request is whole. From then on there are frames.

        :raises Violation: an :class:`~stt_backends.websocket.errors.UpgradeRefused` that holds the answer to send.
        """
        try:
            found = self._head.feed(data)
        except OverflowError as error:
            raise UpgradeRefused(431, "Request Header Fields Too Large", str(error)) from None
        except ValueError as error:
            raise _bad(str(error)) from None
        if found is None:
            return None
        head, rest = found
        if rest:
            raise _bad("data before the upgrade was answered")
        _check_request_line(head)
        handshake = H11Handshake(ConnectionType.SERVER)
        request = _parse_request_untrusted(handshake, head)
        self._judge(request)
        self.forwarded_for = [value for name, value in request.extra_headers if name.lower() == HEADER]
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in request.subprotocols else None
        return handshake.send(AcceptConnection(subprotocol=subprotocol))

    def _judge(self, request: Request) -> None:
        if request.target != self._path:
            raise UpgradeRefused(404, "Not Found", "there is no WebSocket at this path")
        headers = dict(request.extra_headers)
        if b"content-length" in headers or b"transfer-encoding" in headers:
            raise _bad("a request with a body")
        try:
            size = len(b64decode(headers[b"sec-websocket-key"], validate=True))
        except ValueError:
            size = 0
        if size != 16:
            raise _bad("Sec-WebSocket-Key isn't 16 bytes in base64")
        if request.subprotocols and SUBPROTOCOL not in request.subprotocols:
            raise _bad(f"Sec-WebSocket-Protocol doesn't offer {SUBPROTOCOL}")
        origins = [value for name, value in request.extra_headers if name == b"origin"]
        # Only browsers send an Origin, and they always do: what has none is a program, which can send what it likes.
        if self._origins is not None and any(
            origin.decode("latin-1").lower() not in self._origins for origin in origins
        ):
            raise UpgradeRefused(403, "Forbidden", "pages of this origin may not connect here")


def _bad(reason: str) -> UpgradeRefused:
    return UpgradeRefused(400, "Bad Request", reason)


def _check_request_line(head: bytes) -> None:
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1":
        raise _bad("this isn't a request in HTTP/1.1")
    if words[0] != b"GET":
        raise UpgradeRefused(405, "Method Not Allowed", "the method isn't GET", "Allow: GET\r\n")


def _parse_request_untrusted(handshake: H11Handshake, head: bytes) -> Request:
    try:
        handshake.receive_data(head)
        events = list(handshake.events())
    except RemoteProtocolError as error:
        hint = error.event_hint
        if isinstance(hint, RejectConnection) and hint.status_code == 426:
            raise UpgradeRefused(
                426, "Upgrade Required", "the version isn't 13", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            ) from None
        raise _bad(str(error)) from None
    except UnicodeError:  # wsproto decodes some headers as ASCII, others as IDNA
        raise _bad("a header that isn't ASCII") from None
    if len(events) != 1 or not isinstance(events[0], Request):
        raise _bad("this isn't one request")
    return events[0]


class ClientUpgrade:
    """Asks a server for a WebSocket; ``request`` is what to send."""

    def __init__(self, url: WebSocketUrl) -> None:
        self._url = url
        self._head = Head()
        self._handshake = H11Handshake(ConnectionType.CLIENT)
        self.request: bytes = self._handshake.send(
            Request(host=url.authority, target=url.target, subprotocols=[SUBPROTOCOL])
        )

    def receive_untrusted(self, data: bytes) -> bytes | None:
        """Add what has arrived; what came after the answer, once that is whole: frames, or nothing.

        :raises Violation: an :class:`~stt_backends.websocket.errors.UpgradeFailed` that says what came instead.
        """
        try:
            found = self._head.feed(data)
            if found is None:
                return None
            self._handshake.receive_data(found[0])
            event = next(self._handshake.events(), None)
        except (RemoteProtocolError, UnicodeError, ValueError, OverflowError) as error:
            raise UpgradeFailed(f"{self._url} gave no proper answer to a WebSocket upgrade: {error}") from None
        if isinstance(event, RejectConnection):
            raise UpgradeFailed(_refusal(self._url, event.status_code), event.status_code)
        if not isinstance(event, AcceptConnection):
            raise UpgradeFailed(f"{self._url} gave no proper answer to a WebSocket upgrade")
        return found[1]


_ADVICE: Final = {
    400: "does an STT node of this version listen there?",
    401: "the web server there wants a login, and STT has none",
    403: "the web server there refuses this client",
    404: "is the path right?",
    426: "it speaks another version of WebSocket",
    429: "it has too many clients already: try again later",
    502: "the reverse proxy there doesn't reach its STT node",
    503: "it has too many clients already: try again later",
}


def _refusal(url: WebSocketUrl, status: int) -> str:
    if 300 <= status < 400:
        advice = "redirects are not followed: name the place itself"
    else:
        advice = _ADVICE.get(status, "is it a WebSocket's address?")
    return f"{url} answered with HTTP status {status} and not with a WebSocket: {advice}"
