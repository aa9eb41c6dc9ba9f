"""Tasks of the node's own, and the application's callbacks.

Rule: what is still running when the node stops gets a moment to finish and is cancelled then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio

from stt_anyio.parking import on_trio
from stt_backends.adapter.callbacks import CANCEL_PATIENCE, BaseCallbacks

logger = logging.getLogger("stt.node")

_tasks: set[asyncio.Task[None]] = set()
# asyncio itself keeps no more than a weak reference to a task.


def spawn(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run in the background of the event loop, whether or not the caller is inside a task group."""
    if on_trio():
        import trio  # noqa: PLC0415 - only there where it is the running library

        trio.lowlevel.spawn_system_task(run)
        return
    task = asyncio.get_running_loop().create_task(run())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


class _Running:
    """An asynchronous callback on its way."""

    def __init__(self) -> None:
        self.task_id: int | None = None
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()


class Callbacks(BaseCallbacks):
    """Runs asynchronous callbacks as tasks."""

    def __init__(self) -> None:
        super().__init__()
        self._running: set[_Running] = set()

    def _start(self, callback: Callable[..., Any], result: Awaitable[Any]) -> None:
        running = _Running()
        self._running.add(running)

        async def run() -> None:
            running.task_id = anyio.get_current_task().id
            try:
                with running.scope:
                    await result
            except Exception:
                logger.exception("a callback failed: %r", callback)
            finally:
                self._running.discard(running)
                running.done.set()

        try:
            spawn(run)
        except RuntimeError:
            self._running.discard(running)
            raise

    async def finish(self, patience: float) -> None:
        """Wait up to ``patience`` seconds for those still running (except the caller itself), then cancel them."""
        own = anyio.get_current_task().id
        others = [running for running in self._running if running.task_id != own]
        try:
            with anyio.move_on_after(patience):
                for running in others:
                    await running.done.wait()
        finally:
            for running in others:
                running.scope.cancel()
            with anyio.move_on_after(CANCEL_PATIENCE, shield=True):
                for running in others:
                    await running.done.wait()
