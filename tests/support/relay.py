"""A bad network between two real processes: a UDP relay that loses, reorders and duplicates datagrams.

    python -m tests.support.relay --listen 127.0.0.1:0 --to 127.0.0.1:4433 --loss 0.05 --reorder 0.02 --seed 1

Rule: it decides per datagram, from the seed and the order of arrival alone, however many datagrams a system call moved.
It prints ``{"port": N}`` when it is ready, ends when its standard input does (so it can't outlive its test) and then
prints what it did to how many datagrams. Each client gets a socket of its own towards the target, as behind a NAT.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import random
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stt_backends.udp import UdpSocket
from stt_backends.udp_address import Address

BUFFER = 4 * 1024 * 1024
BATCHES = 16
"""System calls per socket and turn, so that one busy direction doesn't starve the other."""
CLIENTS = 256
"""Each has a descriptor, and select takes 1024 of them."""
QUIET = 0.005
"""Seconds without traffic after which held datagrams go on, as nothing comes to overtake them."""
FARTHEST = 8
"""A reordered datagram is overtaken by one to this many others."""


class Weather:
    """What happens to the datagrams of one client in one direction."""

    def __init__(self, rng: random.Random, loss: float, reorder: float, duplicate: float, counts: Counter[str]) -> None:
        self._random = rng
        self._loss = loss
        self._reorder = loss + reorder
        self._any = loss + reorder + duplicate
        self._counts = counts
        self._index = 0
        self._held: list[tuple[int, bytes]] = []

    @property
    def holding(self) -> bool:
        return bool(self._held)

    def carry(self, batch: memoryview, size: int) -> Iterable[bytes | memoryview]:
        """The datagrams that go on now, in their new order. Slices of ``batch`` live as long as it does."""
        draw = self._random.random
        held = self._held
        onward: list[bytes | memoryview] = []
        for start in range(0, len(batch), size):
            self._index += 1
            chance = draw()
            if chance >= self._any:
                onward.append(batch[start : start + size])
            elif chance < self._loss:
                self._counts["lost"] += 1
            elif chance < self._reorder:
                self._counts["reordered"] += 1
                due = self._index + self._random.randint(1, FARTHEST)
                heapq.heappush(held, (due, bytes(batch[start : start + size])))
            else:
                self._counts["duplicated"] += 1
                onward += [batch[start : start + size]] * 2
            while held and held[0][0] <= self._index:
                onward.append(heapq.heappop(held)[1])
        self._counts["received"] += -(-len(batch) // size)
        return onward

    def flush(self) -> Iterable[bytes]:
        """Let go of everything held."""
        held, self._held = self._held, []
        return [datagram for _, datagram in sorted(held)]


class Link:
    """One direction of one client: from the socket its datagrams arrive on to the one they leave by."""

    def __init__(self, weather: Weather, out: UdpSocket, target: Address, counts: Counter[str]) -> None:
        self.weather = weather
        self._out = out
        self._target = target
        self._counts = counts

    def carry(self, batch: memoryview, size: int) -> None:
        self._send(self.weather.carry(batch, size))

    def flush(self) -> None:
        self._send(self.weather.flush())

    def _send(self, datagrams: Iterable[bytes | memoryview]) -> None:
        for size, group in itertools.groupby(datagrams, len):
            data = b"".join(group)
            while not self._out.send(data, size, self._target):
                select.select([], [self._out], [])
            self._counts["sent"] += len(data) // size


class Relay:
    """The listening socket, a socket per client, and the loop over them."""

    def __init__(
        self, listen: Address, to: Address, *, loss: float, reorder: float, duplicate: float, seed: int
    ) -> None:
        self._to = to
        self._odds = (loss, reorder, duplicate)
        self._seed = seed
        self._listener = _socket(listen[0], listen[1])
        self.address = self._listener.address
        self.counts: Counter[str] = Counter(received=0, sent=0, lost=0, reordered=0, duplicated=0, clients=0)
        self._forth: dict[Address, Link] = {}
        self._back: dict[UdpSocket, Link] = {}

    def run(self, until: int) -> None:
        """Relay until the descriptor ``until`` comes to its end."""
        while True:
            links = [*self._forth.values(), *self._back.values()]
            wait = QUIET if any(link.weather.holding for link in links) else None
            waiting: list[int | UdpSocket] = [until, self._listener, *self._back]
            ready = select.select(waiting, [], [], wait)[0]
            if not ready:
                for link in links:
                    link.flush()
            if until in ready and not os.read(until, 4096):
                return
            for sock in ready:
                if sock is self._listener:
                    self._from_clients()
                elif isinstance(sock, UdpSocket):
                    self._from_target(sock)

    def close(self) -> None:
        for sock in (self._listener, *self._back):
            sock.close()

    def _from_clients(self) -> None:
        for _ in range(BATCHES):
            batch = self._listener.receive()
            if batch is None:
                return
            data, size, client, _ = batch
            link = self._forth.get(client) or self._admit(client)
            if link is not None:
                link.carry(data, size)

    def _from_target(self, sock: UdpSocket) -> None:
        for _ in range(BATCHES):
            batch = sock.receive()
            if batch is None:
                return
            data, size, sender, _ = batch
            if sender == self._to:
                self._back[sock].carry(data, size)

    def _admit(self, client: Address) -> Link | None:
        if len(self._forth) == CLIENTS:
            return None
        number = self.counts["clients"]
        self.counts["clients"] += 1
        sock = _socket(self._listener.address[0], 0)
        self._forth[client] = Link(self._weather(number, "forth"), sock, self._to, self.counts)
        self._back[sock] = Link(self._weather(number, "back"), self._listener, client, self.counts)
        return self._forth[client]

    def _weather(self, client: int, direction: str) -> Weather:
        # Seeded by a string, so that no direction's fate depends on how the system interleaves them.
        return Weather(random.Random(f"{self._seed} {client} {direction}"), *self._odds, self.counts)


def _socket(host: str, port: int) -> UdpSocket:
    # Deaf to refusals: a relay has nobody to tell.
    return UdpSocket(host, port, recv_buffer_size=BUFFER, send_buffer_size=BUFFER, report_errors=False)


class RelayProcess:
    """A relay in a process of its own, for the length of a ``with`` block.

    ``address`` is what clients connect to; ``stop()`` ends the relay and returns its counts (received, sent, lost,
    reordered, duplicated, clients).
    """

    def __init__(
        self,
        to: Address,
        *,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        seed: int = 1,
        listen: str = "127.0.0.1",
    ) -> None:
        odds = ["--loss", f"{loss}", "--reorder", f"{reorder}", "--duplicate", f"{duplicate}", "--seed", f"{seed}"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.relay", "--listen", _spell((listen, 0)), "--to", _spell(to), *odds],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._counts: dict[str, int] | None = None
        try:
            self.address: Address = (listen, self._read_line()["port"])
        except BaseException:
            self._kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def stop(self) -> dict[str, int]:
        """End the relay in good order; what it did, in datagrams."""
        if self._counts is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._counts = self._read_line()
            self._process.wait()
        return self._counts

    def _read_line(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the relay ended with exit code {self._process.wait()}; see its standard error")
        found: dict[str, int] = json.loads(line)
        return found

    def _kill(self) -> None:
        self._process.kill()
        with self._process:  # closes the pipes and waits
            pass


def _spell(address: Address) -> str:
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{host}:{address[1]}"


def _parse(text: str) -> Address:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _odds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="Relay UDP datagrams badly.")
    parser.add_argument("--listen", type=_parse, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--to", type=_parse, required=True, metavar="HOST:PORT")
    for name in ("loss", "reorder", "duplicate"):
        parser.add_argument(f"--{name}", type=_odds, default=0.0, metavar="SHARE")
    parser.add_argument("--seed", type=int, default=1)
    options: dict[str, Any] = vars(parser.parse_args())
    relay = Relay(options.pop("listen"), options.pop("to"), **options)
    try:
        _say({"port": relay.address[1]})
        relay.run(sys.stdin.fileno())
    except KeyboardInterrupt:
        return
    finally:
        relay.close()
    _say(relay.counts)


def _say(what: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
