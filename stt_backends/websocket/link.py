"""One WebSocket connection on a non-blocking socket: from the connect, or the accept, to its close.

Rule: nothing here waits. Whoever holds a link calls :meth:`Link.receive` when its socket is readable,
:meth:`Link.write` when it is writable while :attr:`Link.wants_write`, and :meth:`Link.handle_timer` when
:attr:`Link.deadline` is due. Every stage has a deadline but one: an open connection lives as long as its session.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from stt_backends.websocket.errors import CloseCode, FrameViolation, UpgradeFailed, UpgradeRefused
from stt_backends.websocket.framing import MAX_FRAME, Datagram, Framing
from stt_backends.websocket.proxy import Tunnel
from stt_backends.websocket.upgrade import ClientUpgrade, ServerUpgrade
from stt_backends.websocket.url import ProxyUrl, WebSocketUrl
from stt_backends.websocket.wire import READ_SIZE, Wire
from stt_core.errors import ConnectError, ConnectionRefusedError, ConnectionTimeoutError, Violation
from stt_core.types import Path

MAX_UNSENT: Final = 256 * 1024
"""Bytes given to a link and not yet taken by the system above which it is full."""
FLUSH_AT: Final = 128 * 1024
"""Bytes worth a system call while more is being made."""
CLOSE_PATIENCE: Final = 1.0
"""Seconds for the other side to answer our Close frame, before the socket closes anyway."""
_NO_STATUS: Final = 1005
"""What a Close frame without a code counts as; it may not be sent (RFC 6455 section 7.4.1)."""


class Stage(Enum):
    """How far a link is; the value says what a client is waiting for."""

    CONNECTING = "the TCP connection"
    PROXY_TLS = "TLS with the proxy"
    TUNNEL = "the proxy's answer"
    TLS = "TLS"
    UPGRADE = "the answer to the WebSocket upgrade"
    OPEN = "open"
    CLOSING = "closing"
    OVER = "over"


class Scratch:
    """The buffer that links share for reading: what is in it counts until the next read of any."""

    __slots__ = ("buffer", "view")

    def __init__(self) -> None:
        self.buffer = bytearray(READ_SIZE + MAX_FRAME)
        self.view = memoryview(self.buffer)


@dataclass(frozen=True, slots=True)
class Target:
    """What a client's link is to reach: ``address`` is the system's, of ``url``'s host or of the ``proxy``.

    ``tls`` is the context for a ``wss`` URL, ``proxy_tls`` that for an ``https`` proxy.
    """

    url: WebSocketUrl
    family: int
    address: tuple[Any, ...]
    proxy: ProxyUrl | None = None
    tls: ssl.SSLContext | None = None
    proxy_tls: ssl.SSLContext | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.url}" if self.proxy is None else f"{self.url} through {self.proxy}"


class Link:
    """Made by :meth:`connect` or :meth:`accept`. ``path`` is its name in the core."""

    __slots__ = (
        "_framing", "_scratch", "_server", "_target", "_tls", "_tunnel", "_upgrade", "_wire", "deadline", "failure",
        "full", "on_end", "on_request", "path", "stage", "trouble",
    )  # fmt: skip

    def __init__(self, wire: Wire, path: Path, scratch: Scratch, deadline: float, *, client: bool) -> None:
        self.path = path
        self.stage = Stage.CONNECTING
        self.deadline: float | None = deadline
        """When :meth:`handle_timer` is due, monotonic seconds."""
        self.failure: ConnectError | None = None
        """Why a client's link never opened, for whoever asked for it."""
        self.trouble = ""
        """Why it is closing or over."""
        self.full = False
        """Whether the core was told that this takes nothing for now; for whoever tells it."""
        self.on_end: Callable[[Link], None] | None = None
        """Called when it is over, right before its socket is closed: nobody may wait for a descriptor that is gone."""
        self.on_request: Callable[[Link, list[bytes]], None] | None = None
        """Called with the X-Forwarded-For headers of a client's request before it is answered; may change :attr:`path`,
        or raise UpgradeRefused."""
        self._wire = wire
        self._scratch = scratch
        self._framing = Framing(client=client)
        self._target: Target | None = None
        self._server: ServerUpgrade | None = None
        self._tls: ssl.SSLContext | None = None
        self._tunnel: Tunnel | None = None
        self._upgrade: ClientUpgrade | None = None

    @classmethod
    def connect(cls, target: Target, serial: int, scratch: Scratch, deadline: float) -> Link:
        """Begin to connect; see :attr:`stage` and :attr:`failure` for how it goes. Raises nothing."""
        path = Path("websocket", (*target.address[:2], serial))
        wire = Wire(socket.socket(target.family, socket.SOCK_STREAM))
        link = cls(wire, path, scratch, deadline, client=True)
        link._target, link._tls = target, target.tls
        error = wire.connect(target.address)
        if error not in (0, errno.EINPROGRESS):
            link._end(f"can't connect: {os.strerror(error)}", error)
        return link

    @classmethod
    def accept(
        cls,
        sock: socket.socket,
        path: Path,
        scratch: Scratch,
        deadline: float,
        upgrade: ServerUpgrade,
        tls: ssl.SSLContext | None,
    ) -> Link:
        """Serve an accepted socket.

        :raises OSError: if it is over already.
        """
        link = cls(Wire(sock), path, scratch, deadline, client=False)
        link._server, link._tls = upgrade, tls
        link._begin_tls()
        return link

    def __repr__(self) -> str:
        return f"<Link {self.path.address}, {self.stage.name.lower()}>"

    # --- what a pump wants to know

    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is over."""
        return self._wire.fileno()

    @property
    def wants_read(self) -> bool:
        """Whether to call :meth:`receive` once the socket is readable."""
        return self.stage is not Stage.CONNECTING

    @property
    def wants_write(self) -> bool:
        """Whether to call :meth:`write` once the socket is writable."""
        return self.stage is Stage.CONNECTING or self._wire.wants_write

    @property
    def calm(self) -> bool:
        """Whether it is open, and neither is nor was about to be full: nobody need be told anything."""
        return self.stage is Stage.OPEN and not (self._wire.wants_write or self.full)

    @property
    def over(self) -> bool:
        """Whether its socket is closed."""
        return self.stage is Stage.OVER

    @property
    def unsent(self) -> int:
        """Bytes given to this and not yet taken by the system."""
        return self._wire.unsent

    # --- beginning

    def _begin(self, target: Target) -> None:
        """A client's socket is connected."""
        try:
            if target.proxy is None:
                self._begin_tls()
            elif target.proxy_tls is None:
                self._begin_tunnel(target.proxy, target.url)
            else:
                self.stage = Stage.PROXY_TLS
                self._wire.start_tls(target.proxy_tls, target.proxy.host)
                self._wire.handshake_untrusted()
        except OSError as error:
            self._end(f"the connection broke: {error.strerror or error}", error.errno or 0)
        except Violation as error:
            self._end(error.reason)

    def _begin_tunnel(self, proxy: ProxyUrl, url: WebSocketUrl) -> None:
        self.stage = Stage.TUNNEL
        self._tunnel = Tunnel(proxy, url.host, url.port)
        self._send(self._tunnel.request)

    def _begin_tls(self) -> None:
        if self._tls is None:
            self._begin_upgrade()
            return
        self.stage = Stage.TLS
        self._wire.start_tls(self._tls, None if self._target is None else self._target.url.host)
        if self._target is not None:
            self._wire.handshake_untrusted()  # which begins with the client's hello

    def _begin_upgrade(self) -> None:
        self.stage = Stage.UPGRADE
        if self._target is not None:
            self._upgrade = ClientUpgrade(self._target.url)
            self._send(self._upgrade.request)

    def _open(self, early: bytes) -> None:
        self.stage = Stage.OPEN
        self._tunnel = self._upgrade = self._server = self._tls = None
        self._framing.rest = early
        if self._target is not None:
            self.deadline = None  # a server's goes on until the other side has made itself known

    # --- reading

    def receive(self, now: float) -> list[Datagram]:
        """The socket is readable: the datagrams that came, valid until any link that shares the scratch reads again."""
        found: list[Datagram] = []
        try:
            while self.stage in _OPENING and self._step_untrusted():
                continue
            if self.stage is Stage.OPEN:
                self._receive_frames_untrusted(found)
                self._after_frames(now)
            elif self.stage is Stage.CLOSING:
                self._discard()
        except OSError as error:
            self._end(f"the connection broke: {error.strerror or error}", error.errno or 0)
        except UpgradeRefused as error:
            self._send(error.response)
            self._start_closing(error.reason, now)
        except FrameViolation as error:
            self.close(error.close_code, error.reason, now)
        except Violation as error:
            self._end(error.reason)
        return found

    def _step_untrusted(self) -> bool:
        """One read of what comes before frames; True to try another."""
        if self.stage in (Stage.TLS, Stage.PROXY_TLS):
            return self._step_tls_untrusted()
        size = self._wire.read_into_untrusted(self._scratch.view[:READ_SIZE])
        if size <= 0:
            if size < 0:
                self._end("the other side closed the connection")
            return False
        data = bytes(self._scratch.view[:size])
        if self.stage is Stage.TUNNEL and self._tunnel is not None:
            behind = self._tunnel.receive_untrusted(data)
            if behind:
                raise UpgradeFailed("the proxy sent what nobody asked for, before the tunnel was used")
            if behind is not None:
                self._begin_tls()
        elif self._upgrade is not None:
            early = self._upgrade.receive_untrusted(data)
            if early is not None:
                self._open(early)
        elif self._server is not None:
            answer = self._server.receive_untrusted(data)
            if answer is not None:
                if self.on_request is not None:
                    self.on_request(self, self._server.forwarded_for)
                self._open(b"")
                self._send(answer)
        return True

    def _step_tls_untrusted(self) -> bool:
        if not self._wire.handshake_untrusted():
            return False
        target = self._target
        if self.stage is Stage.PROXY_TLS and target is not None and target.proxy is not None:
            self._begin_tunnel(target.proxy, target.url)
        else:
            self._begin_upgrade()
        return True

    def _receive_frames_untrusted(self, found: list[Datagram]) -> None:
        framing, scratch = self._framing, self._scratch
        rest = len(framing.rest)
        if rest:
            scratch.buffer[:rest] = framing.rest
        size = self._wire.read_into_untrusted(scratch.view[rest : rest + READ_SIZE])
        if size + rest > 0:
            framing.receive_untrusted(scratch.buffer, rest + max(size, 0), found)
        if size < 0 and framing.closed_by_peer is None:
            self._end("the other side closed the connection")

    def _after_frames(self, now: float) -> None:
        if self.stage is not Stage.OPEN:
            return
        if (pong := self._framing.take_pong()) is not None and self.unsent <= MAX_UNSENT:
            self._send(pong)
        if self._framing.closed_by_peer is not None:
            code, reason = self._framing.closed_by_peer
            self.close(CloseCode.NORMAL if code == _NO_STATUS else code, "", now)
            self.trouble = f"the other side closed it ({code}{': ' if reason else ''}{reason!a:.100})"

    def _discard(self) -> None:
        """Read on after the end, so that the system does not answer with a reset, which would overtake our words."""
        size = self._wire.read_into_untrusted(self._scratch.view[:READ_SIZE])
        if size < 0:
            self._end(self.trouble)

    # --- sending

    def queue(self, datagram: bytes) -> None:
        """Take a datagram to be sent; it leaves by :meth:`flush`, or earlier."""
        if self.stage is Stage.OPEN:
            unsent = self._wire.send(*self._framing.encode(datagram))
            if unsent >= FLUSH_AT and not self._wire.wants_write:
                self.flush()

    def _send(self, data: bytes) -> None:
        self._wire.send(data)
        self._wire.flush()

    def flush(self) -> None:
        """Send what is queued, as far as the system takes it."""
        try:
            self._wire.flush()
        except OSError as error:
            self._end(f"the connection broke: {error.strerror or error}", error.errno or 0)

    def write(self) -> None:
        """The socket is writable."""
        if self.stage is Stage.CONNECTING and self._target is not None:
            error = self._wire.connected()
            if error:
                self._end(f"can't connect: {os.strerror(error)}", error)
                return
            self._begin(self._target)
            return
        self.flush()
        if self.stage is Stage.CLOSING:
            self._finish_sending()

    # --- the end

    def close(self, code: int, reason: str, now: float) -> None:
        """Send what was given, say farewell, and be over within :data:`CLOSE_PATIENCE`; at once if it never opened."""
        if self.stage is Stage.OPEN:
            self._wire.send(self._framing.close(code, reason))
            self._start_closing(reason, now)
        elif self.stage is not Stage.CLOSING:
            self._end(reason)

    def _start_closing(self, reason: str, now: float) -> None:
        self.stage = Stage.CLOSING
        self.trouble = reason
        self.deadline = now + CLOSE_PATIENCE
        self.flush()
        self._finish_sending()

    def _finish_sending(self) -> None:
        if self.stage is Stage.CLOSING and not self.unsent:
            try:
                self._wire.end_sending()
            except (OSError, ssl.SSLError):
                self._end(self.trouble)

    def abort(self, reason: str) -> None:
        """Be over, at once."""
        self._end(reason)

    def handle_timer(self) -> None:
        """The deadline is due: what was waited for did not come."""
        if self.stage is Stage.CLOSING:
            self._end(self.trouble)
        else:
            self._end(f"no {self.stage.value} in time", errno.ETIMEDOUT)

    def _end(self, reason: str, number: int = 0) -> None:
        if self.stage is Stage.OVER:
            return
        if self._target is not None and self.stage in _OPENING:
            self.failure = self._explain(self._target, reason, number)
        self.stage = Stage.OVER
        self.trouble = reason
        self.deadline = None
        if self.on_end is not None:
            self.on_end(self)
        self._wire.close()

    def _explain(self, target: Target, reason: str, number: int) -> ConnectError:
        """What to raise at whoever wanted to connect: what was tried, what came of it, what to do."""
        if number == errno.ETIMEDOUT:
            return ConnectionTimeoutError(f"{target.name}: {self.stage.value} did not come in time")
        if number == errno.ECONNREFUSED:
            where = f"{target.url}" if target.proxy is None else f"the proxy {target.proxy}"
            return ConnectionRefusedError(f"nothing listens at {where}: is it running, and is the port right?")
        if target.url.host in reason or (self.stage is Stage.TUNNEL and f"{target.proxy}" in reason):
            return ConnectError(reason)
        return ConnectError(f"{target.name}: {reason}, while waiting for {self.stage.value}")


_OPENING: Final = frozenset((Stage.CONNECTING, Stage.PROXY_TLS, Stage.TUNNEL, Stage.TLS, Stage.UPGRADE))
