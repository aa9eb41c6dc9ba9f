"""The examples run as their first lines say, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds after which an example that hangs fails. Nothing waits for it to pass."""


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", f"examples.{name}", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "STT_SHARED_SEED": "a seed of the examples' tests", "PYTHONPATH": str(ROOT)}


@contextmanager
def serving(name: str, port: str = "0") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and the address it says it has."""
    server = subprocess.Popen(
        command(name, "serve", port), stdout=subprocess.PIPE, text=True, env=environment(), cwd=ROOT
    )
    assert server.stdout is not None
    with server, server.stdout:
        try:
            line = server.stdout.readline()
            assert line.startswith("serving on port "), line
            yield server, f"127.0.0.1:{line.split()[-1]}"
        finally:
            server.send_signal(signal.SIGKILL)


def run(name: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        command(name, *arguments), capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_request_response() -> None:
    with serving("request_response") as (_, address):
        answers = run("request_response", "ask", address, "GET /motto", "GET /answer", "GET /nothing")
        assert answers == ["two programs talk privately", "42", "404 not found"]
        assert run("request_response", "ask", address, "GET /answer") == ["42"], "it serves on"


def test_bidirectional() -> None:
    with serving("bidirectional") as (server, address):
        assert run("bidirectional", "call", address) == ["1000 messages, the last: server 999"]
        assert server.stdout is not None
        assert server.stdout.readline() == "1000 messages, the last: client 999\n"


def test_multiplexed() -> None:
    with serving("multiplexed") as (server, address):
        assert run("multiplexed", "call", address) == []
        assert server.stdout is not None
        assert {server.stdout.readline() for _ in range(3)} == {
            "video: 50 messages, 2000000 bytes\n",
            "audio: 100 messages, 40000 bytes\n",
            "chat: 5 messages, 200 bytes\n",
        }


def test_broadcast_to_viewers_who_come_back() -> None:
    with serving("broadcast") as (server, address):
        ticks = run("broadcast", "watch", address, "3")
        numbers = [int(tick.removeprefix("tick ")) for tick in ticks]
        assert numbers == list(range(numbers[0], numbers[0] + 3))
        port = address.rpartition(":")[2]
        viewer = subprocess.Popen(
            command("broadcast", "watch", address, "100000"), stdout=subprocess.PIPE, text=True, env=environment(),
            cwd=ROOT,
        )  # fmt: skip
        assert viewer.stdout is not None
        with viewer, viewer.stdout:
            try:
                assert viewer.stdout.readline().startswith("tick")
                server.send_signal(signal.SIGINT)
                assert server.wait(PATIENCE) == 0
                with serving("broadcast", port):
                    lines = iter(viewer.stdout.readline, "")
                    assert any(line.startswith("lost the server") for line in lines)
                    assert next(lines).startswith("tick")
            finally:
                viewer.send_signal(signal.SIGKILL)
