"""What one command moved and what went wrong: for its last line, and its exit code."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, NamedTuple

from stt_anyio import STTSession
from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.names import for_display
from stt_anyio.cli.output import say
from stt_core.statistics import SessionStatistics

logger = logging.getLogger("stt.cli")


class Moved(NamedTuple):
    """A file that is across: its size, and how many bytes of it an earlier transfer had moved."""

    size: int
    resumed: int


class Summary:
    """Counts what is across, in files and bytes; ``failure`` is what decides the exit code, the first that happened."""

    def __init__(self) -> None:
        self.bytes = 0
        self.resumed = 0
        """Of these, what an earlier transfer had moved."""
        self.files = 0
        self.failed = 0
        self.failure: Failure | None = None
        self.details: dict[str, Any] | None = None
        """What ``--json`` tells of a command that moves no files."""
        self._seconds = 0.0
        self._begun = 0.0
        self._sessions = 0
        self.sessions = 0
        """How many there were."""
        self._statistics: SessionStatistics | None = None
        self._transport = "udp"

    def begin(self) -> None:
        """A session is there; the clock runs while any is."""
        if not self._sessions:
            self._begun = time.monotonic()
        self._sessions += 1
        self.sessions += 1

    def end(self, session: STTSession) -> None:
        """A session has ended: note its figures."""
        self._sessions -= 1
        if not self._sessions:
            self._seconds += time.monotonic() - self._begun
        self._statistics = session.statistics()
        self._transport = session.path.transport

    def add(self, moved: Moved) -> None:
        """One more file is across."""
        self.files += 1
        self.bytes += moved.size
        self.resumed += moved.resumed

    def fail(self, failure: Failure, *, files: int = 0) -> None:
        """Something went wrong, and that many files didn't get across by it: say so at once."""
        self.failed += files
        if self.failure is None:
            self.failure = failure
        logger.debug("a failure", exc_info=failure)
        say(f"stt: {failure}")

    def interrupt(self, failure: Failure) -> None:
        """A signal ended the command, which counts for more than what failed before."""
        self.failure = None
        self.fail(failure)

    @property
    def code(self) -> Exit:
        """The exit code."""
        return Exit.DONE if self.failure is None else self.failure.code

    @property
    def rate(self) -> float:
        """MB (10^6 bytes) a second."""
        return (self.bytes - self.resumed) / self._seconds / 1e6 if self._seconds else 0.0

    def as_json(self) -> str:
        """The one line on stdout that ``--json`` ends with; ``loss`` and ``rtt_ms`` are the last session's."""
        record = {"ok": self.failure is None, **(self._moved() if self.details is None else self.details)}
        if self.failure is not None:
            record["error"] = for_display(str(self.failure))
        return json.dumps(record) + "\n"

    def _moved(self) -> dict[str, Any]:
        statistics = self._statistics
        return {
            "bytes": self.bytes,
            "resumed_bytes": self.resumed,
            "files": self.files,
            "failed": self.failed,
            "seconds": round(self._seconds, 6),
            "mb_s": round(self.rate, 3),
            "transport": self._transport,
            "loss": round(statistics.loss, 6) if statistics else None,
            "rtt_ms": round(statistics.rtt * 1000, 3) if statistics else None,
        }

    def __str__(self) -> str:
        files = f"{self.files} file" if self.files == 1 else f"{self.files} files"
        resumed = f"; {self.resumed:,} bytes of these were there before" if self.resumed else ""
        failed = f"; {self.failed} failed" if self.failed else ""
        return f"{files}, {self.bytes:,} bytes in {self._seconds:.2f} s, {self.rate:.1f} MB/s{resumed}{failed}"
