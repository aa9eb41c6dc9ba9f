"""``stt serve`` and ``stt forward`` as real processes, with TCP servers and clients of the test's at the ends."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from threading import Thread

from tests.cli.command import PATIENCE, SEED, listening_port, running

HOST = "127.0.0.1"
Handler = Callable[[socket.socket], None]


def echo(sock: socket.socket) -> None:
    """Say everything back, and the end."""
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


@contextmanager
def tcp_server(handle: Handler = echo, backlog: int = 512) -> Iterator[int]:
    """A server of the test's, a thread for each connection; gives its port."""
    with socket.create_server((HOST, 0), backlog=backlog) as listener:
        threads: list[Thread] = []

        def serve_one(sock: socket.socket) -> None:
            with sock, suppress(ConnectionError):
                handle(sock)

        def accept() -> None:
            with suppress(OSError):  # at the end, when the listener is shut down
                while True:
                    sock, _ = listener.accept()
                    sock.settimeout(PATIENCE)
                    threads.append(Thread(target=serve_one, args=(sock,)))
                    threads[-1].start()

        accepting = Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """One that nothing listens at."""
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


@dataclass
class Tunnel:
    """A running ``stt forward``."""

    process: subprocess.Popen[str]
    port: int
    server: subprocess.Popen[str]
    """The ``stt serve`` it goes through."""

    def connect(self) -> socket.socket:
        """A TCP connection into it."""
        return socket.create_connection((HOST, self.port), timeout=PATIENCE)

    def hear(self, pattern: str) -> str:
        """The next line that ``forward`` says, which must match."""
        return heard(self.process, pattern)


def heard(process: subprocess.Popen[str], pattern: str) -> str:
    """The next line that a process says, which must match."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert re.search(pattern, line), line
    return line


@contextmanager
def serving(*options: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``stt serve --json``, and the port it listens on."""
    with running("serve", "--bind", HOST, "--json", *options, **environ) as process:
        port = listening_port(process)
        heard(process, "^allowed: ")
        yield process, port


@contextmanager
def forwarding(
    server: subprocess.Popen[str], address: str, target: str, *options: str, seed: str = SEED
) -> Iterator[Tunnel]:
    """``stt forward --json`` from a free port of this machine to ``target`` by way of ``address``."""
    with running("forward", "0", address, target, "--json", *options, seed=seed) as process:
        port = listening_port(process)
        heard(process, "^forwarding to ")
        yield Tunnel(process, port, server)


@contextmanager
def tunnel(target: str, *options: str) -> Iterator[Tunnel]:
    """Both, for one target that is allowed."""
    with serving("--allow", target, *options) as (server, port), forwarding(server, f"{HOST}:{port}", target) as made:
        yield made


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end."""
    parts = []
    while data := sock.recv(1 << 18):
        parts.append(data)
    return b"".join(parts)


def reset(sock: socket.socket) -> None:
    """Close it by a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def is_reset(sock: socket.socket) -> bool:
    """Wait for its end: whether that is a reset, and not a good one."""
    with closing(sock):
        try:
            return not sock.recv(1) and False
        except ConnectionResetError:
            return True
