"""Real processes on the loopback, each a node."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(("count", "how"), [(50, []), (16, ["private"])], ids=["50, in the open", "16, in sessions"])
def test_processes_find_what_each_of_them_announced(count: int, how: list[str]) -> None:
    """Fifty in sessions take 16 seconds, 11 of CPU (``python -m tests.dht.many 50 private``)."""
    command = [sys.executable, "-m", "tests.dht.many", str(count), *how]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    told = json.loads(run.stdout)
    others = count - 1
    assert len({report["port"] for report in told["joined"]}) == others
    assert min(report["stored"] for report in told["announced"]) >= 10
    assert [report["found"] for report in told["searched"]] == [[f"peer {(n + 1) % others}"] for n in range(others)]
    assert set(told["codes"]) == {0}
