"""The other side of a transfer, played by the test: it can stop at any point of the protocol, and break every rule.

The records are those that the docstring of ``stt_anyio.cli.transfer`` shows.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from stt_anyio import ByteStream, STTNode, STTSession
from tests.cli.command import SEED

KEEP_ALIVE_TIMEOUT = 10.0
"""The command's; whoever learns of an end sooner was told."""


@asynccontextmanager
async def listening() -> AsyncIterator[STTNode]:
    """A node that holds the seed."""
    async with STTNode(shared_seed=SEED.encode(), bind_address="127.0.0.1") as node:
        yield node


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[STTSession]:
    """A session with a receiver."""
    async with listening() as node, await node.connect(("127.0.0.1", port)) as session:
        yield session


async def offer(session: STTSession, **record: Any) -> ByteStream:
    """Begin to send a file: ``name`` and ``size``, or whatever the test likes."""
    stream = session.open_byte_stream(purpose="stt.file")
    await tell(stream, **record)
    return stream


async def offered(node: STTNode) -> tuple[STTSession, ByteStream, dict[str, Any]]:
    """What the next sender comes with: its session, the stream of its first file, and what it says about it."""
    session = await node.accept()
    return session, *await offered_in(session)


async def offered_in(session: STTSession) -> tuple[ByteStream, dict[str, Any]]:
    """The next file of a session."""
    stream = await session.accept_stream()
    assert isinstance(stream, ByteStream)
    assert stream.purpose == "stt.file"
    return stream, await hear(stream)


async def tell(stream: ByteStream, **record: Any) -> None:
    text = json.dumps(record).encode()
    await stream.send(len(text).to_bytes(4, "big") + text)


async def hear(stream: ByteStream) -> dict[str, Any]:
    size = int.from_bytes(await _exactly(stream, 4), "big")
    record = json.loads(await _exactly(stream, size))
    assert isinstance(record, dict)
    return record


async def drain(stream: ByteStream) -> None:
    """Read to the end."""
    async for _ in stream:
        pass


async def _exactly(stream: ByteStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive(size - len(data))
    return data
