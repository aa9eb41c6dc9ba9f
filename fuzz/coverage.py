"""One target under atheris, chosen by coverage: ``python -m fuzz.coverage TARGET SECONDS SEED FINDINGS``.

A process of its own for each target, started by ``python -m fuzz``: libFuzzer ends the process when it is done.
"""

from __future__ import annotations

import io
import sys
import tempfile
from contextlib import redirect_stderr

import atheris

# Only what is imported in here is watched: the protocol, not the libraries under it. It is announced module by module.
with (
    redirect_stderr(io.StringIO()),
    atheris.instrument_imports(include=["stt_core", "stt_backends", "fuzz"], enable_loader_override=False),
):
    from fuzz.mutate import LARGEST
    from fuzz.registry import CORPUS, targets


def main(name: str, seconds: float, seed: int, findings: str) -> None:
    """Fuzz; does not return."""
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as found:
        arguments = [
            *("-timeout=30", "-rss_limit_mb=2048", "-verbosity=0", "-print_final_stats=1"),
            *(f"-max_len={LARGEST}", f"-max_total_time={max(1, round(seconds))}", f"-seed={seed}"),
            *(f"-artifact_prefix={findings}/{name}-", found, str(CORPUS / name)),
        ]
        atheris.Setup([sys.argv[0], *arguments], targets()[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
