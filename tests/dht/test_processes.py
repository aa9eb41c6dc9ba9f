"""Fifty real processes on the loopback, each a node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_fifty_processes_find_what_each_of_them_announced() -> None:
    command = [sys.executable, "-m", "tests.dht.many", "50"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    told = json.loads(run.stdout)
    assert len({report["port"] for report in told["joined"]}) == 49
    assert min(report["stored"] for report in told["announced"]) >= 10
    assert [report["found"] for report in told["searched"]] == [[f"peer {(n + 1) % 49}"] for n in range(49)]
    assert set(told["codes"]) == {0}
