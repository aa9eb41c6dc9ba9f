"""The simulated roads come out the same each time, and theory says what its papers say."""

from __future__ import annotations

from math import sqrt

import pytest

from benchmarks import report
from benchmarks.fairness import theory
from benchmarks.fairness.curves import KINDS, STT_CUBIC, STT_NEWRENO, Job
from benchmarks.fairness.road import Road
from benchmarks.rows import Goal, Row


@pytest.mark.parametrize("kind", ["steady", "transfer", "shares", "waiting"])
def test_a_simulation_comes_out_the_same_each_time(kind: str) -> None:
    parties = (STT_CUBIC, STT_NEWRENO) if kind == "shares" else (STT_CUBIC,)
    job = Job(kind, parties, Road(8, 0.01, 0.01), share=0.02)
    first = KINDS[kind](job)
    assert first == KINDS[kind](job)
    assert all(value > 0 for value in first)


def test_reno_is_as_mathis_has_it_where_losses_are_rare() -> None:
    assert theory.reno(1e-5, 0.04) == pytest.approx(sqrt(1.5 / 1e-5), rel=0.01)
    assert theory.reno(0.1, 0.04) < 0.8 * sqrt(1.5 / 0.1), "timeouts count where they are many"


def test_cubic_gets_more_than_reno_where_the_road_is_long_alone() -> None:
    assert theory.cubic(0.01, 0.04) == theory.reno(0.01, 0.04)
    assert theory.cubic(0.0005, 0.2) == pytest.approx(94.3, rel=0.01)
    assert theory.cubic(0.0005, 0.2) > 1.5 * theory.reno(0.0005, 0.2)


def test_nothing_is_faster_than_the_link() -> None:
    assert theory.rate(theory.reno(0.0, 0.04), Road(50, 0.04)) == theory.link(Road(50, 0.04))


def test_the_page_has_a_table_for_each_curve_and_one_for_the_rest() -> None:
    goals = [Goal("a", 1)]
    rows = [
        Row("loss: 1 %", "Mbit/s", 0.0, {"a": [1.0], "b": [2.0]}, goals, 1.0),
        Row("loss: 2 %", "Mbit/s", 0.0, {"a": [0.5], "b": [1.5]}, goals, 2.0),
        Row("shared", "Mbit/s", 0.0, {"a, first": [3.0], "b, joining": [4.0]}),
    ]
    curve, rest = report.roads(rows).split("\n\n")
    assert curve.splitlines() == [
        "| Mbit/s | a | b |",
        "|---|---:|---:|",
        "| 1 % | 1.00 | 2.00 |",
        "| 2 % | 0.50 | 1.50 |",
    ]
    assert rest.splitlines()[2:] == ["| shared, Mbit/s | a, first | 3.00 |", "|  | b, joining | 4.00 |"]
