"""A link between two processes: ``python -m benchmarks.link PORT MBITS RTT LOSS SEED``.

Datagrams of one client go to ``PORT`` and back, with a bottleneck of ``MBITS`` (10^6 bits a second, payload) each way,
half of ``RTT`` (seconds) of delay, a queue of one ``RTT`` whose tail drops, and ``LOSS`` (a share) at random. It prints
its own port. What is lost depends on the seed and the order of arrival alone.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
from collections import deque
from time import monotonic
from typing import Any

BURST = 64
"""Datagrams read before others get a turn."""
LARGEST = 65_535
BUFFER = 4 << 20
"""Bytes the system keeps for each socket: what is dropped, this module drops."""


class Direction:
    """One way: what arrived and when it may leave."""

    def __init__(self, mbits: float, rtt: float, loss: float, seed: str) -> None:
        self._byte = 8e-6 / mbits
        self._rtt = rtt
        self._loss = loss
        self._random = random.Random(seed)
        self._free = 0.0
        self.waiting: deque[tuple[float, bytes]] = deque()

    def take(self, data: bytes, now: float) -> None:
        """Queue a datagram, or lose it."""
        if self._random.random() < self._loss or self._free - now > self._rtt:
            return
        self._free = max(self._free, now) + len(data) * self._byte
        self.waiting.append((self._free + self._rtt / 2, data))

    def due(self, now: float) -> list[bytes]:
        """What has arrived at the other end by now."""
        out = []
        while self.waiting and self.waiting[0][0] <= now:
            out.append(self.waiting.popleft()[1])
        return out


def run(port: int, mbits: float, rtt: float, loss: float, seed: str) -> None:
    """Until standard input comes to its end, as it does when the runner is gone."""
    front, back = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (front, back):
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    sys.stdout.write(json.dumps({"port": front.getsockname()[1]}) + "\n")
    sys.stdout.flush()
    forth, home = (Direction(mbits, rtt, loss, f"{seed} {name}") for name in ("forth", "home"))
    target: Any = ("127.0.0.1", port)
    client: Any = None
    while True:
        now = monotonic()
        for data in forth.due(now):
            back.sendto(data, target)
        for data in home.due(now):
            front.sendto(data, client)
        dues = [way.waiting[0][0] for way in (forth, home) if way.waiting]
        timeout = max(0.0, min(dues) - monotonic()) if dues else None
        ready = select.select([sys.stdin, front, back], [], [], timeout)[0]
        if sys.stdin in ready:
            return
        for sock, way in ((front, forth), (back, home)):
            for _ in range(BURST if sock in ready else 0):
                try:
                    data, address = sock.recvfrom(LARGEST)
                except BlockingIOError:
                    break
                if sock is front:
                    client = address
                way.take(data, monotonic())


if __name__ == "__main__":
    run(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
