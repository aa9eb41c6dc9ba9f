"""The ``stt`` command as real processes, each ended by its test."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SEED = "a seed only the tests know"
PATIENCE = 120


def environment(seed: str | None = SEED) -> dict[str, str]:
    """This process's, with the seed (or none) and warnings as errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STT_")}
    if seed is not None:
        kept["STT_SHARED_SEED"] = seed
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def stt(*arguments: str, seed: str | None = SEED, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "stt_anyio", *arguments],
        env=environment(seed),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )


def last_json(stdout: str) -> dict[str, Any]:
    """The line ``--json`` ends with."""
    lines = stdout.splitlines()
    assert len(lines) == 1, stdout
    record = json.loads(lines[0])
    assert isinstance(record, dict)
    return record


@dataclass
class Receiver:
    """A running ``stt recv``."""

    process: subprocess.Popen[str]
    port: int
    directory: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, stdout, stderr."""
        stdout, stderr = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, stdout, stderr

    def stored(self) -> list[str]:
        """What stands in its directory."""
        return sorted(path.name for path in self.directory.iterdir())


@contextmanager
def receiving(
    directory: Path, *options: str, seed: str = SEED, prefix: Sequence[str] = (), once: bool = True
) -> Iterator[Receiver]:
    """``stt recv`` on a port of its own, killed at the end if it is still there."""
    command = [*prefix, sys.executable, "-m", "stt_anyio", "recv", str(directory), "--bind", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(
        [*command, "--json", *(["--once"] if once else []), *options],
        env=environment(seed),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.fullmatch(r"listening on .*:(\d+)\n", line)
            assert found, line + process.stderr.read()
            yield Receiver(process, int(found[1]), directory)
        finally:
            if process.poll() is None:
                process.kill()
