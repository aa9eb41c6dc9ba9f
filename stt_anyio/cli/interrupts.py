"""Signals that ask the command to end: Ctrl-C, ``kill``, a terminal that goes away.

Rule: the first counts; impatience changes nothing, as what is left to do takes a second or two. Outside of the event
loop it raises, inside of it it cancels. Either way everything is cleaned up, the peer is told, and the exit code says
which signal it was. Signals that were ignored when we started (``nohup``) stay so.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
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


class Signals:
    """What this process does about them. There is one handler from the first line to the last: an event loop's own
    leave gaps before and after, in which a signal ends the process with nothing cleaned up."""

    def __init__(self) -> None:
        self._caught: int | None = None
        self._act: Callable[[int], object] = _raise

    def heed(self) -> None:
        """From now on the first that comes ends the command."""
        for number in _heeded():
            signal.signal(number, self._handle)

    def disregard(self) -> None:
        """From now on they change nothing: the outcome is told, and Python's own end is not to be disturbed."""
        for number in _heeded():
            signal.signal(number, signal.SIG_IGN)

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` in an event loop.

        :raises Interrupted: if a signal came before its end: then it was cancelled, and has cleaned up after itself.
        """
        done = False

        async def cancellable() -> None:
            nonlocal done
            loop = asyncio.get_running_loop()
            with anyio.CancelScope() as scope:
                self._act = lambda _: loop.call_soon_threadsafe(scope.cancel)
                if self._caught is not None:
                    scope.cancel()
                try:
                    await work()
                    done = True
                finally:
                    self._act = _note

        self._act = _note
        try:
            anyio.run(cancellable)
        except Exception as error:
            if self._caught is None:
                raise
            raise Interrupted(self._caught) from error  # whatever it was, the signal began it
        finally:
            self._act = _raise
        if self._caught is not None and not done:
            raise Interrupted(self._caught)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._caught is None:
            self._caught = number
            self._act(number)


def _heeded() -> list[signal.Signals]:
    return [number for number in _OUTCOMES if signal.getsignal(number) is not signal.SIG_IGN]


def _raise(number: int) -> None:
    raise Interrupted(number)


def _note(_: int) -> None:
    """Whoever is about to act, or to end, will see that it was caught."""


signals = Signals()
"""Those of this process."""
