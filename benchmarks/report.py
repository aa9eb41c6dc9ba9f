"""Results as text, as JSON, and as the tables of docs/performance.md."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.rows import Row, figure, spread

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "build" / "benchmarks.json"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- figures: written by python -m benchmarks --write-docs -->", "<!-- end of figures -->"
ROADS_BEGIN, ROADS_END = "<!-- roads: written by python -m benchmarks --write-docs -->", "<!-- end of roads -->"
ROADS = "fairness"
"""The benchmark with a section of its own: it is not timed, so neither machine nor AEAD matter to it."""
LIBRARIES = ("anyio", "trio", "uvloop", "cryptography", "aioquic", "qh3", "websockets")

Results = dict[str, Any]
"""By benchmark: ``rows``, ``failures``, and ``machine`` and ``taken``, which tell where and when."""


def machine() -> dict[str, str]:
    """What the figures depend on, by name."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    found = {"processor": f"{model}, {os.cpu_count()} cores", "Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def result(rows: list[Row], failures: list[str]) -> Results:
    """What is stored of one benchmark."""
    taken = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"taken": taken, "machine": machine(), "rows": [row.to_json() for row in rows], "failures": failures}


def rows_of(results: Results, name: str) -> list[Row]:
    """The rows stored of a benchmark, none where it wasn't run."""
    return [Row.from_json(row) for row in results.get(name, {}).get("rows", [])]


def load() -> Results:
    """What was measured so far, the latest of each benchmark."""
    if not RESULTS.exists():
        return {}
    found: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def store(results: Results) -> None:
    """Keep ``results`` beside those of other benchmarks."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**load(), **results}, indent=1) + "\n", encoding="utf-8")


def text(rows: Iterable[Row]) -> str:
    """The table for a terminal."""
    lines = []
    for row in rows:
        lines.append(f"{row.title}, {row.unit}" + (f"  (an AEAD call took {row.aead:.2f} µs)" if row.aead else ""))
        for party, values in row.values.items():
            verdicts = "; ".join(row.verdicts(party))
            lines.append(f"  {party:32} {figure(median(values)):>9}   {spread(values):22} {verdicts}".rstrip())
    return "\n".join(lines)


def markdown(rows: Iterable[Row]) -> str:
    """The table for the page."""
    lines = ["| | | median | least to largest | AEAD, µs | |", "|---|---|---:|---:|---:|---|"]
    for row in rows:
        title, aead = f"{row.title}, {row.unit}", f"{row.aead:.2f}"
        for party, values in row.values.items():
            verdicts = "; ".join(row.verdicts(party)).replace("MISSED", "**missed**")
            lines.append(f"| {title} | {party} | {figure(median(values))} | {spread(values)} | {aead} | {verdicts} |")
            title = aead = ""
    return "\n".join(lines)


def roads(rows: Iterable[Row]) -> str:
    """A table for each curve, with a column for each party, and one for the rest."""
    curves: dict[str, list[Row]] = {}
    rest = ["| | | |", "|---|---|---:|"]
    for row in rows:
        curve, colon, title = row.title.partition(": ")
        if colon and row.goals:
            curves.setdefault(curve, []).append(replace(row, title=title))
            continue
        title = f"{row.title}, {row.unit}"
        for party, values in row.values.items():
            rest.append(f"| {title} | {party} | {figure(median(values))} |")
            title = ""
    parts = []
    for of_curve in curves.values():
        parties = list(of_curve[0].values)
        lines = [f"| {of_curve[0].unit} | {' | '.join(parties)} |", "|---|" + "---:|" * len(parties)]
        lines += [
            f"| {row.title} | {' | '.join(figure(median(row.values[party])) for party in parties)} |"
            for row in of_curve
        ]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "\n".join(rest)])


def _put(page: str, begin: str, end: str, content: str) -> str:
    """The page with ``content`` between two marks.

    :raises ValueError: where the page has no such marks.
    """
    before, first, rest = page.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"{PAGE.name} has no place for the figures")
    return f"{before}{begin}\n\n{content}\n{end}{after}"


def write_page(results: Results, order: Iterable[str]) -> None:
    """Put the tables of all benchmarks between the marks of docs/performance.md; what has no results stays.

    :raises ValueError: where the page has no marks.
    """
    page = PAGE.read_text(encoding="utf-8")
    if rows := rows_of(results, ROADS):
        version_of = results[ROADS]["machine"].get("aioquic")
        table = (f"With aioquic {version_of}.\n\n" if version_of else "") + roads(rows) + "\n"
        page = _put(page, ROADS_BEGIN, ROADS_END, table)
    timed = {name: found for name, found in results.items() if name != ROADS}
    if timed:
        page = _put(page, BEGIN, END, _figures(timed, order))
    PAGE.write_text(page, encoding="utf-8")


def _figures(results: Results, order: Iterable[str]) -> str:
    parts = []
    for name in order:
        if rows := rows_of(results, name):
            failures = "".join(f"\nFailed: {failure}.\n" for failure in results[name]["failures"])
            parts.append(f"### {name}\n\n{markdown(rows)}\n{failures}")
    machines = {json.dumps(found["machine"]): found["machine"] for found in results.values()}
    dates = sorted({found["taken"] for found in results.values()})
    where = "; ".join(", ".join(f"{name} {value}" for name, value in found.items()) for found in machines.values())
    taken = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return f"Taken {taken}: {where}.\n\n{chr(10).join(parts)}"
