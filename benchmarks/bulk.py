"""One stream between two processes over loopback, through the public adapter; a bytes stream, nothing on disk."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

import anyio

from stt_anyio import STTNode, STTSession

SEED = b"seed of a benchmark"
CHUNK = bytes(1 << 20)


async def serve() -> None:
    """The receiving process: prints its port, takes one stream, answers with the count."""
    async with STTNode(b"server", shared_seed=SEED, bind_address="127.0.0.1") as node:
        print(node.port, flush=True)
        session = await node.accept()
        stream = await session.accept_stream()
        count = 0
        async for data in stream:
            count += len(data)
        await stream.send(str(count).encode())
        await session.wait_closed()


async def _send(session: STTSession, size: int) -> float:
    stream = session.open_byte_stream(purpose="bulk")
    begun = perf_counter()
    for _ in range(size // len(CHUNK)):
        await stream.send(CHUNK)
    await stream.send_eof()
    answer = await stream.receive()
    spent = perf_counter() - begun
    if int(answer) != size // len(CHUNK) * len(CHUNK):
        raise RuntimeError(f"the receiver counted {answer!r} bytes")
    return spent


async def run(mebibytes: int) -> float:
    """MB (10^6 bytes) a second."""
    command = [sys.executable, "-m", "benchmarks", "serve"]
    async with await anyio.open_process(command, stdin=subprocess.DEVNULL, stderr=None) as server:
        try:
            if server.stdout is None:
                raise RuntimeError("the server has no stdout")
            port = int(await server.stdout.receive())
            async with (
                STTNode(b"client", shared_seed=SEED, bind_address="127.0.0.1") as node,
                await node.connect(("127.0.0.1", port)) as session,
            ):
                spent = await _send(session, mebibytes << 20)
            await server.wait()
        finally:
            if server.returncode is None:
                server.kill()
    return (mebibytes << 20) / spent / 1e6
