"""The embedder's program of docs/embedding.md, in a process of its own, talks to a node of the adapter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from stt_anyio import MessageStream, STTNode
from tests.docs.markdown import ROOT, blocks

pytestmark = pytest.mark.anyio

SEED = b"a seed of this test alone"
QUESTION = b"a question of some length " * 4096
EMBEDDER = next(block for block in blocks(ROOT / "docs" / "embedding.md") if block.heading == "A complete embedder")
CALL = """
import sys
sys.stdout.buffer.write(ask(("127.0.0.1", int(sys.argv[1])), sys.stdin.buffer.read(), bytes.fromhex(sys.argv[2])))
"""


async def run_embedder(directory: Path, port: int, seed: bytes) -> subprocess.CompletedProcess[bytes]:
    script = directory / "embedder.py"
    script.write_text(EMBEDDER.text + CALL, encoding="utf-8")
    with anyio.fail_after(60):
        return await anyio.run_process(
            [sys.executable, "-W", "error", str(script), str(port), seed.hex()],
            input=QUESTION,
            env={"PYTHONPATH": str(ROOT)},
            check=False,
        )


async def test_bytes_cross_to_a_node_and_back(tmp_path: Path, anyio_backend: Any) -> None:
    ended: list[str] = []

    async with (
        STTNode(node_id=b"node", shared_seed=SEED, bind_address="127.0.0.1") as node,
        anyio.create_task_group() as tasks,
    ):
        node.on_session_closed(lambda session_id, reason: ended.append(reason))

        async def answer() -> None:
            session = await node.accept()
            assert session.peer_node_id == b"embedder"
            stream = await session.accept_stream()
            assert isinstance(stream, MessageStream)
            assert stream.purpose == "question"
            await stream.send((await stream.receive())[::-1])
            await session.wait_closed()

        tasks.start_soon(answer)
        run = await run_embedder(tmp_path, node.port, SEED)

    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout == QUESTION[::-1]
    assert ended == ["graceful"]


async def test_a_wrong_seed_raises_what_the_page_says(tmp_path: Path, anyio_backend: Any) -> None:
    async with STTNode(node_id=b"node", shared_seed=SEED, bind_address="127.0.0.1") as node:
        run = await run_embedder(tmp_path, node.port, b"another seed than that")

    assert run.returncode != 0
    assert b"AuthenticationError" in run.stderr
