"""What a packet costs the core, in calls, is what was committed: it neither creeps up nor comes down unnoticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.guard import TOLERANCE, committed, differences, measure, table

ROOT = Path(__file__).parent.parent.parent
ADVICE = """
If that is what the change was for, commit to it:  python -m benchmarks.guard --write
If not, python -m benchmarks.guard shows each cost again, without the tests around it."""


def test_a_packet_costs_what_was_committed() -> None:
    costs, agreed = measure(), committed()
    assert not (found := differences(costs, agreed)), "\n".join([*found, table(costs, agreed), ADVICE])


@pytest.mark.parametrize("factor", [1 + TOLERANCE + 0.01, 1 - TOLERANCE - 0.01])
def test_a_cost_that_moved_either_way_is_told(factor: float) -> None:
    agreed = committed()
    for name in agreed:
        assert [line for line in differences({**agreed, name: agreed[name] * factor}, agreed) if line.startswith(name)]


def test_a_cost_that_only_one_side_knows_is_told() -> None:
    assert differences({"new": 1.0}, {}) == ["new is measured only"]
    assert differences({}, {"old": 1.0}) == ["old is committed only"]


def test_one_more_call_for_each_packet_of_bulk_data_is_enough() -> None:
    agreed = committed()
    for name in ("bulk send", "bulk receive"):
        assert differences({**agreed, name: agreed[name] + 1}, agreed)


def test_the_order_of_hashes_changes_nothing() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-m", "benchmarks.guard"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout
        for seed in ("0", "1", "4294967295")
    }
    assert len(said) == 1
    assert said != {""}
