"""``stt dht`` beside a real node in another process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

import pytest

from tests.cli.command import environment, last_json, stt

CONTENT = "63" * 32
NOBODY = "127.0.0.1:9"
SERVE = """
import sys, anyio
from stt_anyio import KademliaDHT

async def main():
    async with KademliaDHT(port=0, bind_address="127.0.0.1") as first:
        friends = [("127.0.0.1", first.port)]
        async with KademliaDHT(b"Alice", 0, friends, bind_address="127.0.0.1", announced_port=4433) as alice:
            await alice.announce(b"c" * 32)
            print(first.port, first.dht_id.hex(), alice.dht_id.hex(), flush=True)
            await anyio.to_thread.run_sync(sys.stdin.read)

anyio.run(main)
"""


@contextmanager
def dht() -> Iterator[tuple[str, str, str]]:
    """The first node's address and id, and Alice's id."""
    with Popen([sys.executable, "-c", SERVE], stdin=PIPE, stdout=PIPE, env=environment(), text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port, first, alice = process.stdout.readline().split()
        try:
            yield f"127.0.0.1:{port}", first, alice
        finally:
            process.stdin.close()
            process.wait(20)


def test_a_dht_is_asked_who_is_there_and_who_has_what() -> None:
    with dht() as (address, first, alice):
        ping = stt("dht", "ping", address, seed=None)
        assert (ping.returncode, ping.stdout, ping.stderr) == (0, f"{first} {address}\n", "")
        found = last_json(stt("dht", "find", alice, "--bootstrap", address, "--json", seed=None).stdout)
        assert found["ok"] is True
        assert [node["node_id"] for node in found["nodes"]] == [alice, first]
        providers = stt("dht", "providers", CONTENT, "--bootstrap", address, seed=None)
        assert (providers.returncode, providers.stdout) == (0, "Alice 127.0.0.1:4433\n")
        nothing = stt("dht", "providers", first, "--bootstrap", address, "--json", seed=None)
        assert nothing.returncode == 3
        assert last_json(nothing.stdout) == {"ok": False, "nodes": [], "error": "nobody provides this"}


def test_nobody_there_is_told() -> None:
    ping = stt("dht", "ping", NOBODY, seed=None)
    assert (ping.returncode, ping.stdout) == (3, "")
    assert ping.stderr == f"stt: nobody answered at {NOBODY}\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("find", CONTENT), "needs --bootstrap HOST:PORT"),
        (("find", "abc", "--bootstrap", NOBODY), "the id is 'abc', expected 64 hex digits"),
        (("ping", "nowhere"), "the address is 'nowhere'"),
        (("ping", NOBODY, "--bootstrap", NOBODY), "--bootstrap goes with find and providers"),
        (("pong", NOBODY), "invalid choice: 'pong'"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments: tuple[str, ...], reason: str) -> None:
    done = stt("dht", *arguments, seed=None)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
