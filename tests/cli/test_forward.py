"""TCP through a session between two real processes: what one end does, the other end sees."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import pytest

from tests.cli.command import PATIENCE, last_json, outcome
from tests.cli.files import KIB, MIB
from tests.cli.tunnel import (
    HOST,
    echo,
    forwarding,
    free_port,
    heard,
    is_reset,
    read_all,
    reset,
    serving,
    tcp_server,
    tunnel,
)


def test_what_is_said_is_echoed_and_counted() -> None:
    with tcp_server() as port, tunnel(f"{HOST}:{port}") as through:
        with through.connect() as sock:
            for word in (b"hello", b"again"):
                sock.sendall(word)
                assert sock.recv(100) == word
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock) == b""
        records = []
        for process in (through.process, through.server):
            process.send_signal(signal.SIGINT)
            code, stdout, _ = outcome(process)
            assert code == 130
            records.append(last_json(stdout))
    for record in records:
        assert (record["connections"], record["refused"]) == (1, 0)
        assert (record["bytes_sent"], record["bytes_received"]) == (10, 10)
    assert records[0]["transport"] == "udp"


def test_a_half_that_is_closed_leaves_the_other_open_in_both_directions() -> None:
    def answer_after_the_end(sock: socket.socket) -> None:
        sock.sendall(b"asked: " + read_all(sock))

    def end_first(sock: socket.socket) -> None:
        sock.sendall(b"speak")
        sock.shutdown(socket.SHUT_WR)
        arrived.put(read_all(sock))

    arrived: SimpleQueue[bytes] = SimpleQueue()
    with tcp_server(answer_after_the_end) as port, tunnel(f"{HOST}:{port}") as through, through.connect() as sock:
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"asked: question"
    with tcp_server(end_first) as port, tunnel(f"{HOST}:{port}") as through:
        with through.connect() as sock:
            assert read_all(sock) == b"speak"
            sock.sendall(b"long after your end")
        assert arrived.get(timeout=PATIENCE) == b"long after your end"


def test_a_reset_is_one_at_the_other_end() -> None:
    def wait(sock: socket.socket) -> None:
        sock.sendall(b"!")
        ends.put(is_reset(sock))

    def reset_at_once(sock: socket.socket) -> None:
        sock.recv(1)
        reset(sock)

    ends: SimpleQueue[bool] = SimpleQueue()
    with tcp_server(wait) as port, tunnel(f"{HOST}:{port}") as through:
        sock = through.connect()
        assert sock.recv(1) == b"!"
        reset(sock)
        assert ends.get(timeout=PATIENCE)
    with tcp_server(reset_at_once) as port, tunnel(f"{HOST}:{port}") as through:
        sock = through.connect()
        sock.sendall(b"?")
        assert is_reset(sock)
        through.hear("was reset: the connection broke at the other end")


def test_a_target_that_can_not_be_reached_is_a_reset_and_one_line_on_each_side() -> None:
    target = f"{HOST}:{free_port()}"
    with tunnel(target) as through:
        assert is_reset(through.connect())
        assert through.hear("") == f"stt: a connection to {target} was reset: the other side can't reach it\n"
        assert heard(through.server, "") == f"stt: can't reach {target}: Connection refused\n"


@pytest.mark.parametrize("allowed", [[], ["localhost:{}", f"{HOST}:1", "[::1]:{}"]], ids=["nothing", "others"])
def test_a_target_that_is_not_allowed_is_never_connected_to(allowed: list[str]) -> None:
    def connected(_: socket.socket) -> None:
        connections.append(True)

    connections: list[bool] = []
    with tcp_server(connected) as port:
        options = [option for target in allowed for option in ("--allow", target.format(port))]
        with serving(*options) as (server, udp), forwarding(server, f"{HOST}:{udp}", f"{HOST}:{port}") as through:
            assert is_reset(through.connect())
            through.hear("was reset: the other side doesn't allow connections to it$")
            assert heard(server, "") == f"stt: refused a connection to {HOST}:{port}: it is not allowed\n"
    assert connections == []


def test_two_hundred_connections_at_once() -> None:
    with tcp_server() as port, tunnel(f"{HOST}:{port}") as through, ExitStack() as stack:
        socks = [stack.enter_context(through.connect()) for _ in range(200)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%d" % number)
        for number, sock in enumerate(socks):
            assert sock.recv(100) == b"%d" % number
            sock.sendall(bytes(100_000))
            sock.shutdown(socket.SHUT_WR)
        assert all(len(read_all(sock)) == 100_000 for sock in socks)


def test_much_goes_both_ways_at_once_and_arrives_equal() -> None:
    size = 32 * MIB
    up, down = os.urandom(size), os.urandom(size)

    def exchange(sock: socket.socket) -> None:
        sending = Thread(target=sock.sendall, args=(down,))
        sending.start()
        arrived.put(read_all(sock))
        sending.join()

    def send_and_end(sock: socket.socket) -> None:
        sock.sendall(up)
        sock.shutdown(socket.SHUT_WR)

    arrived: SimpleQueue[bytes] = SimpleQueue()
    with tcp_server(exchange) as port, tunnel(f"{HOST}:{port}") as through, through.connect() as sock:
        sending = Thread(target=send_and_end, args=(sock,))
        sending.start()
        assert read_all(sock) == down
        sending.join()
        assert arrived.get(timeout=PATIENCE) == up


def test_who_does_not_read_stops_who_sends_and_holds_up_nobody_else() -> None:
    def flood_if_asked(sock: socket.socket) -> None:
        if sock.recv(1) == b"e":
            echo(sock)
            return
        sock.setblocking(False)
        sent = 0
        while select.select([], [sock], [], 1.0)[1]:
            sent += sock.send(bytes(1 << 16))
        stopped.put(sent)

    stopped: SimpleQueue[int] = SimpleQueue()
    with tcp_server(flood_if_asked) as port, tunnel(f"{HOST}:{port}") as through, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(through.connect()).sendall(b"f")
        for _ in range(4):
            assert stopped.get(timeout=PATIENCE) < 32 * MIB
        for process in (through.process, through.server):
            assert resident(process.pid) < 150 * MIB
        with through.connect() as sock:
            sock.sendall(b"echo")
            assert sock.recv(100) == b"cho"


def resident(pid: int) -> int:
    """Bytes of memory a process has, at most so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * KIB
