"""TLS as bytes in and bytes out: an ``SSLObject`` between two memory BIOs.

Rule: certificates and versions are the context's affair, which is the caller's; here nothing is weakened or repaired.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from stt_backends.websocket.errors import TlsFailed

ALPN: Final = "http/1.1"
"""WebSocket by RFC 6455 is an upgrade of HTTP/1.1; a server that was left to choose might speak HTTP/2."""

MAX_RECORD: Final = 5 + 16_384 + 2048
"""Bytes of the largest record, with its header (RFC 5246 section 6.2.3; TLS 1.3 allows less): what may lie unread in a
layer until the rest of it comes."""


def default_context() -> ssl.SSLContext:
    """For clients: the system's authorities, names checked, TLS 1.2 or newer."""
    context = ssl.create_default_context()
    context.set_alpn_protocols([ALPN])
    return context


class TlsLayer:
    """One connection's TLS. ``server_name`` is who a client expects; None makes it the server's side.

    Bytes from the network go into :meth:`receive_untrusted`, those for it come out of :meth:`take`. ``below`` is what
    this travels in, where that is TLS too: a tunnel through a proxy. The two are spoken to as one.
    """

    __slots__ = ("_below", "_incoming", "_object", "_outgoing", "_server_name")

    def __init__(self, context: ssl.SSLContext, server_name: str | None, below: TlsLayer | None = None) -> None:
        self._below = below
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._server_name = server_name
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )

    def receive_untrusted(self, data: bytes) -> None:
        """Add what has arrived.

        :raises Violation: a :class:`~stt_backends.websocket.errors.TlsFailed`, of the layer below.
        """
        if self._below is None:
            self._incoming.write(data)
            return
        self._below.receive_untrusted(data)
        scratch = memoryview(bytearray(len(data) + MAX_RECORD))  # this, and what was left of a record that is whole now
        size = self._below.read_into_untrusted(scratch)
        if size > 0:
            self._incoming.write(scratch[:size])
        elif size < 0:
            self.end()

    def end(self) -> None:
        """Nothing more arrives."""
        self._incoming.write_eof()

    def handshake_untrusted(self) -> bool:
        """Go on with the handshake; True once it is done. There may be something to :meth:`take` either way.

        :raises Violation: a :class:`~stt_backends.websocket.errors.TlsFailed` that says why.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except (ssl.SSLError, ValueError) as error:
            raise TlsFailed(self._explain(error)) from None
        chosen = self._object.selected_alpn_protocol()
        if chosen not in (None, ALPN):
            raise TlsFailed(f"TLS agreed on {chosen!r}, and a WebSocket needs {ALPN!r}: see the ssl_context's ALPN")
        return True

    def _explain(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            who = f"the certificate of {self._server_name!r}"
            return f"{who} was refused: {error.verify_message}. Give an ssl_context that trusts it, if you do"
        said = getattr(error, "reason", None) or str(error)
        if said in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING"):
            return f"the other side doesn't speak TLS ({said}): is it ws:// there, and wss:// here, or the reverse?"
        return f"TLS failed: {said}"

    def read_into_untrusted(self, view: memoryview) -> int:
        """Decrypt into ``view`` all there is, up to its size; returns how many bytes, -1 where the peer has closed.

        :raises Violation: a :class:`~stt_backends.websocket.errors.TlsFailed`.
        """
        size = 0
        read: Callable[[int, memoryview], int] = self._object.read  # type: ignore[assignment]  # typeshed's is narrower
        try:
            while size < len(view):
                got = read(len(view) - size, view[size:])
                if not got:
                    return size or -1
                size += got
        except ssl.SSLWantReadError:
            return size
        except ssl.SSLZeroReturnError:
            return size or -1
        except ssl.SSLError as error:
            raise TlsFailed(self._explain(error)) from None
        return size

    def write(self, data: bytes) -> None:
        """Encrypt; the result is in :meth:`take`."""
        self._object.write(data)

    def close(self) -> None:
        """Say that nothing more comes (close_notify)."""
        with suppress(ssl.SSLError):  # it was written; the peer's own is for nobody, or there was no session to end
            self._object.unwrap()
        if self._below is not None:
            self._pass_down(self._below)
            self._below.close()

    def take(self) -> bytes:
        """What is to be sent."""
        if self._below is None:
            return self._outgoing.read()
        self._pass_down(self._below)
        return self._below.take()

    def _pass_down(self, below: TlsLayer) -> None:
        if data := self._outgoing.read():
            below.write(data)
