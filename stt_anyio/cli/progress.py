"""Progress for people: on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from stt_anyio.cli.names import for_display


class Progress:
    """A bar with rate and time left per file, or nothing at all. Needs rich; without it there is no bar."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._bar: Any = None
        if wanted and sys.stderr.isatty():
            self._bar = _bar()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str, size: int) -> int:
        """Show a file; returns what :meth:`advance` takes."""
        if self._bar is None:
            return 0
        from rich.markup import escape

        return int(self._bar.add_task(escape(for_display(name)), total=size))

    def advance(self, task: int, size: int) -> None:
        """``size`` more bytes are done."""
        if self._bar is not None:
            self._bar.advance(task, size)


def _bar() -> Any:
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return None
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)
