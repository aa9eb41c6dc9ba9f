"""The application's callbacks as tasks of trio's.

Rule: what is still running when the node stops gets a moment to finish and is cancelled then.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from stt_backends.adapter.callbacks import CANCEL_PATIENCE, BaseCallbacks

logger = logging.getLogger("stt.node")


class _Running:
    """An asynchronous callback on its way."""

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.scope = trio.CancelScope()
        self.done = trio.Event()


class Callbacks(BaseCallbacks):
    """Runs asynchronous callbacks as system tasks: no nursery of the application's has to stay open for them."""

    def __init__(self) -> None:
        super().__init__()
        self._running: set[_Running] = set()

    def _start(self, callback: Callable[..., Any], result: Awaitable[Any]) -> None:
        running = _Running()

        async def run() -> None:
            try:
                with running.scope:
                    await result
            except Exception:
                logger.exception("a callback failed: %r", callback)
            finally:
                self._running.discard(running)
                running.done.set()

        running.task = trio.lowlevel.spawn_system_task(run)
        self._running.add(running)

    async def finish(self, patience: float) -> None:
        """Wait up to ``patience`` seconds for those still running (except the caller itself), then cancel them."""
        own = trio.lowlevel.current_task()
        others = [running for running in self._running if running.task is not own]
        try:
            with trio.move_on_after(patience):
                for running in others:
                    await running.done.wait()
        finally:
            for running in others:
                running.scope.cancel()
            with trio.move_on_after(CANCEL_PATIENCE, shield=True):
                for running in others:
                    await running.done.wait()
