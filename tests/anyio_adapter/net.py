"""Two nodes on the loopback, joined; and a cable to cut between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio

from stt_anyio import STTNode, STTSession
from stt_backends.udp import UdpSocket

SEED = b"the seed of the adapter's tests"
LIMIT = 20.0
"""Seconds after which a test that hangs fails. Nothing waits for it to pass."""
TICK = 0.001
"""A short time limit, for what must run out."""


def make_node(**settings: Any) -> STTNode:
    """A node on a free port of the loopback."""
    return STTNode(**{"shared_seed": SEED, "bind_address": "127.0.0.1", **settings})


def address_of(node: STTNode) -> tuple[str, int]:
    return ("127.0.0.1", node.port)


@asynccontextmanager
async def two_nodes(
    client: dict[str, Any] | None = None, server: dict[str, Any] | None = None
) -> AsyncIterator[tuple[STTNode, STTNode]]:
    """A client and a server, started and not connected. What happens in the block has ``LIMIT`` seconds."""
    with anyio.fail_after(LIMIT):
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


class Cable:
    """A socket's stand-in that loses everything, in both directions, while it is cut."""

    def __init__(self, node: STTNode) -> None:
        driver = node._driver
        assert driver is not None
        self._socket = cast(UdpSocket, driver.socket)
        self.cut = False
        self.too_big: list[Any] = []
        self.troubles = 0
        self.answers: int | None = None
        """How many sends still go out; None for all."""
        driver.socket = cast(UdpSocket, self)

    def receive(self, most: int = 1) -> Any:
        got = self._socket.receive(most)
        while self.cut and got is not None:
            got = self._socket.receive(most)
        return got

    @property
    def reads(self) -> int:
        return self._socket.reads

    @property
    def drained(self) -> bool:
        return self._socket.drained

    @property
    def holding(self) -> bool:
        return self._socket.holding

    def send(self, data: bytes, segment_size: int, address: Any, ecn: int = 0) -> bool:
        if self.answers is not None:
            self.answers -= 1
            self.cut = self.cut or self.answers < 0
        return self.cut or self._socket.send(data, segment_size, address, ecn)

    def receive_error(self) -> Any:
        return self._socket.receive_error()

    def close(self) -> None:
        self._socket.close()


def cut_off(node: STTNode) -> Cable:
    """From now on nothing reaches ``node``, and nothing it sends arrives, until ``cut`` is set to False again."""
    cable = Cable(node)
    cable.cut = True
    return cable
