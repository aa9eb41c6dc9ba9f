"""A non-blocking TCP socket, with or without TLS on it: bytes queued, bytes read, and nothing that waits."""

from __future__ import annotations

import socket
import ssl
from collections import deque
from itertools import islice
from typing import Any, Final

from stt_backends.websocket.tls import MAX_RECORD, TlsLayer

READ_SIZE: Final = 256 * 1024
"""Bytes read by one system call at most."""
_TLS_READ: Final = READ_SIZE - 2 * MAX_RECORD
"""The same under TLS, or two of it: what is left of a record from the read before is decrypted with this one."""
_PIECES: Final = 64
"""Pieces in one that sends; the system takes 1024 at most (IOV_MAX)."""


class Wire:
    """Owns ``sock``. What it raises is the connection's end: ``OSError``, or a Violation by what TLS was sent."""

    __slots__ = ("_clear", "_out", "_socket", "_tls", "unsent", "wants_write")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._tls: TlsLayer | None = None
        self._clear: list[bytes | bytearray] = []
        """Not encrypted yet, where there is TLS."""
        self._out: deque[bytes | bytearray | memoryview] = deque()
        self.unsent = 0
        """Bytes that the system has not taken yet."""
        self.wants_write = False
        """Whether the system took less than there was: call :meth:`flush` once the socket is writable."""

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._socket.fileno()

    def connect(self, address: tuple[Any, ...]) -> int:
        """Begin to connect; the ``errno`` that came of it, where 0 and EINPROGRESS are no errors."""
        return self._socket.connect_ex(address)

    def connected(self) -> int:
        """The socket is writable: what came of connecting, an ``errno`` or 0."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    # --- TLS

    def start_tls(self, context: ssl.SSLContext, server_name: str | None) -> None:
        """All from here on is encrypted, within any TLS there is already; ``server_name`` is None on a server."""
        self._tls = TlsLayer(context, server_name, self._tls)

    def handshake_untrusted(self) -> bool:
        """Go on with TLS's handshake, reading what there is; True once it is done.

        :raises Violation: see :class:`~stt_backends.websocket.tls.TlsLayer`.
        """
        tls = self._tls
        assert tls is not None
        try:
            self._fill_untrusted(tls)
            return tls.handshake_untrusted()
        finally:
            self._collect(tls)  # an alert, too
            self.flush()

    def _fill_untrusted(self, tls: TlsLayer) -> bool:
        """Give TLS what has arrived; True where nothing ever will again."""
        try:
            data = self._socket.recv(_TLS_READ)
        except BlockingIOError:
            return False
        if data:
            tls.receive_untrusted(data)
        else:
            tls.end()
        return not data

    def _collect(self, tls: TlsLayer) -> None:
        if data := tls.take():
            self._out.append(data)
            self.unsent += len(data)

    # --- reading

    def read_into_untrusted(self, view: memoryview) -> int:
        """What there is, up to the size of ``view``: 0 if that is nothing for now, -1 if nothing ever comes again.

        With TLS, ``view`` must take :data:`READ_SIZE` bytes: what it does not take, no readable socket tells of.

        :raises Violation: see :class:`~stt_backends.websocket.tls.TlsLayer`.
        """
        if self._tls is None:
            try:
                return self._socket.recv_into(view) or -1
            except BlockingIOError:
                return 0
        ended = self._fill_untrusted(self._tls)
        size = self._tls.read_into_untrusted(view)
        return -1 if ended and not size else size

    # --- sending

    def send(self, *pieces: bytes | bytearray) -> int:
        """Queue bytes; :meth:`flush` sends them. Returns what :attr:`unsent` is then."""
        (self._out if self._tls is None else self._clear).extend(pieces)
        self.unsent += sum(map(len, pieces))
        return self.unsent

    def flush(self) -> None:
        """Send what is queued, as far as the system takes it."""
        if self._clear and self._tls is not None:
            clear = b"".join(self._clear)
            self._clear.clear()
            self.unsent -= len(clear)
            self._tls.write(clear)
            self._collect(self._tls)
        out = self._out
        try:
            while out:
                sent = self._socket.send(out[0]) if len(out) == 1 else self._socket.sendmsg(islice(out, _PIECES))
                self.unsent -= sent
                while sent:
                    sent -= len(out[0])
                    if sent < 0:
                        piece = out[0]
                        out[0] = memoryview(piece)[len(piece) + sent :]
                        break
                    out.popleft()
        except BlockingIOError:
            self.wants_write = True
            return
        self.wants_write = False

    def end_sending(self) -> None:
        """After all that is queued: no more comes from here. Call it when :attr:`unsent` is 0."""
        if self._tls is not None:
            self._tls.close()
            self._collect(self._tls)
            self.flush()
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Give the descriptor back. May be called again."""
        self._clear.clear()
        self._out.clear()
        self.unsent = 0
        self.wants_write = False
        self._socket.close()
