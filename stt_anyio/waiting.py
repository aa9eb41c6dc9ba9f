"""How the node's task waits for its socket, its timer or a wake-up, whichever comes first.

Rule: a wake-up is never lost. One that comes while nobody waits ends the next wait at once.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Protocol

import anyio
import anyio.lowlevel

from stt_backends.udp import UdpSocket


class Waiter(Protocol):
    """One task's wait on one socket."""

    async def wait(self, timeout: float | None, *, writable: bool) -> None:
        """Until the socket can be read (or written, if ``writable``), ``timeout`` seconds passed, or :meth:`wake`.

        May end early, as any wait for readiness may.
        """
        ...

    def wake(self) -> None:
        """End the wait that is on, or else the next."""
        ...

    def close(self) -> None:
        """Let go of the socket, before it is closed."""
        ...


class AsyncioWaiter:
    """On asyncio and uvloop: the socket stays registered, which halves what a wait costs.

    :raises RuntimeError: on an event loop that watches no sockets (Windows' default).
    """

    def __init__(self, sock: UdpSocket) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = sock.fileno()
        self._woken = False
        self._waiting: asyncio.Future[None] | None = None
        self._loop.add_reader(self._descriptor, self.wake)

    async def wait(self, timeout: float | None, *, writable: bool) -> None:
        """See :class:`Waiter`."""
        if self._woken:
            self._woken = False
            await asyncio.sleep(0)
            return
        waiting = self._waiting = self._loop.create_future()
        timer = None if timeout is None else self._loop.call_later(timeout, self.wake)
        if writable:
            self._loop.add_writer(self._descriptor, self.wake)
        try:
            await waiting
        finally:
            self._waiting = None
            self._woken = False
            if timer is not None:
                timer.cancel()
            if writable:
                self._loop.remove_writer(self._descriptor)

    def wake(self) -> None:
        """See :class:`Waiter`."""
        self._woken = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """See :class:`Waiter`."""
        self._loop.remove_reader(self._descriptor)


class AnyioWaiter:
    """On every event loop that anyio knows."""

    def __init__(self, sock: UdpSocket) -> None:
        self._socket = sock
        self._woken = False
        self._scope: anyio.CancelScope | None = None

    async def wait(self, timeout: float | None, *, writable: bool) -> None:
        """See :class:`Waiter`."""
        if self._woken:
            self._woken = False
            await anyio.lowlevel.checkpoint()
            return
        ready = anyio.wait_writable if writable else anyio.wait_readable
        with anyio.move_on_after(timeout) as self._scope:
            await ready(self._socket)
        self._scope = None
        self._woken = False

    def wake(self) -> None:
        """See :class:`Waiter`."""
        if not self._woken:
            self._woken = True
            if self._scope is not None:
                self._scope.cancel()

    def close(self) -> None:
        """See :class:`Waiter`."""
        anyio.notify_closing(self._socket)


def on_trio() -> bool:
    """Whether the running event loop is trio's."""
    # Not by sniffio: anyio no longer brings it. A program that runs on trio has imported it.
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def waiter_for(sock: UdpSocket) -> Waiter:
    """What waits best on the running event loop."""
    if not on_trio():
        try:
            return AsyncioWaiter(sock)
        except RuntimeError:
            return AnyioWaiter(sock)
    return AnyioWaiter(sock)
