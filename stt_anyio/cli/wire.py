"""The way between the two processes of ``stt demo``: it carries UDP until half of the file has passed, then nothing.

Rule: it is a thread of its own that knows nothing of STT, as a network does. It ends with its ``with`` block, and with
the process in any case.
"""

from __future__ import annotations

import select
import socket
import time
from threading import Thread
from types import TracebackType
from typing import Self

from stt_backends.udp import UdpSocket
from stt_backends.udp_address import Address

BATCHES = 8
"""System calls for one direction before the other has its turn."""
PATIENCE = 5.0
"""Seconds for the thread to end, when it is told to."""


class Wire:
    """Carries datagrams between whoever sends to ``address`` and ``to``, until ``limit`` bytes went there."""

    def __init__(self, to: Address, limit: int) -> None:
        self._to = to
        self._limit = limit
        # Deaf to refusals: there is nobody to tell.
        self._near = UdpSocket(to[0], report_errors=False)
        self._far = UdpSocket(to[0], report_errors=False)
        self._client: Address | None = None
        self._stop, self._stopped = socket.socketpair()
        self._thread = Thread(target=self._run, daemon=True)
        self.address = self._near.address
        self.carried = 0
        """Bytes that reached ``to``."""
        self.cut_at: float | None = None
        """When it went silent, monotonic seconds."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.close()
        self._thread.join(PATIENCE)
        for sock in (self._stopped, self._near, self._far):
            sock.close()

    def _run(self) -> None:
        sources: list[socket.socket | UdpSocket] = [self._stopped, self._near, self._far]
        while True:
            ready, _, _ = select.select(sources, [], [])
            if self._stopped in ready:
                return
            for _ in range(BATCHES):
                if not (self._carry_there() | self._carry_back()):
                    break

    def _carry_there(self) -> bool:
        batch = self._near.receive()
        if batch is None:
            return False
        data, size, self._client, ecn = batch
        if self.carried + len(data) > self._limit and self.cut_at is None:
            self.cut_at = time.monotonic()
        if self.cut_at is None:
            self.carried += len(data)
            self._send(self._far, bytes(data), size, self._to, ecn)
        return True

    def _carry_back(self) -> bool:
        batch = self._far.receive()
        if batch is None:
            return False
        data, size, _, ecn = batch
        if self.cut_at is None and self._client is not None:
            self._send(self._near, bytes(data), size, self._client, ecn)
        return True

    def _send(self, out: UdpSocket, data: bytes, size: int, to: Address, ecn: int) -> None:
        while not out.send(data, size, to, ecn):
            _, writable, _ = select.select([self._stopped], [out], [])
            if not writable:  # it is told to end
                return
