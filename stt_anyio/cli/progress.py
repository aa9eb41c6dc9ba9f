"""Progress for people: on stderr, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from stt_anyio.cli.names import for_display
from stt_backends.adapter.fetching import FetchProgress, spelled


class Progress:
    """A bar with rate and time left for each file under way, or nothing at all. Needs rich; without it there is no bar.

    One serves any number of sessions at once: each holds it in a ``with`` of its own.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        self._bars: Any = _bars() if wanted and sys.stderr.isatty() else None
        self._users = 0

    def __enter__(self) -> Self:
        if self._bars is not None and not self._users:
            self._bars.start()
        self._users += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._bars is not None and not self._users:
            self._bars.stop()

    @contextmanager
    def file(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        """A bar for a file of ``size`` bytes; gives what to call with the number of bytes that are done in addition."""
        bars = self._bars
        if bars is None:
            yield lambda _: None
            return
        task = bars.add_task(for_display(name), total=size)
        try:
            yield lambda done: bars.advance(task, done)
        finally:
            bars.remove_task(task)

    @contextmanager
    def content(self, name: str) -> Iterator[Callable[[FetchProgress], None]]:
        """A bar for a content, and one for each peer that brings some of it; gives what to tell how far it is."""
        bars = self._bars
        tasks: dict[object, Any] = {}

        def show(progress: FetchProgress) -> None:
            if bars is None or progress.size is None:
                return
            rows: list[tuple[object, str, int]] = [(None, for_display(name), progress.done)]
            rows += [(peer.node, f"  {spelled(peer.node)}", peer.received) for peer in progress.peers]
            for key, text, done in rows:
                if key not in tasks:
                    tasks[key] = bars.add_task(text, total=progress.size)
                bars.update(tasks[key], completed=done)

        try:
            yield show
        finally:
            for task in tasks.values():
                bars.remove_task(task)


def _bars() -> Any:
    try:
        from rich import progress
        from rich.console import Console
        from rich.table import Column
    except ImportError:
        return None
    console = Console(stderr=True)
    if not console.is_interactive:  # a terminal that can't redraw a line
        return None
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,  # what is done is told by a line that stays
        redirect_stdout=False,
        expand=True,
    )
