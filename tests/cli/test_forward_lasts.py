"""TCP connections outlive what happens to the session's addresses, network and processes."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.cli.command import last_json, outcome
from tests.cli.tunnel import HOST, forwarding, free_port, heard, is_reset, serving, tcp_server
from tests.fleet.server import RedisServer
from tests.support.relay import RelayProcess


class RedisCli:
    """``redis-cli`` over one connection, which it would replace by itself if that broke."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.number = self.ask("CLIENT ID")
        """What the server calls the connection."""

    def ask(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def redis_cli(port: int) -> Iterator[RedisCli]:
    with subprocess.Popen(
        ["redis-cli", "-h", HOST, "-p", str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield RedisCli(process)
        finally:
            process.kill()


def test_redis_notices_nothing_of_a_nat_that_forgets() -> None:
    redis_port = free_port()
    target = f"{HOST}:{redis_port}"
    with (
        RedisServer(redis_port),
        serving("--allow", target) as (server, port),
        RelayProcess((HOST, port)) as relay,
        forwarding(server, f"{HOST}:{relay.address[1]}", target) as through,
        redis_cli(through.port) as cli,
    ):
        for number in range(1, 301):
            assert cli.ask("INCR counted") == str(number)
            if number % 100 == 50:
                relay.rebind()
        assert cli.ask("CLIENT ID") == cli.number
        assert relay.stop()["rebound"] == 3


def test_redis_notices_nothing_of_a_migration_to_websocket() -> None:
    redis_port = free_port()
    target = f"{HOST}:{redis_port}"
    with (
        RedisServer(redis_port),
        serving("--allow", target, "--transport", "both") as (server, port),
        RelayProcess((HOST, port)) as relay,
        forwarding(server, f"{HOST}:{relay.address[1]}", target, "--fallback", f"ws://{HOST}:{port}/") as through,
        redis_cli(through.port) as cli,
    ):
        assert cli.ask("INCR counted") == "1"
        relay.pause()
        for number in range(2, 102):
            assert cli.ask("INCR counted") == str(number)
        assert cli.ask("CLIENT ID") == cli.number
        through.process.send_signal(signal.SIGINT)
        _, stdout, _ = outcome(through.process)
    record = last_json(stdout)
    assert (record["transport"], record["resumed"], record["renewed"]) == ("websocket", 0, 0)


def say_and_hear(sock: socket.socket, word: bytes) -> bool:
    sock.sendall(word)
    return sock.recv(len(word), socket.MSG_WAITALL) == word


def test_connections_go_on_after_a_sleep_and_a_lost_network_and_new_ones_after_a_restart() -> None:
    # Three stories at once, as each takes the 10 s until silence is noticed.
    with tcp_server() as echo, ExitStack() as stack:
        target = f"{HOST}:{echo}"
        server, port = stack.enter_context(serving("--allow", target))
        networks = [stack.enter_context(RelayProcess((HOST, port))) for _ in range(2)]
        sleeper, lost = (
            stack.enter_context(forwarding(server, f"{HOST}:{network.address[1]}", target)) for network in networks
        )
        dead, dead_port = stack.enter_context(serving("--allow", target))
        orphan = stack.enter_context(forwarding(dead, f"{HOST}:{dead_port}", target))
        socks = [stack.enter_context(through.connect()) for through in (sleeper, lost, orphan)]
        for sock in socks:
            assert say_and_hear(sock, b"before")

        for network in networks:
            network.pause()
        sleeper.process.send_signal(signal.SIGSTOP)
        dead.kill()
        dead.wait()
        stack.enter_context(serving("--allow", target, "--port", str(dead_port)))
        socks[1].sendall(b"during")
        for _ in range(2):
            heard(server, "^a client fell silent; its connections are kept$")
        sleeper.process.send_signal(signal.SIGCONT)
        for through, network in zip((sleeper, lost), networks, strict=True):
            through.hear("^lost .*; trying again$")
            network.unpause()

        assert socks[1].recv(6, socket.MSG_WAITALL) == b"during"
        for through, sock in zip((sleeper, lost), socks[:2], strict=True):
            assert say_and_hear(sock, b"after")
            through.process.send_signal(signal.SIGINT)
            code, stdout, _ = outcome(through.process)
            assert (code, last_json(stdout)["resumed"], last_json(stdout)["renewed"]) == (130, 1, 0)

        assert is_reset(socks[2])
        orphan.hear("^lost .*; trying again$")
        orphan.hear("is back, in a new session; the connections of the last one are lost$")
        orphan.hear("^stt: a connection to .* was reset: ")
        with orphan.connect() as sock:
            assert say_and_hear(sock, b"anew")
