"""A bad network between two real processes: a UDP relay that loses, reorders, duplicates, delays and marks datagrams.

    python -m tests.support.relay --listen 127.0.0.1:0 --to 127.0.0.1:4433 --loss 0.05 --reorder 0.02 --seed 1

Rule: it decides per datagram, from the seed and the order of arrival alone, however many datagrams a system call moved.
It prints ``{"port": N}`` when it is ready, ends when its standard input does (so it can't outlive its test) and then
prints what it did to how many datagrams. Each client gets a socket of its own towards the target, as behind a NAT. A
line on standard input says what happens next: ``rebind`` replaces these by others, as a NAT does that forgets;
``silence`` lets nothing through until ``speak``. ECN codepoints pass.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
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
ECT_0, CE = 2, 3
EVENTS = (
    "received",
    "sent",
    "lost",
    "reordered",
    "duplicated",
    "too_large",
    "marked",
    "swallowed",
    "clients",
    "rebound",
)
"""What is counted, all but the last two in datagrams; ``received`` are those that it wasn't silent to."""

Datagram = tuple[bytes | memoryview, int]
"""One datagram and its ECN codepoint."""


@dataclass(frozen=True)
class Climate:
    """What the network does, for all clients in both directions; ``loss`` to ``mark`` are shares, 0 to 1."""

    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    mark: float = 0.0
    """… of what came as ECT(0) goes on as CE."""
    delay: float = 0.0
    """Seconds each way."""
    largest: int = 65_535
    """Bytes; anything larger is dropped in silence."""


class Weather:
    """What happens to the datagrams of one client in one direction."""

    def __init__(self, rng: random.Random, climate: Climate, counts: Counter[str]) -> None:
        self._random = rng
        self._loss = climate.loss
        self._reorder = climate.loss + climate.reorder
        self._any = climate.loss + climate.reorder + climate.duplicate
        self._mark = climate.mark
        self._counts = counts
        self._index = 0
        self._held: list[tuple[int, bytes, int]] = []

    @property
    def holding(self) -> bool:
        return bool(self._held)

    def carry(self, batch: memoryview, size: int, ecn: int = 0) -> Iterable[Datagram]:
        """The datagrams that go on now, in their new order. Slices of ``batch`` live as long as it does."""
        draw = self._random.random
        held = self._held
        onward: list[Datagram] = []
        marking = self._mark if ecn == ECT_0 else 0.0
        for start in range(0, len(batch), size):
            self._index += 1
            chance = draw()
            mark = ecn
            if marking and draw() < marking:
                self._counts["marked"] += 1
                mark = CE
            if chance >= self._any:
                onward.append((batch[start : start + size], mark))
            elif chance < self._loss:
                self._counts["lost"] += 1
            elif chance < self._reorder:
                self._counts["reordered"] += 1
                due = self._index + self._random.randint(1, FARTHEST)
                heapq.heappush(held, (due, bytes(batch[start : start + size]), mark))
            else:
                self._counts["duplicated"] += 1
                onward += [(batch[start : start + size], mark)] * 2
            while held and held[0][0] <= self._index:
                _, datagram, kept = heapq.heappop(held)
                onward.append((datagram, kept))
        self._counts["received"] += -(-len(batch) // size)
        return onward

    def flush(self) -> Iterable[Datagram]:
        """Let go of everything held."""
        held, self._held = self._held, []
        return [(datagram, mark) for _, datagram, mark in sorted(held)]


class Link:
    """One direction of one client: from the socket its datagrams arrive on to the one they leave by, ``out``."""

    def __init__(
        self, weather: Weather, climate: Climate, out: UdpSocket, target: Address, counts: Counter[str]
    ) -> None:
        self.weather = weather
        self.out = out
        self._climate = climate
        self._target = target
        self._counts = counts
        self._under_way: deque[tuple[float, bytes, int, int]] = deque()

    @property
    def due(self) -> float:
        """When the next that is under way arrives, monotonic seconds."""
        return self._under_way[0][0] if self._under_way else inf

    def carry(self, batch: memoryview, size: int, ecn: int) -> None:
        if size > self._climate.largest:
            # The last of a batch may be smaller.
            count, rest = divmod(len(batch), size)
            fits = 0 < rest <= self._climate.largest
            self._counts["too_large"] += count + (rest > 0 and not fits)
            batch, size = (batch[count * size :], rest) if fits else (batch[:0], size)
        if batch:
            self._forward(self.weather.carry(batch, size, ecn))

    def flush(self) -> None:
        self._forward(self.weather.flush())

    def deliver(self, now: float) -> None:
        """Send on what has been under way for long enough."""
        while self.due <= now:
            self._send(*self._under_way.popleft()[1:])

    def _forward(self, datagrams: Iterable[Datagram]) -> None:
        arrival = time.monotonic() + self._climate.delay
        for (size, ecn), group in itertools.groupby(datagrams, lambda datagram: (len(datagram[0]), datagram[1])):
            data = b"".join(datagram for datagram, _ in group)
            if self._climate.delay:
                self._under_way.append((arrival, data, size, ecn))
            else:
                self._send(data, size, ecn)

    def _send(self, data: bytes, size: int, ecn: int) -> None:
        while not self.out.send(data, size, self._target, ecn):
            select.select([], [self.out], [])
        self._counts["sent"] += len(data) // size


class Relay:
    """The listening socket, a socket per client, and the loop over them."""

    def __init__(self, listen: Address, to: Address, *, climate: Climate, seed: int) -> None:
        self._to = to
        self._climate = climate
        self._seed = seed
        self._listener = _socket(listen[0], listen[1])
        self.address = self._listener.address
        self.counts: Counter[str] = Counter(dict.fromkeys(EVENTS, 0))
        self._forth: dict[Address, Link] = {}
        self._back: dict[UdpSocket, Link] = {}
        self._silent = False

    def run(self, until: int) -> None:
        """Relay until the descriptor ``until`` comes to its end."""
        while True:
            links = [*self._forth.values(), *self._back.values()]
            due = min((link.due for link in links), default=inf)
            wait = max(0.0, due - time.monotonic())
            holding = any(link.weather.holding for link in links)
            if holding:
                wait = min(wait, QUIET)
            waiting: list[int | UdpSocket] = [until, self._listener, *self._back]
            ready = select.select(waiting, [], [], None if wait == inf else wait)[0]
            if not ready and holding:
                for link in links:
                    link.flush()
            if due < inf:
                now = time.monotonic()
                for link in links:
                    link.deliver(now)
            if until in ready:
                said = os.read(until, 4096).decode().split()
                if not said:
                    return
                for order in said:
                    self._obey(order)
                continue
            for sock in ready:
                if sock is self._listener:
                    self._from_clients()
                elif isinstance(sock, UdpSocket):
                    self._from_target(sock)

    def _obey(self, order: str) -> None:
        if order == "rebind":
            self._rebind()
        else:
            self._silent = order == "silence"

    def close(self) -> None:
        for sock in (self._listener, *self._back):
            sock.close()

    def _from_clients(self) -> None:
        for _ in range(BATCHES):
            batch = self._listener.receive()
            if batch is None:
                return
            data, size, client, ecn = batch
            link = self._forth.get(client) or self._admit(client)
            if link is not None and not self._swallow(data, size):
                link.carry(data, size, ecn)

    def _from_target(self, sock: UdpSocket) -> None:
        for _ in range(BATCHES):
            batch = sock.receive()
            if batch is None:
                return
            data, size, sender, ecn = batch
            if sender == self._to and not self._swallow(data, size):
                self._back[sock].carry(data, size, ecn)

    def _swallow(self, data: memoryview, size: int) -> bool:
        if self._silent:
            self.counts["swallowed"] += -(-len(data) // size)
        return self._silent

    def _rebind(self) -> None:
        """Let every client appear under another port; what is sent to its old one is lost."""
        for forth in self._forth.values():
            back = self._back.pop(forth.out)
            forth.out.close()
            forth.out = _socket(self._listener.address[0], 0)
            self._back[forth.out] = back
            self.counts["rebound"] += 1

    def _admit(self, client: Address) -> Link | None:
        if len(self._forth) == CLIENTS:
            return None
        number = self.counts["clients"]
        self.counts["clients"] += 1
        sock = _socket(self._listener.address[0], 0)
        self._forth[client] = self._link(number, "forth", sock, self._to)
        self._back[sock] = self._link(number, "back", self._listener, client)
        return self._forth[client]

    def _link(self, client: int, direction: str, out: UdpSocket, target: Address) -> Link:
        # Seeded by a string, so that no direction's fate depends on how the system interleaves them.
        weather = Weather(random.Random(f"{self._seed} {client} {direction}"), self._climate, self.counts)
        return Link(weather, self._climate, out, target, self.counts)


def _socket(host: str, port: int) -> UdpSocket:
    # Deaf to refusals: a relay has nobody to tell.
    return UdpSocket(host, port, recv_buffer_size=BUFFER, send_buffer_size=BUFFER, report_errors=False)


class RelayProcess:
    """A relay in a process of its own, for the length of a ``with`` block.

    ``address`` is what clients connect to; ``rebind()`` gives all of them another port towards the target;
    ``silence()`` and ``speak()`` cut and mend it; ``stop()`` ends the relay and returns its counts, see :data:`EVENTS`.
    ``climate`` are :class:`Climate`'s fields, ``prefix`` the command that runs it elsewhere.
    """

    def __init__(
        self,
        to: Address,
        *,
        seed: int = 1,
        listen: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        **climate: float,
    ) -> None:
        settings = [f"--{name}={value}" for name, value in climate.items()]
        command = [*prefix, sys.executable, "-m", "tests.support.relay", f"--to={_spell(to)}", f"--seed={seed}"]
        self._process = subprocess.Popen(
            [*command, f"--listen={_spell((listen, 0))}", *settings],
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

    def rebind(self) -> None:
        """Let all clients appear under other ports from now on."""
        self._tell("rebind")

    def silence(self) -> None:
        """Let nothing through."""
        self._tell("silence")

    def speak(self) -> None:
        """Let it through again."""
        self._tell("speak")

    def _tell(self, order: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()

    def pause(self) -> None:
        """Carry nothing, as where there is no network; what comes meanwhile waits in sockets, as far as it fits."""
        self._process.send_signal(signal.SIGSTOP)

    def unpause(self) -> None:
        """Go on."""
        self._process.send_signal(signal.SIGCONT)

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
    for name in ("loss", "reorder", "duplicate", "mark"):
        parser.add_argument(f"--{name}", type=_odds, default=0.0, metavar="SHARE")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--largest", type=int, default=Climate.largest, metavar="BYTES")
    parser.add_argument("--seed", type=int, default=1)
    options: dict[str, Any] = vars(parser.parse_args())
    listen, to, seed = options.pop("listen"), options.pop("to"), options.pop("seed")
    relay = Relay(listen, to, climate=Climate(**options), seed=seed)
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
