"""The pictures of docs/performance.md, as SVG: bars of medians with their spread."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.report import Results, rows_of
from benchmarks.rows import Row

FOLDER = Path(__file__).parent.parent / "docs" / "performance"
OURS, OTHERS = "#2a6f97", "#a9a9a9"
# The same results give the same bytes, and text stays text: small, and searchable.
mpl.rcParams.update({"svg.hashsalt": "stt", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"})


def _save(name: str) -> None:
    plt.tight_layout()
    plt.savefig(FOLDER / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close()


def _bars(axes: Axes, row: Row) -> None:
    parties = list(row.values)
    middles = [median(values) for values in row.values.values()]
    below = [middle - min(values) for middle, values in zip(middles, row.values.values(), strict=True)]
    above = [max(values) - middle for middle, values in zip(middles, row.values.values(), strict=True)]
    colours = [OURS if party.startswith("stt") else OTHERS for party in parties]
    axes.barh(parties, middles, xerr=[below, above], color=colours, error_kw={"linewidth": 0.8})
    axes.invert_yaxis()
    axes.set_xlabel(row.unit)
    axes.set_title(row.title, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _beside(name: str, rows: list[Row]) -> None:
    if not rows:
        return
    deepest = max(len(row.values) for row in rows)
    _, places = plt.subplots(1, len(rows), figsize=(4.2 * len(rows), 0.7 + 0.3 * deepest), squeeze=False)
    for axes, row in zip(places[0], rows, strict=True):
        _bars(axes, row)
    _save(name)


def _flatness(rows: list[Row]) -> None:
    if not rows:
        return
    plt.figure(figsize=(4.2, 2.6))
    for row in rows:
        numbers = [int(party.replace(",", "")) for party in row.values]
        plt.plot(numbers, [median(values) for values in row.values.values()], marker="o", label=row.title)
    plt.xscale("log")
    plt.ylim(bottom=0)
    plt.ylabel(rows[0].unit)
    plt.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1))
    plt.gca().spines[["top", "right"]].set_visible(False)
    _save("flatness")


def draw(results: Results) -> None:
    """Write every picture for which there are results."""
    FOLDER.mkdir(exist_ok=True)
    _beside("bulk", rows_of(results, "bulk"))
    _beside("latency", rows_of(results, "echo")[:1] + rows_of(results, "messages"))
    _beside("handshake", rows_of(results, "handshake")[:2])
    _flatness([row for row in rows_of(results, "streams") if "1" in row.values])
