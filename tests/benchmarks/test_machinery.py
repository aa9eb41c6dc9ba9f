"""The benchmarks run, count what they should and end; how fast anything is, no test says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import certificates, report
from benchmarks.peers.interface import Task
from benchmarks.processes import ROOT, measure
from benchmarks.rows import Goal, Row

KIB = 1024
TASKS = [
    Task("transfer", "stt/asyncio", size=600 * KIB, sessions=2, streams=3, datagram=1200),
    Task("transfer", "stt/asyncio", size=64 * KIB, warm=True, link=("100", "0.001", "0.05", "1")),
    Task("transfer", "tls/asyncio", size=600 * KIB),
    Task("echo", "stt/asyncio", size=64, count=20),
    Task("messages", "stt/trio", size=KIB, count=100),
    Task("messages", "stt-trio/trio", size=KIB, count=100),
    Task("handshake", "stt/asyncio", count=4, concurrency=2),
    Task("idle", "stt/asyncio", count=10, concurrency=2),
    Task("churn", "stt/asyncio", size=64, count=40, concurrency=4),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.kind}-{task.library}")
def test_every_workload_goes_through_its_stages(task: Task, tmp_path: Path) -> None:
    certificates.make(tmp_path)
    fields = json.loads(task.to_json()) | {"certificates": str(tmp_path)}
    stages = measure(Task.from_json(json.dumps(fields)))
    assert len(stages) == (3 if task.kind == "idle" else 2)
    for before, after in pairwise(stages):
        assert after.client["cpu"] >= before.client["cpu"]
        assert after.server["cpu"] >= before.server["cpu"]
    assert all(min(stage.client["memory"], stage.server["memory"]) > 1024 * KIB for stage in stages)
    assert set(stages[1].client) > {"cpu", "memory"}, "the stage that counts found something"


def test_a_process_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="client ended with exit code 1"):
        measure(Task("no such workload", "stt/asyncio"))


def test_the_command_prints_what_it_measured() -> None:
    command = [sys.executable, "-m", "benchmarks", "echo", "--quick", "--stacks", "stt/asyncio", "--json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    rows = report.rows_of(json.loads(run.stdout), "echo")
    assert [list(row.values) for row in rows] == [["stt/asyncio"]] * 2
    assert all(row.values["stt/asyncio"][0] > 0 and row.aead > 0 for row in rows)


ROW = Row(
    "a quantity",
    "units",
    0.7,
    {"ours": [10.0, 30.0, 100.0], "theirs": [1.0, 10.0, 20.0]},
    [Goal("ours", 5, "theirs"), Goal("ours", 20, more=False), Goal("ours", 1, "absent")],
)


def test_pairs_are_compared_within_a_run() -> None:
    assert [ROW.reached(goal) for goal in ROW.goals] == [5.0, 30.0, None]


def test_a_goal_is_met_or_missed() -> None:
    met, missed = ROW.verdicts("ours")
    assert met == "5.00 times theirs, wanted at least 5: met"
    assert missed == "30.0, wanted at most 20: MISSED"


def test_a_row_survives_being_stored() -> None:
    assert Row.from_json(json.loads(json.dumps(ROW.to_json()))) == ROW


def test_the_tables_have_every_party_and_the_time_of_the_aead() -> None:
    for table in (report.text([ROW]), report.markdown([ROW])):
        for shown in ("a quantity, units", "ours", "theirs", "30.0", "10.0 to 100", "0.70", "met"):
            assert shown in table


def test_the_figures_take_their_place_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "performance.md"
    original = report.PAGE.read_text(encoding="utf-8")
    page.write_text(original, encoding="utf-8")
    monkeypatch.setattr(report, "PAGE", page)
    report.write_page({"echo": report.result([ROW], ["idle somebody: broke"])}, ["bulk", "echo"])
    written = page.read_text(encoding="utf-8")
    figures = re.compile(re.escape(report.BEGIN) + ".*" + re.escape(report.END), re.DOTALL)
    assert figures.sub("", written) == figures.sub("", original)
    assert "### echo" in written
    assert "### bulk" not in written
    assert "Failed: idle somebody: broke." in written
