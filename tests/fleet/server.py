"""A Redis server of a test's own, on a socket in a directory of its own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

PROGRAM = shutil.which("redis-server")


class RedisServer:
    """Started when entered, gone with all it wrote when left; between these it may be stopped, killed and restarted.

    With a ``port`` it listens at 127.0.0.1, too.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._place = tempfile.TemporaryDirectory(prefix="stt")  # pytest's own may be too long for a socket's address
        self._process: subprocess.Popen[str] | None = None
        self.url = f"unix://{self._place.name}/socket"

    def start(self, *options: str) -> None:
        """Run it until it serves; with ``--appendonly yes`` it remembers what it was told before it was killed."""
        assert PROGRAM is not None
        where = Path(self._place.name)
        command = [PROGRAM, "--port", str(self._port), "--bind", "127.0.0.1"]
        command += ["--unixsocket", str(where / "socket"), "--dir", str(where), "--save", ""]
        self._process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "ready to accept connections" in line.lower():
                return
        raise AssertionError(f"redis-server ended: {''.join(said)}")

    def pause(self) -> None:
        """It is there, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def unpause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """At once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        if PROGRAM is None:
            pytest.skip("there is no redis-server: install Debian's package redis-server, or: make test, as root")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._place.cleanup()
