"""The pictures of docs/performance.md, as SVG: bars of medians with their spread, and curves."""

from __future__ import annotations

from math import log
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks import dht
from benchmarks.report import ROADS, Results, rows_of
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


STYLES: dict[str, dict[str, Any]] = {
    "STT, CUBIC": {"color": OURS, "marker": "o", "linewidth": 2.0},
    "STT, NewReno": {"color": "#61a5c2", "marker": "s"},
    "aioquic, Reno": {"color": "#b56576", "marker": "v"},
    "aioquic, CUBIC": {"color": "#e88c7d", "marker": "^"},
    "theory: CUBIC": {"color": "#333333", "linestyle": "--"},
    "theory: Reno": {"color": "#888888", "linestyle": ":"},
    "pool, by likeness": {"color": OURS, "marker": "o", "linewidth": 2.0},
    "pool, by file name as group": {"color": "#61a5c2", "marker": "s"},
    "pool, by BLAKE2b": {"color": "#a9d6e5", "marker": "D"},
    "in turn": {"color": "#b56576", "marker": "v"},
    "at random": {"color": "#e88c7d", "marker": "^"},
    "used longest ago": {"color": "#a9a9a9", "marker": "x"},
    "the link": {"color": "#cccccc", "linewidth": 4.0, "zorder": 0},
}


def _roads(curves: dict[str, list[Row]]) -> None:
    """A panel for each curve, by what is written below it. Its places are set apart evenly, as there is a 0."""
    curves = {label: rows for label, rows in curves.items() if rows}
    if not curves:
        return
    _, places = plt.subplots(1, len(curves), figsize=(4.6 * len(curves), 3.6), sharey=True, squeeze=False)
    for axes, (label, rows) in zip(places[0], curves.items(), strict=True):
        for party in rows[0].values:
            speeds = [median(row.values[party]) for row in rows]
            axes.plot(range(len(rows)), speeds, label=party, markersize=4, **STYLES.get(party, {}))
        axes.set_xticks(range(len(rows)), [f"{row.at:g}" for row in rows])
        axes.set_xlabel(label)
        axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    places[0][0].set_ylabel(next(iter(curves.values()))[0].unit)
    places[0][0].legend(frameon=False, fontsize=7, loc="lower left")
    _save("roads")


def _affinity(rows: list[Row]) -> None:
    """Hit rates over the size of all caches together, a panel for each way to cut content."""
    panels: dict[str, list[Row]] = {}
    for row in rows:
        if row.at:
            panels.setdefault(row.title.split(", ")[1], []).append(row)
    if not panels:
        return
    _, places = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.4), sharey=True, squeeze=False)
    for axes, (title, curve) in zip(places[0], panels.items(), strict=True):
        for party in curve[0].values:
            rates = [median(row.values[party]) for row in curve]
            axes.plot([100 * row.at for row in curve], rates, label=party, markersize=4, **STYLES[party])
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("all caches together, % of all content")
        axes.spines[["top", "right"]].set_visible(False)
    places[0][0].set_ylabel("bytes found at the peer, %")
    places[0][0].set_ylim(0, 100)
    places[0][0].legend(frameon=False, fontsize=7, loc="lower right")
    _save("affinity")


def _hops(rows: list[Row]) -> None:
    """How far look-ups go, over the size of the network, beside a logarithm."""
    rows = [row for row in rows if row.title.startswith(dht.HOPS)]
    if not rows:
        return
    sizes = [row.at for row in rows]
    hops = [median(row.values["look-up"]) for row in rows]
    slope = (hops[-1] - hops[0]) / log(sizes[-1] / sizes[0])
    plt.figure(figsize=(4.2, 2.6))
    plt.plot(
        sizes, [hops[0] + slope * log(size / sizes[0]) for size in sizes], label="a logarithm", **STYLES["theory: Reno"]
    )
    plt.plot(sizes, hops, color=OURS, marker="o", label=dht.HOPS)
    plt.xscale("log")
    plt.ylim(bottom=0)
    plt.xlabel("nodes")
    plt.legend(frameon=False, fontsize=7, loc="lower right")
    plt.gca().spines[["top", "right"]].set_visible(False)
    _save("dht-hops")


def _lookup() -> None:
    """One look-up among a thousand nodes: who named whom, and how near each is."""
    heard = dht.one_lookup()
    order: dict[int, int] = {}
    places = []
    for depth, bits, _, _ in heard:
        order[depth] = order.get(depth, 0) + 1
        places.append((depth + 0.6 * (order[depth] % 29) / 29, bits))
    plt.figure(figsize=(7.5, 3.6))
    for (x, y), (_, _, voucher, _) in zip(places, heard, strict=True):
        if voucher is not None:
            plt.plot([places[voucher][0], x], [places[voucher][1], y], color="#dddddd", linewidth=0.4, zorder=0)
    for label, chosen, colour in (("heard of", False, OTHERS), ("among the 20 nearest, and answered", True, OURS)):
        dots = [place for place, (*_, found) in zip(places, heard, strict=True) if found is chosen]
        plt.scatter([x for x, _ in dots], [y for _, y in dots], s=9, color=colour, label=label)
    depths = sorted(order)
    plt.xticks([depth + 0.3 for depth in depths], ["known before", *(f"named at hop {depth}" for depth in depths[1:])])
    plt.ylabel("distance to the target, bits")
    plt.legend(frameon=False, fontsize=7, loc="lower left")
    plt.gca().spines[["top", "right"]].set_visible(False)
    _save("dht-lookup")


def draw(results: Results) -> None:
    """Write every picture for which there are results."""
    FOLDER.mkdir(exist_ok=True)
    _beside("bulk", rows_of(results, "bulk"))
    _beside("latency", rows_of(results, "echo")[:1] + rows_of(results, "messages"))
    _beside("handshake", rows_of(results, "handshake")[:2])
    _flatness([row for row in rows_of(results, "streams") if "1" in row.values])
    _affinity(rows_of(results, "affinity"))
    _hops(rows_of(results, "dht"))
    _lookup()
    roads = rows_of(results, ROADS)
    _roads(
        {
            "lost each way, % (50 Mbit/s, 40 ms)": [row for row in roads if row.title.startswith("loss: ")],
            "round trip, ms (50 Mbit/s, 0.1 % lost)": [row for row in roads if row.title.startswith("distance: ")],
        }
    )
