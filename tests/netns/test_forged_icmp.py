"""Somebody on no path of ours, who knows one port, forges what routers say of datagrams that are too large."""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

from tests.netns.network import A4, B4, Network

BATCHES = 2000
WAIT = 10.0


def test_a_flood_of_forged_icmp_messages_costs_no_datagram(jumbo: Network) -> None:
    sender, receiver = jumbo.socket("a", A4), jumbo.socket("b", B4)
    command = [*jumbo.prefix("router"), sys.executable, "-m", "tests.netns.forger", A4, f"{sender.address[1]}", B4]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forger:
        assert forger.stdin is not None
        assert forger.stdout is not None
        try:
            assert forger.stdout.readline() == "begun\n"
            arrived = 0
            for _ in range(BATCHES):
                assert sender.send(bytes(20 * 1200), 1200, receiver.address)
                assert sender.receive_error() is None, "nothing said that nobody listens"
                while (batch := receiver.receive()) is not None:
                    arrived += len(batch[0]) // 1200
            while arrived < 20 * BATCHES:
                assert select.select([receiver], [], [], WAIT)[0], f"{arrived} datagrams came"
                while (batch := receiver.receive()) is not None:
                    arrived += len(batch[0]) // 1200
            forger.stdin.close()
            assert int(forger.stdout.readline()) > BATCHES
        finally:
            forger.kill()
    assert sender.losses == {}
    assert sender.too_big == []
    assert arrived == 20 * BATCHES
    assert sender.send(bytes(20 * 1452), 1452, receiver.address)
    assert select.select([receiver], [], [], WAIT)[0]
    batch = receiver.receive()
    assert batch is not None
    assert (len(batch[0]), batch[1]) == (20 * 1452, 1452), "batches leave segmented still"
