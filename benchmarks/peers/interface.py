"""What a stack shows to a benchmark: a server for a task, a client's connect, and channels made of its own calls.

Rule: nothing of ours stands between a benchmark and a stack while time is taken. A :class:`Channel` holds the stack's
own bound methods where it has them, and servers are written in the shape that is fastest for their stack.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

CHUNK = bytes(256 * 1024)
"""What one ``send`` of a transfer takes: the size that TLS and websockets are fastest with."""


@dataclass(frozen=True)
class Task:
    """One measurement, as both of its processes know it.

    ``kind`` names the workload in :mod:`benchmarks.workloads`, ``stack`` is ``library/loop``. ``size`` is in bytes,
    over all streams of all sessions; ``count`` is how many of what the workload is about. ``datagram`` is the largest
    UDP payload, 0 for the stack's own choice. ``warm`` raises the allocator's mmap threshold before anything else runs.
    ``certificates`` is the folder of :func:`benchmarks.certificates.make`. ``link`` is what stands between the
    processes, as :mod:`benchmarks.link` takes it: Mbit/s, seconds of round trip, share lost, seed; none for loopback.
    """

    kind: str
    stack: str
    size: int = 0
    count: int = 0
    sessions: int = 1
    streams: int = 1
    concurrency: int = 1
    seconds: float = 0.0
    datagram: int = 0
    warm: bool = False
    certificates: str = ""
    link: tuple[str, ...] = ()

    @property
    def library(self) -> str:
        return self.stack.partition("/")[0]

    @property
    def loop(self) -> str:
        return self.stack.partition("/")[2]

    @property
    def share(self) -> int:
        """Bytes that go over each stream of a transfer."""
        return self.size // (self.sessions * self.streams)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        fields = json.loads(text)
        return cls(**{**fields, "link": tuple(fields["link"])})


async def nothing() -> None:
    """For stacks that have nothing to do there."""


@dataclass(slots=True)
class Channel:
    """One stream or connection, seen from the client.

    The server's side of it depends on the task's kind. An ``echo`` comes back as it was sent. A ``download`` is the
    task's share, in answer to anything. Of anything else the
    server counts what arrives until ``finish``, bytes or ``messages``, and then answers with the number in decimal.
    ``end`` reads on to the end of the server's half, where it has one.
    """

    send: Callable[[bytes], Awaitable[Any]]
    receive: Callable[[], Awaitable[bytes | str]]
    finish: Callable[[], Awaitable[Any]]
    end: Callable[[], Awaitable[Any]] = nothing


@dataclass(slots=True)
class Session:
    """A connection; ``open`` gives a new channel on it (a stack without streams has one)."""

    open: Callable[[], Awaitable[Channel]]
    close: Callable[[], Awaitable[Any]]


Connect = Callable[[], Awaitable[Session]]


class Peer(Protocol):
    """What each module of this package has."""

    def serve(self, task: Task) -> AbstractAsyncContextManager[int]:
        """A server for ``task`` on loopback, on the port given."""

    def client(self, task: Task, port: int) -> AbstractAsyncContextManager[Connect]:
        """What makes sessions with it."""
