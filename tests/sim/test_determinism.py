"""The same entropy, inputs and times give the same bytes out, whatever order Python keeps its sets in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.sim import Conditions, Echo, Lab, Traffic

ROOT = Path(__file__).parents[2]


def history(seed: int) -> str:
    """A fingerprint of all that was sent in a scenario with everything in it: many sessions, streams and mishaps."""
    lab = Lab(seed)
    server = lab.endpoint("server", validate_address=True)
    traffic = Traffic(server)
    clients = [lab.endpoint(f"client {number}") for number in range(5)]
    for client in clients:
        conditions = Conditions(0.02, jitter=0.005, loss=0.1, reorder=0.1, duplicate=0.05, corrupt=0.01, rate=1_000_000)
        lab.link(client, server, forth=conditions, back=conditions)
        client.add(Echo())
        client.connect(server)
        client.connect(server, peer_node_id=b"somebody else")
        lab.rebind_every(client, 1.7)
    for stream_id in (None, 3, None, 9):
        traffic.stream(server, 20_000, stream_id=stream_id)
        traffic.messages(server, [b"", bytes(3000)])
    lab.run_for(20.0)
    for host in (server, *clients):
        for session in host.endpoint.sessions():
            session.close(reason=host.name)
    lab.run_for(10.0)
    events = repr([event for host in lab.hosts.values() for event in host.events])
    return f"{len(lab.transcript)} {lab.digest()} {events}"


def test_one_seed_is_one_history_whatever_the_hash_seed() -> None:
    histories = []
    for hash_seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", "from tests.sim.test_determinism import history; print(history(7))"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        histories.append(done.stdout.strip())
    assert histories[0] == histories[1] == history(7)
    assert int(histories[0].split()[0]) > 1000


def test_another_seed_is_another_history() -> None:
    assert history(7) != history(8)
