"""TCP sockets of ``stt forward`` and ``stt serve``, each by itself."""

from __future__ import annotations

import errno
import os
import socket
from typing import cast

import anyio
import pytest

from stt_anyio.cli import tcp
from stt_anyio.cli.tcp import Relay, accept, dial, listen
from stt_core.forwarding import Target
from tests.anyio_adapter.net import LIMIT, two_sessions
from tests.cli.tunnel import HOST, echo, free_port, tcp_server

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_target_is_dialled_by_either_family(host: str) -> None:
    with anyio.fail_after(LIMIT), listen(host, 0) as listener:
        target = Target(host, listener.getsockname()[1])
        assert Target.parse(str(target)) == target
        stream = await dial(target)
        sock, _ = listener.accept()
        with sock:
            await stream.send(b"hello")
            assert sock.recv(10) == b"hello"
            stream.close()


async def test_each_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    # "localhost" is 127.0.0.1 and ::1 on most systems: nothing listens at the first.
    with anyio.fail_after(LIMIT), tcp_server(echo) as port:

        async def several(_host: str, _port: int, **_: object) -> list[object]:
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", free_port(), 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", (HOST, port)),
            ]

        monkeypatch.setattr(anyio, "getaddrinfo", several)
        stream = await dial(Target("several.test", port))
        await stream.send(b"hello")
        assert await stream.receive() == b"hello"
        stream.close()


async def test_a_target_that_refuses_or_has_no_address_is_an_error_of_the_system() -> None:
    with anyio.fail_after(LIMIT):
        with pytest.raises(OSError, match="Connection refused"):
            await dial(Target(HOST, free_port()))
        with pytest.raises(socket.gaierror):
            await dial(Target("nowhere.invalid", 80))


async def test_a_target_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "DIAL_PATIENCE", 0.05)
    with anyio.fail_after(LIMIT), socket.socket() as full:
        full.bind((HOST, 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:  # more than its queue takes: the rest gets no answer
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        with pytest.raises(TimeoutError):
            await dial(Target(HOST, full.getsockname()[1]))
        for sock in waiting:
            sock.close()


class _Exhausted:
    """A listener that has no descriptor left at first, and then one connection that is over before it is taken."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._troubles = [errno.ECONNABORTED, errno.EMFILE]

    def accept(self) -> tuple[socket.socket, object]:
        if self._troubles:
            number = self._troubles.pop()
            raise OSError(number, os.strerror(number))
        return self._listener.accept()


async def test_connections_are_taken_again_after_descriptors_had_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "BREATHER", 0.0)
    told: list[int | None] = []
    with anyio.fail_after(LIMIT), listen(HOST, 0) as listener, socket.create_connection(listener.getsockname()):
        exhausted = cast(socket.socket, _Exhausted(listener))
        (await accept(exhausted, lambda error: told.append(error.errno))).close()
    assert told == [errno.EMFILE]


async def test_a_relay_that_is_cancelled_resets_both_ends() -> None:
    async with two_sessions() as (here, there):
        with listen(HOST, 0) as listener, socket.create_connection(listener.getsockname()) as client:
            sock, _ = listener.accept()
            stream = here.open_byte_stream()
            await stream.send(b"!")
            accepted_stream = await there.accept_stream()
            assert await accepted_stream.receive() == b"!"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Relay(tcp.TcpStream(sock), stream).run)
                await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            with pytest.raises(anyio.BrokenResourceError):
                await accepted_stream.receive()
