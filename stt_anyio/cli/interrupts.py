"""Signals that ask the command to end: Ctrl-C, ``kill``, a terminal that goes away.

Rule: outside of the event loop they raise, inside of it they cancel. Either way everything is cleaned up, the peer is
told, and the exit code says which it was. Signals that were ignored when we started (``nohup``) stay so.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from types import FrameType

import anyio

from stt_anyio.cli.failure import Exit, Failure

_OUTCOMES = {
    signal.SIGINT: Failure(Exit.INTERRUPTED, "interrupted"),
    signal.SIGTERM: Failure(Exit.TERMINATED, "terminated"),
    signal.SIGHUP: Failure(Exit.HUNG_UP, "hung up"),
}


class Interrupted(KeyboardInterrupt):
    """One of the signals came; ``failure`` is what that amounts to."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.failure = _OUTCOMES[signal.Signals(number)]


def outcome(interruption: KeyboardInterrupt) -> Failure:
    """What it amounts to, whoever raised it."""
    return interruption.failure if isinstance(interruption, Interrupted) else _OUTCOMES[signal.SIGINT]


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


def _heeded() -> list[signal.Signals]:
    return [number for number in _OUTCOMES if signal.getsignal(number) is not signal.SIG_IGN]


def heed() -> None:
    """From now on they raise :class:`Interrupted`."""
    for number in _heeded():
        signal.signal(number, _raise)


def disregard() -> None:
    """From now on they end the process as they would any other: it has nothing left to clean up or to say."""
    for number in _heeded():
        signal.signal(number, signal.SIG_DFL)


def run(work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` in an event loop.

    :raises Interrupted: if a signal came: then it was cancelled, and has cleaned up after itself.
    """
    try:
        number = anyio.run(_watched, work)
    finally:
        heed()
    if number is not None:
        raise Interrupted(number)


async def _watched(work: Callable[[], Awaitable[None]]) -> int | None:
    """The signal that cancelled ``work``; None where it came to its end."""
    caught: list[int] = []
    done = False

    async def watch(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
        async for number in signals:
            # The first counts. Impatience changes nothing: what is left takes a second or two.
            if not caught:
                caught.append(number)
                scope.cancel()

    with anyio.open_signal_receiver(*_heeded()) as signals:
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(watch, signals, scope)
                await work()
                done = True
            tasks.cancel_scope.cancel()
    return None if done or not caught else caught[0]
