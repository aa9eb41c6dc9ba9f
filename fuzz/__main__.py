"""``python -m fuzz --seconds N [target …]``: fuzz each target in turn, N seconds in all.

With atheris installed the inputs are chosen by coverage; without it, by the seeded mutator of ``fuzz.mutate``. New
inputs go to a temporary directory and never to the committed corpus. A finding is written to ``fuzz/findings/`` and
makes the exit code 1; ``python -m fuzz --replay FILE target`` runs it again.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from fuzz.mutate import mutations
from fuzz.registry import Target, corpus, targets

FINDINGS = Path(__file__).with_name("findings")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    known = targets()
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz the protocol's ways in.")
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(known)}; all by default")
    parser.add_argument("--seconds", type=float, default=30.0, help="for all of them together (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default 1)")
    parser.add_argument("--engine", choices=("auto", "atheris", "seeded"), default="auto")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this one input instead")
    options = parser.parse_args(arguments)
    names = options.targets or list(known)
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(known)}")
    if options.replay is not None:
        for name in names:
            known[name](options.replay.read_bytes())
        return 0
    atheris = find_spec("atheris") is not None if options.engine == "auto" else options.engine == "atheris"
    FINDINGS.mkdir(exist_ok=True)
    broken = [name for name in names if not _fuzz(name, options.seconds / len(names), options.seed, atheris=atheris)]
    if not any(FINDINGS.iterdir()):
        FINDINGS.rmdir()
    if broken:
        print(f"broken: {', '.join(broken)}; the inputs are in {FINDINGS}", file=sys.stderr)
    return 1 if broken else 0


def _fuzz(name: str, seconds: float, seed: int, *, atheris: bool) -> bool:
    """Fuzz one target; whether it held."""
    print(f"{name}: {seconds:.0f} s", flush=True)
    if not atheris:
        return _run_seeded(name, targets()[name], seconds, seed)
    command = [sys.executable, "-m", "fuzz.coverage", name, str(seconds), str(seed), str(FINDINGS)]
    return subprocess.run(command, check=False).returncode == 0


def _run_seeded(name: str, target: Target, seconds: float, seed: int) -> bool:
    until = time.monotonic() + seconds
    for runs, data in enumerate(mutations(corpus(name), seed), 1):
        try:
            target(data)
        except Exception:  # noqa: BLE001 - whatever it is, it is the finding
            path = FINDINGS / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
            path.write_bytes(data)
            print(f"{name}: broken after {runs} runs: python -m fuzz --replay {path} {name}", file=sys.stderr)
            return False
        if time.monotonic() >= until:
            print(f"{name}: {runs} runs held", flush=True)
            break
    return True


if __name__ == "__main__":
    sys.exit(main())
