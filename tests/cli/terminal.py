"""The command on a terminal, as a person has it: typed at, looked at, interrupted by a key."""

from __future__ import annotations

import os
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cli.command import PATIENCE, SEED, environment

CTRL_C = b"\x03"
CTRL_D = b"\x04"


class Terminal:
    """A terminal with one process on it. What the process writes is collected as it comes."""

    def __init__(self, process: subprocess.Popen[bytes], master: int, slave: int) -> None:
        self.process = process
        self._master = master
        self._slave = slave
        self.output = bytearray()
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the last who had it open has gone
                return
            with self._more:
                self.output += data
                self._more.notify_all()

    def wait_for(self, text: bytes) -> None:
        """Until ``text`` is on the screen, or was."""
        with self._more:
            assert self._more.wait_for(lambda: text in self.output, PATIENCE), bytes(self.output)

    def type(self, keys: bytes) -> None:
        """As if on the keyboard."""
        os.write(self._master, keys)

    def echoes(self) -> bool:
        """Whether what is typed is shown."""
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def finish(self) -> tuple[int, str]:
        """Wait for the end: exit code, and all that was written, with its control sequences."""
        code = self.process.wait(PATIENCE)
        self.close()
        return code, self.output.decode()

    def close(self) -> None:
        """Give it back."""
        if self._slave >= 0:
            os.close(self._slave)
            self._slave = -1
            self._reader.join()
            os.close(self._master)


@contextmanager
def on_terminal(*arguments: str, seed: str | None = SEED, columns: int = 100, **environ: str) -> Iterator[Terminal]:
    """The command with a terminal for all its streams."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    # A session of its own gets its terminal by opening one.
    start = ["sh", "-c", 'exec "$@" <"$TTY" >"$TTY" 2>&1', "sh", sys.executable, "-m", "stt_anyio", *arguments]
    plain = {name: value for name, value in environment(seed).items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        start, env=plain | {"TERM": "xterm-256color", "TTY": os.ttyname(slave)} | environ, start_new_session=True
    )
    terminal = Terminal(process, master, slave)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        terminal.close()
