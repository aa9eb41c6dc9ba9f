"""``python -m benchmarks [core|bulk] [--json]``: measure, print medians and spread."""

from __future__ import annotations

import argparse
import json
from statistics import median

import anyio

from benchmarks import bulk, core


def _spread(values: list[float]) -> str:
    return f"{median(values):8.2f}  ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Run what was asked for, in turn."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("which", nargs="?", choices=["all", "core", "bulk", "serve"], default="all")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=256)
    arguments = parser.parse_args()
    if arguments.which == "serve":
        anyio.run(bulk.serve)
        return
    figures: dict[str, list[float]] = {}
    if arguments.which in ("all", "core"):
        results = [core.run(arguments.megabytes) for _ in range(arguments.runs)]
        for name in ("aead", "send", "receive", "acknowledge"):
            figures[f"core {name}, µs a packet of 1200 B"] = [getattr(result, name) for result in results]
        for name in ("send", "receive"):
            ratios = [getattr(result, name) / result.aead for result in results]
            figures[f"core {name}, AEAD calls a packet"] = ratios
    if arguments.which in ("all", "bulk"):
        rates = [anyio.run(bulk.run, arguments.megabytes) for _ in range(arguments.runs)]
        figures["bulk over loopback, two processes, 1200 B, asyncio, MB/s"] = rates
    if arguments.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        print(f"{name:58} {_spread(values)}")


main()
