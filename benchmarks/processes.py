"""Runs a task in two processes of its own and collects what they say. Whatever happens, both are ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.peers import COMPILED, COMPILED_PYTHON
from benchmarks.peers.interface import Task

ROOT = Path(__file__).parent.parent
PATIENCE = 300.0
"""Seconds a process may live."""


class Process:
    """``python -m MODULE ARGUMENTS``, spoken to in lines: JSON from it, empty ones to it.

    ``compiled``: with the Python of the compiled build, which must not find the sources first.
    """

    def __init__(self, module: str, *arguments: str, compiled: bool = False) -> None:
        self._name = f"{module} {arguments[0]}"
        self._process = subprocess.Popen(
            [COMPILED_PYTHON if compiled else sys.executable, "-m", module, *arguments],
            env=os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": ""} if compiled else None,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._timer = threading.Timer(PATIENCE, self._process.kill)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._process.kill()
        with self._process:  # closes the pipes and waits
            pass

    def go_on(self) -> None:
        """Send the line that the process waits for."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def read(self) -> dict[str, Any] | None:
        """The next line; None when the process has ended well.

        :raises RuntimeError: when it has ended badly, or took longer than ``PATIENCE``.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            said: dict[str, Any] = json.loads(line)
            return said
        if self._process.wait() != 0:
            raise RuntimeError(f"{self._name} ended with exit code {self._process.returncode}")
        return None

    def ask(self) -> dict[str, Any]:
        """The answer to an empty line.

        :raises RuntimeError: when there is none.
        """
        self.go_on()
        return self.expect()

    def expect(self) -> dict[str, Any]:
        """The next line.

        :raises RuntimeError: when there is none.
        """
        said = self.read()
        if said is None:
            raise RuntimeError(f"{self._name} has ended without a word")
        return said


@dataclass(frozen=True)
class Stage:
    """What both processes had to say at the end of a stage: ``cpu`` (seconds), ``memory`` (bytes), and findings."""

    client: dict[str, Any]
    server: dict[str, Any]


def measure(task: Task) -> list[Stage]:
    """Run ``task``: a server, a client, and the link it names between them.

    :raises RuntimeError: when a process fails or takes too long.
    """
    stages: list[Stage] = []
    compiled = task.library == COMPILED
    with ExitStack() as running:
        server = running.enter_context(Process("benchmarks.worker", "server", task.to_json(), compiled=compiled))
        port = int(server.expect()["port"])
        if task.link:
            between = running.enter_context(Process("benchmarks.link", str(port), *task.link))
            port = int(between.expect()["port"])
        arguments = ("client", task.to_json(), str(port))
        client = running.enter_context(Process("benchmarks.worker", *arguments, compiled=compiled))
        while (found := client.read()) is not None:
            stages.append(Stage(found, server.ask()))
            client.go_on()
    return stages
