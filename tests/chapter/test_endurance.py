"""Many at once, and ends at any moment: the chapter's "Concurrent Sessions" and "Teardown", to where it hurts."""

from __future__ import annotations

import gc
import os
import random
from typing import Any

from tests.chapter.world import STACKS, World, everywhere, on

SESSIONS = 500
POINTS = 1000 // len(STACKS)
MOST_TURNS = 120
"""In so many turns of the event loop a life as it is tried here is over."""
SETTLING = 5
"""Turns in which the tasks of a node that is stopped have returned."""


@on("asyncio", "trio")
async def test_500_sessions_with_traffic_on_all_and_a_broadcast_to_all(world: World) -> None:
    server = await world.started(rate_limits=None)
    client = await world.started()

    async def echo(session: Any) -> None:
        stream = await session.accept_stream()
        await stream.send(await stream.receive())

    async def serve() -> None:
        await world.loop.gather(*[echo(await server.accept()) for _ in range(SESSIONS)])

    async def call(number: int) -> bytes:
        session = await client.connect(world.address_of(server), timeout=20)
        stream = session.open_stream()
        await stream.send(b"%d" % number)
        assert await stream.receive() == b"%d" % number
        told: bytes = await session.open_stream(stream_id=1).receive()
        return told

    async def tell() -> None:
        while len(server.get_active_sessions()) < SESSIONS:
            await world.loop.sleep(0.001)
        results = await server.send_to_all(b"to all", stream_id=1)
        assert len(results) == SESSIONS
        assert all(results.values())

    _, _, *heard = await world.loop.gather(serve(), tell(), *map(call, range(SESSIONS)))
    assert heard == [b"to all"] * SESSIONS


async def life(world: World, rng: random.Random) -> None:
    """Two nodes that meet, talk and part, one way or another."""
    stt = world.stt
    settings = {"shared_seed": b"a seed of this life", "bind_address": "127.0.0.1", "transport": world.transport}
    async with stt.STTNode(**settings) as server, stt.STTNode(**settings) as client:

        async def serve() -> None:
            async with await server.accept() as session:
                stream = await session.accept_stream()
                async for message in stream:
                    await stream.send(message)

        async def call() -> None:
            async with await client.connect(world.address_of(server)) as session:
                stream = session.open_stream()
                for size in (1, 1000, 100_000):
                    await stream.send(bytes(size))
                    assert await stream.receive() == bytes(size)
                await rng.choice((stream.close, stream.send_eof, session.close, client.stop, server.stop))()

        try:
            await world.loop.gather(serve(), call())
        except* (stt.SessionClosedError, stt.StreamClosedError, stt.StreamResetError, stt.StateError):
            pass  # one of them was told that the other is gone


@everywhere
async def test_wherever_it_is_cut_nothing_hangs_and_nothing_is_left(world: World) -> None:
    """1,000 points on all stacks together: no task, no descriptor and (warnings are errors) no warning stays behind."""
    seed = int.from_bytes(os.urandom(4), "big")
    rng = random.Random(seed)
    tasks, descriptors = world.loop.tasks(), len(os.listdir("/proc/self/fd"))
    for point in range(POINTS):
        turns = rng.randrange(MOST_TURNS)
        where = f"seed {seed}, point {point}, {turns} turns"
        try:
            await world.loop.cut(lambda: life(world, rng), turns)
        except BaseException as error:
            error.add_note(where)
            raise
        for _ in range(SETTLING):
            if world.loop.tasks() > tasks:
                await world.loop.sleep(0)
        assert world.loop.tasks() == tasks, where
        assert len(os.listdir("/proc/self/fd")) == descriptors, where
    gc.collect()
