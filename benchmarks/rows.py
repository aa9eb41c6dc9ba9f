"""Figures: what was measured of whom, and what is wanted of it. Pairs are compared within a run, never across runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Self


@dataclass(frozen=True)
class Goal:
    """What ``party`` should reach: ``limit`` as a value, or as a multiple of what ``against`` has.

    Reached at or above the limit where ``more`` is better, else at or below it.
    """

    party: str
    limit: float
    against: str = ""
    more: bool = True

    def verdict(self, value: float) -> str:
        """What to say of a party that has ``value``, or that multiple."""
        times = f" times {self.against}" if self.against else ""
        bound = "at least" if self.more else "at most"
        met = value >= self.limit if self.more else value <= self.limit
        return f"{figure(value)}{times}, wanted {bound} {self.limit:g}: {'met' if met else 'MISSED'}"


@dataclass(frozen=True)
class Row:
    """One quantity of several parties, a value a run for each. ``aead`` is µs a call, while it was measured, and 0
    where the machine makes no difference. ``at`` is the row's place on a curve.
    """

    title: str
    unit: str
    aead: float
    values: dict[str, list[float]]
    goals: list[Goal] = field(default_factory=list)
    at: float = 0.0

    def reached(self, goal: Goal) -> float | None:
        """The median of the goal's value or ratio over all runs; None where a party was not measured."""
        if goal.party not in self.values or (goal.against and goal.against not in self.values):
            return None
        values = self.values[goal.party]
        if goal.against:
            values = [mine / other for mine, other in zip(values, self.values[goal.against], strict=True)]
        return median(values)

    def verdicts(self, party: str) -> Iterable[str]:
        """What to say of each of a party's goals."""
        for goal in self.goals:
            value = self.reached(goal) if goal.party == party else None
            if value is not None:
                yield goal.verdict(value)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        return cls(**{**found, "goals": [Goal(**goal) for goal in found["goals"]]})


def figure(value: float) -> str:
    """Three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: list[float]) -> str:
    """The least and the largest."""
    return f"{figure(min(values))} to {figure(max(values))}" if len(values) > 1 else "one run"
