"""TCP connections of this machine, and how one goes through a stream.

Rule: what one side of a connection sees, the other sees: its bytes, the end of one half, a reset. Nothing is read from
either side before the other had room for what was read last, so a connection holds no more than what flow control, one
piece and the sockets' buffers do.

The sockets are plain ones: the streams of event loops end by a FIN what should be reset, which looks like a good end.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import anyio.lowlevel

from stt_anyio import ByteStream, StreamResetError
from stt_core.forwarding import Refusal, Target

PIECE = 256 * 1024
"""Bytes read from a socket at once."""
DIAL_PATIENCE = 10.0
"""Seconds that connecting to one target may take, over all addresses of its host."""
BREATHER = 1.0
"""Seconds without a descriptor or memory to accept another connection, before the next look."""
BACKLOG = 128
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class TcpStream:
    """A connection. ``sock`` is connected; it is closed by :meth:`close` or :meth:`reset`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what came as one piece leaves as one
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def receive(self) -> bytes:
        """The next bytes; none at the end.

        No checkpoint where they are there already: the stream they go to sees to it that others have their turns.

        :raises OSError: if the connection broke.
        """
        while True:
            try:
                return self._socket.recv(PIECE)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)

    async def send(self, data: bytes) -> None:
        """Send all of it.

        :raises OSError: if the connection broke.
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)

    def send_eof(self) -> None:
        """End the sending half.

        :raises OSError: if the connection broke.
        """
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break it: the other side gets a reset, and not an end that looks good."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self.close()

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


async def dial(target: Target) -> TcpStream:
    """A connection to ``target``, by the first address of its host that takes one.

    :raises OSError: what was wrong with the last of them. ``TimeoutError``, if it takes too long.
    """
    with anyio.fail_after(DIAL_PATIENCE):
        found = await anyio.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        failure: OSError = OSError(errno.EADDRNOTAVAIL, "the host has no address")
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                await _connect(sock, address)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return TcpStream(sock)
        raise failure


async def _connect(sock: socket.socket, address: tuple[str, int] | tuple[str, int, int, int]) -> None:
    sock.setblocking(False)
    with suppress(BlockingIOError):
        sock.connect(address)
    await anyio.wait_writable(sock)
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at that numeric address; port 0 is any free one.

    :raises OSError: if it can't be had.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


async def accept(listener: socket.socket, on_exhausted: Callable[[OSError], None]) -> TcpStream:
    """The next connection that comes to ``listener``; ``on_exhausted`` is told when it can't be taken yet."""
    await anyio.lowlevel.checkpoint()
    while True:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            await anyio.wait_readable(listener)
        except OSError as error:
            if error.errno in _EXHAUSTED:
                on_exhausted(error)
                await anyio.sleep(BREATHER)
            # Anything else is of one connection, which was over before it was taken (accept(2)).
        else:
            return TcpStream(sock)


class Relay:
    """One connection through one stream, until both directions have ended or either broke. Counts bytes."""

    def __init__(self, tcp: TcpStream, stream: ByteStream) -> None:
        self._tcp = tcp
        self._stream = stream
        self.outward = 0
        """Bytes from the connection into the stream."""
        self.inward = 0
        self.failure: OSError | None = None
        """What broke it."""

    @property
    def code(self) -> int | None:
        """The other side's code, where it was the other side that broke it."""
        return self.failure.code if isinstance(self.failure, StreamResetError) else None

    async def run(self) -> None:
        """Carry it. Afterwards the connection is closed, and :attr:`failure` tells how."""
        try:
            async with anyio.create_task_group() as tasks:
                self._scope = tasks.cancel_scope
                tasks.start_soon(self._half, self._carry_outward)
                tasks.start_soon(self._half, self._carry_inward)
        except BaseException:
            self._break()
            raise
        if self.failure is not None:
            self._break()
            return
        self._tcp.close()
        await self._stream.aclose()

    def _break(self) -> None:
        self._tcp.reset()
        self._stream.reset(Refusal.BROKEN)

    async def _half(self, carry: Callable[[], Awaitable[None]]) -> None:
        try:
            await carry()
        except OSError as error:  # which all errors of streams and sessions are, too
            if self.failure is None:
                self.failure = error
            self._scope.cancel()

    async def _carry_outward(self) -> None:
        while data := await self._tcp.receive():
            await self._stream.send(data)
            self.outward += len(data)
        await self._stream.send_eof()

    async def _carry_inward(self) -> None:
        while True:
            try:
                data = await self._stream.receive(PIECE)
            except anyio.EndOfStream:
                break
            await self._tcp.send(data)
            self.inward += len(data)
        self._tcp.send_eof()
