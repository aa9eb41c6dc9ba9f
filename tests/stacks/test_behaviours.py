"""One list of behaviours, on all four stacks. Plain tests that run their own event loop: the pytest plugins of anyio
and trio exclude each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
import trio

import stt_anyio.testing
import stt_trio.testing
from stt_backends.behaviours.dht import DHTS, Makers
from stt_backends.behaviours.stack import LIMIT, Behaviour, Stack
from stt_backends.behaviours.streams import CheckedStream

SEED = b"the seed of the behaviours"


@dataclass(frozen=True)
class Kind:
    """One way to run: an adapter and the event loop under it."""

    stack: Stack
    node: type[Any]
    distribution: type[Any]
    dht: type[Any]
    run: Callable[[Callable[[], Awaitable[None]]], None]

    def make_node(self, **settings: Any) -> Any:
        return self.node(**{"shared_seed": SEED, "bind_address": "127.0.0.1", **settings})

    @asynccontextmanager
    async def make_pair(self, mode: str) -> AsyncIterator[tuple[CheckedStream, CheckedStream]]:
        async with self.make_node() as server, self.make_node() as client:
            here = await client.connect(("127.0.0.1", server.port))
            ours = here.open_stream(mode=mode)
            yield ours, await (await server.accept()).accept_stream()

    @asynccontextmanager
    async def make_distribution(self, **settings: Any) -> AsyncIterator[Any]:
        async with self.make_node() as node, self.stack.open_group() as group:
            async with self.distribution(node=node, **settings) as content:
                group.start_soon(node.serve, content.serve)
                yield content
            await node.stop()

    def check(self, behaviour: Behaviour[Any], subject: Any) -> None:
        async def main() -> None:
            with self.stack.fail_after(LIMIT):
                await behaviour(self.stack, subject)

        self.run(main)


def through_anyio(backend: str, **options: Any) -> Kind:
    def run(main: Callable[[], Awaitable[None]]) -> None:
        anyio.run(main, backend=backend, backend_options=options)

    return Kind(stt_anyio.testing.STACK, stt_anyio.STTNode, stt_anyio.ContentDistribution, stt_anyio.KademliaDHT, run)


KINDS = {
    "asyncio": through_anyio("asyncio"),
    "asyncio+uvloop": through_anyio("asyncio", use_uvloop=True),
    "anyio+trio": through_anyio("trio"),
    "trio": Kind(
        stt_trio.testing.STACK, stt_trio.STTNode, stt_trio.ContentDistribution, stt_trio.KademliaDHT, trio.run
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def named(behaviour: Callable[..., Any]) -> str:
    return behaviour.__name__


@pytest.mark.parametrize("behaviour", stt_trio.testing.MESSAGE_STREAMS, ids=named)
def test_message_streams(kind: Kind, behaviour: Behaviour[Any]) -> None:
    kind.check(behaviour, lambda: kind.make_pair("messages"))


@pytest.mark.parametrize("behaviour", stt_trio.testing.BYTE_STREAMS, ids=named)
def test_byte_streams(kind: Kind, behaviour: Behaviour[Any]) -> None:
    kind.check(behaviour, lambda: kind.make_pair("bytes"))


@pytest.mark.parametrize("behaviour", stt_trio.testing.NODES, ids=named)
def test_nodes(kind: Kind, behaviour: Behaviour[Any]) -> None:
    kind.check(behaviour, kind.make_node)


@pytest.mark.parametrize("behaviour", stt_trio.testing.CONTENTS, ids=named)
def test_contents(kind: Kind, behaviour: Behaviour[Any]) -> None:
    kind.check(behaviour, kind.make_distribution)


@pytest.mark.parametrize("behaviour", stt_trio.testing.RESUMING, ids=named)
def test_resuming(kind: Kind, behaviour: Behaviour[Any]) -> None:
    kind.check(behaviour, kind.make_node)


@pytest.mark.parametrize("behaviour", stt_trio.testing.MOVES, ids=named)
def test_moves(kind: Kind, behaviour: Behaviour[Any]) -> None:
    kind.check(behaviour, kind.make_node)


@pytest.mark.parametrize("behaviour", DHTS, ids=named)
def test_dhts(kind: Kind, behaviour: Behaviour[Any]) -> None:
    kind.check(behaviour, Makers(kind.make_node, kind.dht))


def test_the_published_checks_run_the_whole_list_and_notice_what_is_wrong() -> None:
    class Deaf:
        """Behaves but for one thing: it gives no end."""

        def __init__(self, stream: Any) -> None:
            self._stream = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

        async def receive(self, *args: Any) -> bytes:
            try:
                received: bytes = await self._stream.receive(*args)
            except (anyio.EndOfStream, trio.EndOfChannel):
                return b""
            return received

    for name, module in (("asyncio", stt_anyio.testing), ("trio", stt_trio.testing)):
        kind = KINDS[name]

        @asynccontextmanager
        async def make_deaf(kind: Kind = kind) -> AsyncIterator[tuple[CheckedStream, CheckedStream]]:
            async with kind.make_pair("bytes") as (ours, theirs):
                yield ours, Deaf(theirs)

        async def main(module: Any = module, kind: Kind = kind, make_deaf: Any = make_deaf) -> None:
            await module.check_byte_streams(lambda: kind.make_pair("bytes"))
            await module.check_message_streams(lambda: kind.make_pair("messages"))
            await module.check_nodes(kind.make_node)
            await module.check_contents(kind.make_distribution)
            with pytest.raises(AssertionError, match="nothing was raised"):
                await module.BYTE_STREAMS[1](module.STACK, make_deaf)

        kind.run(main)
