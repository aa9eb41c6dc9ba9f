"""Where the chapter's programs run: on each of four stacks, over each transport, with what they leave undefined.

A program is an async function that takes a :class:`World`. It finds the adapter in ``world.stt``, and the few things
the chapter takes from asyncio in ``world.loop``, on whatever event loop it runs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.lowlevel

import stt_anyio.testing
import stt_trio.testing
from stt_backends.behaviours import stack as behaviours

SEED = b"a seed of the chapter's tests"
LIMIT = 20.0
"""Seconds after which a program that hangs fails. Nothing waits for it to pass."""
TRANSPORTS = ("udp", "websocket")


@dataclass(frozen=True)
class Loop:
    """What the chapter takes from asyncio, on the event loop of ``stack``."""

    stack: behaviours.Stack
    sleep: Callable[[float], Awaitable[None]]
    """``asyncio.sleep``."""
    tasks: Callable[[], int]
    """How many tasks there are, this one included."""

    async def gather(self, *running: Awaitable[Any]) -> list[Any]:
        """``asyncio.gather``."""
        results: list[Any] = [None] * len(running)

        async def keep(place: int, awaitable: Awaitable[Any]) -> None:
            results[place] = await awaitable

        async with self.stack.open_group() as group:
            for place, awaitable in enumerate(running):
                group.start_soon(keep, place, awaitable)
        return results

    async def cut(self, program: Callable[[], Coroutine[Any, Any, None]], turns: int) -> None:
        """Run ``program``, and cancel it when everybody had ``turns`` turns since."""
        async with self.stack.open_group() as group:
            group.start_soon(program)
            for _ in range(turns):
                await self.sleep(0)
            group.cancel_scope.cancel()


ANYIO = Loop(stt_anyio.testing.STACK, anyio.sleep, lambda: len(anyio.get_running_tasks()))
TRIO = Loop(stt_trio.testing.STACK, trio.sleep, lambda: trio.lowlevel.current_statistics().tasks_living)


@dataclass
class World:
    """One run of a program."""

    stt: Any
    """``stt_anyio`` or ``stt_trio``."""
    loop: Loop
    transport: str
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def node(self, **settings: Any) -> Any:
        """A node on the loopback, stopped when the program ends."""
        settings = {"shared_seed": SEED, "bind_address": "127.0.0.1", "transport": self.transport, **settings}
        node = self.stt.STTNode(**settings)
        self.stack.push_async_callback(node.stop)
        return node

    async def started(self, **settings: Any) -> Any:
        """The same, started."""
        node = self.node(**settings)
        await node.start()
        return node

    def address_of(self, node: Any) -> Any:
        """What to give to ``connect``."""
        return self.address(node.port)

    def address(self, port: int) -> Any:
        """The same, of a port of this machine."""
        return ("127.0.0.1", port) if self.transport == "udp" else f"ws://127.0.0.1:{port}"

    @asynccontextmanager
    async def alice_and_bob(self, **settings: Any) -> AsyncIterator[tuple[Any, Any]]:
        """Alice's session with Bob, and Bob's with her."""
        alice_node = await self.started(node_id=b"Alice-12345", **settings)
        bob_node = await self.started(node_id=b"Bob-67890", **settings)
        session = await alice_node.connect(self.address_of(bob_node), b"Bob-67890")
        yield session, await bob_node.accept()


Program = Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class Stack:
    """An event loop and the adapter for it."""

    name: str
    stt: ModuleType
    backend: str
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, program: Program, transport: str) -> None:
        """Run ``program`` to its end."""
        if self.backend == "native":
            trio.run(self._limited, program, World(self.stt, TRIO, transport))
        else:
            world = World(self.stt, ANYIO, transport)
            anyio.run(self._limited, program, world, backend=self.backend, backend_options=self.options)

    async def _limited(self, program: Program, world: World) -> None:
        with world.loop.stack.fail_after(LIMIT):
            async with world.stack:
                await program(world)


STACKS = [
    Stack("asyncio", stt_anyio, "asyncio"),
    Stack("uvloop", stt_anyio, "asyncio", {"use_uvloop": True}),
    Stack("anyio-on-trio", stt_anyio, "trio"),
    Stack("trio", stt_trio, "native"),
]


def on(*names: str) -> Callable[[Program], Callable[..., None]]:
    """Make a test of a program: it runs on the stacks of these names, over every transport."""
    stacks = [stack for stack in STACKS if stack.name in names]

    def make(program: Program) -> Callable[..., None]:
        @pytest.mark.parametrize("transport", TRANSPORTS)
        @pytest.mark.parametrize("stack", stacks, ids=[stack.name for stack in stacks])
        @functools.wraps(program)
        def run(stack: Stack, transport: str) -> None:
            stack.run(program, transport)

        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("stack", "transport")]
        )
        return run

    return make


everywhere = on(*(stack.name for stack in STACKS))
"""Make a test of a program: it runs on every stack, over every transport."""
