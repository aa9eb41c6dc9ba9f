"""The behaviours this library promises, as checks: for its own streams and nodes, and for yours.

Streams are anything with ``send``, ``receive``, ``send_eof`` and ``aclose``; nodes have the names of ``STTNode``. Each
check raises ``AssertionError``, or what went wrong, where something behaves otherwise.
"""

from __future__ import annotations

from typing import Final

import anyio
import anyio.lowlevel

from stt_backends.behaviours.contents import CONTENTS, MakeDistribution
from stt_backends.behaviours.moves import MOVES
from stt_backends.behaviours.nodes import NODES, MakeNode
from stt_backends.behaviours.resuming import RESUMING
from stt_backends.behaviours.stack import Stack, check
from stt_backends.behaviours.streams import BYTE_STREAMS, MESSAGE_STREAMS, CheckedStream, MakePair

__all__ = [
    "BYTE_STREAMS", "CONTENTS", "MESSAGE_STREAMS", "MOVES", "NODES", "RESUMING", "STACK", "CheckedStream",
    "MakeDistribution", "MakeNode", "MakePair", "check_byte_streams", "check_contents", "check_message_streams",
    "check_nodes",
]  # fmt: skip

STACK: Final = Stack(
    end=anyio.EndOfStream,
    closed=anyio.ClosedResourceError,
    broken=anyio.BrokenResourceError,
    busy=anyio.BusyResourceError,
    open_group=anyio.create_task_group,
    fail_after=anyio.fail_after,
    cancel_scope=anyio.CancelScope,
    wait_all_tasks_blocked=anyio.wait_all_tasks_blocked,
    checkpoint=anyio.lowlevel.checkpoint,
)
"""What the behaviours need; each is called with it and with what makes its subject."""


async def check_message_streams(make: MakePair) -> None:
    """Check streams of messages; ``async with make() as (one, other)`` gives both ends of a new one."""
    await check(STACK, MESSAGE_STREAMS, make)


async def check_byte_streams(make: MakePair) -> None:
    """Check streams of bytes; ``async with make() as (one, other)`` gives both ends of a new one."""
    await check(STACK, BYTE_STREAMS, make)


async def check_nodes(make: MakeNode) -> None:
    """Check nodes; ``async with make(**settings) as node`` starts one at a free port of 127.0.0.1."""
    await check(STACK, (*NODES, *MOVES, *RESUMING), make)


async def check_contents(make: MakeDistribution) -> None:
    """Check distributions; ``async with make(**settings) as content`` gives one whose node is served by it."""
    await check(STACK, CONTENTS, make)
