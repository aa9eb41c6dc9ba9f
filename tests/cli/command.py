"""The ``stt`` command as real processes, each ended by its test."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SEED = "a seed only the tests know"
PATIENCE = 100
"""Seconds: less than a whole test may take."""


def environment(seed: str | None = SEED) -> dict[str, str]:
    """This process's, with the seed (or none), the streams as users have them, and warnings as errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STT_")}
    kept.pop("PYTHONUNBUFFERED", None)
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


def errors(stderr: str) -> list[str]:
    """What went wrong, line by line; the lines that tell what goes well are dropped, and a trace would not be."""
    return [line for line in stderr.splitlines() if not re.match("listening on |received |sent |process ", line)]


@contextmanager
def running(
    *arguments: str, seed: str | None = SEED, prefix: Sequence[str] = (), **environ: str
) -> Iterator[subprocess.Popen[str]]:
    """The command in the background, with pipes for all it says; killed at the end if it is still there."""
    with subprocess.Popen(
        [*prefix, sys.executable, "-m", "stt_anyio", *arguments],
        env=environment(seed) | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for its end: exit code, stdout, stderr."""
    stdout, stderr = process.communicate(timeout=PATIENCE)
    return process.returncode, stdout, stderr


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
        return outcome(self.process)

    def interrupt(self) -> tuple[int, str, str]:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.finish()

    def stored(self) -> list[str]:
        """What stands in its directory."""
        return sorted(path.name for path in self.directory.iterdir())

    def wait_for_part(self, name: str) -> None:
        """Until the first bytes of a file are there, which is long before the last of a large one."""
        part = self.directory / f"{name}.stt.part"
        while not part.exists() or part.stat().st_size == 0:
            assert self.process.poll() is None
            assert not (self.directory / name).exists()


@contextmanager
def receiving(
    directory: Path, *options: str, seed: str = SEED, prefix: Sequence[str] = (), once: bool = True, **environ: str
) -> Iterator[Receiver]:
    """``stt recv --json`` on a port of its own."""
    arguments = ["recv", str(directory), "--bind", "127.0.0.1", "--json", *(["--once"] if once else []), *options]
    with running(*arguments, seed=seed, prefix=prefix, **environ) as process:
        yield Receiver(process, listening_port(process), directory)


def listening_port(process: subprocess.Popen[str]) -> int:
    """The port that a receiver says it listens on."""
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.fullmatch(r"listening on .*:(\d+)\n", line)
    assert found, line + process.stderr.read()
    return int(found[1])
