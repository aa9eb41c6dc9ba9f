"""What a client does, the same for every stack: a generator of stages, each with what it found.

Rule: a stage ends where the runner may want to look at both processes; the next begins when it says so. Times are
taken here, inside a stage, around nothing but the stack's own calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count, pairwise
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import anyio

from benchmarks.peers.interface import CHUNK, Channel, Connect, Session, Task

Stages = AsyncIterator[dict[str, Any]]
WARM_UP = 200
"""Echoes before the first that counts."""
MARKS = 10
"""Sections in which the setting up of many sessions is timed."""


async def _concurrently(number: int, workers: int, work: Callable[[int], Awaitable[None]]) -> None:
    """``work(0)`` to ``work(number - 1)``, ``workers`` at a time."""
    turn = count()

    async def worker() -> None:
        while (mine := next(turn)) < number:
            await work(mine)

    async with anyio.create_task_group() as tasks:
        for _ in range(workers):
            tasks.start_soon(worker)


async def _answer(channel: Channel, expected: int) -> None:
    """Wait until the server has counted what was sent."""
    answer = await channel.receive()
    if int(answer) != expected:
        raise RuntimeError(f"the server counted {answer!r} of {expected}")


async def transfer(task: Task, connect: Connect) -> Stages:
    """``size`` bytes, in equal shares over the task's sessions and their streams, to the server."""
    sessions: list[Session] = []

    async def make(_: int) -> None:
        sessions.append(await connect())

    await _concurrently(task.sessions, 8, make)
    channels = [await session.open() for session in sessions for _ in range(task.streams)]
    share = task.share

    async def send(index: int) -> None:
        channel = channels[index]
        left = share
        while left > 0:
            chunk = CHUNK if left >= len(CHUNK) else CHUNK[:left]
            await channel.send(chunk)
            left -= len(chunk)
        await channel.finish()
        await _answer(channel, share)

    yield {}
    begun = perf_counter()
    if len(channels) == 1:
        await send(0)
    else:
        await _concurrently(len(channels), len(channels), send)
    yield {"seconds": perf_counter() - begun, "bytes": share * len(channels)}
    for session in sessions:
        await session.close()


async def download(task: Task, connect: Connect) -> Stages:
    """``size`` bytes from the server, over one stream."""
    session = await connect()
    channel = await session.open()
    receive, left = channel.receive, task.share
    yield {}
    begun = perf_counter()
    await channel.send(b"!")
    while left > 0:
        left -= len(await receive())
    yield {"seconds": perf_counter() - begun, "bytes": task.share}
    await session.close()


async def echo(task: Task, connect: Connect) -> Stages:
    """``size`` bytes there and back, ``count`` times, one after the other; µs."""
    session = await connect()
    channel = await session.open()
    payload = bytes(task.size)
    send, receive = channel.send, channel.receive
    for _ in range(WARM_UP):
        await send(payload)
        await receive()
    yield {}
    times = []
    for _ in range(task.count):
        begun = perf_counter()
        await send(payload)
        answer = await receive()
        times.append(1e6 * (perf_counter() - begun))
        if len(answer) != len(payload):
            raise RuntimeError(f"an echo of {len(answer)} bytes came back, not {len(payload)}")
    yield {"median": median(times), "p99": quantiles(times, n=100)[98]}
    await session.close()


async def messages(task: Task, connect: Connect) -> Stages:
    """``count`` messages of ``size`` bytes, as fast as they go."""
    session = await connect()
    channel = await session.open()
    payload, send = bytes(task.size), channel.send
    yield {}
    begun = perf_counter()
    for _ in range(task.count):
        await send(payload)
    await channel.finish()
    await _answer(channel, task.count)
    yield {"seconds": perf_counter() - begun}
    await session.close()


async def handshake(task: Task, connect: Connect) -> Stages:
    """``count`` sessions made and closed, ``concurrency`` at a time."""

    async def once(_: int) -> None:
        session = await connect()
        await session.close()

    await _concurrently(2 * task.concurrency, task.concurrency, once)
    yield {}
    begun = perf_counter()
    await _concurrently(task.count, task.concurrency, once)
    yield {"seconds": perf_counter() - begun}


async def idle(task: Task, connect: Connect) -> Stages:
    """``count`` sessions made and kept, ``concurrency`` at a time, then ``seconds`` of nothing.

    ``sections`` are the ms that each tenth of them took, a session.
    """
    sessions: list[Session] = [await connect()]
    marks: list[float] = []
    section = task.count // MARKS

    async def make(index: int) -> None:
        sessions.append(await connect())
        if (index + 1) % section == 0:
            marks.append(perf_counter())

    yield {}
    marks.append(perf_counter())
    await _concurrently(task.count, task.concurrency, make)
    yield {"sections": [1e3 * (after - before) / section for before, after in pairwise(marks)]}
    await anyio.sleep(task.seconds)
    yield {}


async def churn(task: Task, connect: Connect) -> Stages:
    """``count`` streams opened, used for ``size`` bytes and an answer, and ended; ``concurrency`` at a time.

    The first tenth is a stage of its own: memory may grow there.
    """
    session = await connect()
    payload = bytes(task.size)

    async def once(_: int) -> None:
        channel = await session.open()
        await channel.send(payload)
        await channel.finish()
        await _answer(channel, len(payload))
        await channel.end()

    tenth = task.count // 10
    await _concurrently(tenth, task.concurrency, once)
    yield {}
    begun = perf_counter()
    await _concurrently(task.count - tenth, task.concurrency, once)
    yield {"seconds": perf_counter() - begun}
    await session.close()


WORKLOADS: dict[str, Callable[[Task, Connect], Stages]] = {
    "transfer": transfer,
    "download": download,
    "echo": echo,
    "messages": messages,
    "handshake": handshake,
    "idle": idle,
    "churn": churn,
}
