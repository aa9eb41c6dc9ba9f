"""``python -m benchmarks [NAME …]``: measure STT beside its peers; print medians, spread, and what is wanted.

Without a name all of them run, for about a quarter of an hour. The latest figures of each are kept in
build/benchmarks.json, and ``--write-docs`` puts those into docs/performance.md, with the plots.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks import certificates, report
from benchmarks.suite import BENCHMARKS, Plan


def main() -> None:
    """Run what was asked for, in turn; what fails is told of at the end, by the exit code too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--runs", type=int, default=5, help="how often each party has its turn (default 5)")
    parser.add_argument("--quick", action="store_true", help="a little of everything, to see that it works")
    parser.add_argument("--stacks", default="", help="only these, and stt-compiled only so: stt,aioquic/asyncio")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--write-docs", action="store_true", help="write the figures kept into the page; run nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if arguments.write_docs:
        from benchmarks import plots  # noqa: PLC0415 - the one thing here that needs matplotlib

        kept = report.load()
        report.write_page(kept, BENCHMARKS)
        plots.draw(kept)
        return
    results: report.Results = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        certificates.make(Path(folder))
        stacks = tuple(filter(None, arguments.stacks.split(",")))
        for name in arguments.names or BENCHMARKS:
            print(f"{name}:", file=sys.stderr)
            plan = Plan(runs=arguments.runs, quick=arguments.quick, stacks=stacks, certificates=folder)
            rows = BENCHMARKS[name](plan)
            results[name] = report.result(rows, plan.failures)
            failures += plan.failures
            if not arguments.json:
                print(f"\n{report.text(rows)}", flush=True)
    if arguments.json:
        print(json.dumps(results))
    if not (arguments.quick or stacks):
        report.store(results)
    sys.exit("\n".join(failures) or None)


if __name__ == "__main__":
    main()
