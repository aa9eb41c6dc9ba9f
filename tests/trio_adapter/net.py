"""Two nodes on the loopback, joined, on trio; and a runner, for the plugins of trio and anyio exclude each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import trio

from stt_trio import STTNode, STTSession

SEED = b"the seed of the adapter's tests"
LIMIT = 20.0
"""Seconds after which a test that hangs fails. Nothing waits for it to pass."""


def on_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run the test under :func:`trio.run`, within ``LIMIT`` seconds."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        async def main() -> None:
            with trio.fail_after(LIMIT):
                await test(**fixtures)

        trio.run(main, strict_exception_groups=True)

    return run


def make_node(**settings: Any) -> STTNode:
    """A node on a free port of the loopback."""
    return STTNode(**{"shared_seed": SEED, "bind_address": "127.0.0.1", **settings})


def address_of(node: STTNode) -> tuple[str, int]:
    return ("127.0.0.1", node.port)


@asynccontextmanager
async def two_nodes(
    client: dict[str, Any] | None = None, server: dict[str, Any] | None = None
) -> AsyncIterator[tuple[STTNode, STTNode]]:
    """A client and a server, started and not connected."""
    async with make_node(**(server or {})) as listening, make_node(**(client or {})) as calling:
        yield calling, listening


@asynccontextmanager
async def two_sessions(
    client: dict[str, Any] | None = None, server: dict[str, Any] | None = None
) -> AsyncIterator[tuple[STTSession, STTSession]]:
    """Both ends of one session, the caller's first; their nodes are at ``session.node``."""
    async with two_nodes(client, server) as (calling, listening):
        here = await calling.connect(address_of(listening))
        yield here, await listening.accept()
