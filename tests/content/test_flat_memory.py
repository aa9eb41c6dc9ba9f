"""A large file is published and fetched in memory that is bounded whatever its size.

``STT_TEST_FLAT_MIB`` is how large it is, 32 where it isn't set (of more than some 1000, with
``-o faulthandler_timeout=3600``: pytest ends what takes longer than two minutes).
"""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import anyio

from stt_anyio import ContentDistribution, DHTNode, STTNode
from stt_backends.adapter.content import SLICE
from stt_backends.adapter.fetching import MOST_UNWRITTEN

SEED = b"a seed of the content's tests"
MIB = 1 << 20
SIZE = int(os.environ.get("STT_TEST_FLAT_MIB", "32")) * MIB
WINDOW = MIB
"""What may be on its way is the session's affair, and bounded by this: here it is not to hide the rest."""
BOUND = MOST_UNWRITTEN + 2 * SLICE
"""What waits for the disk, and two slices that are on their way from or to it."""


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


async def publish_and_fetch(directory: Path, path: Path, size: int) -> int:
    """The peak of what was allocated meanwhile, in bytes, by both ends."""
    settings: dict[str, Any] = {
        "shared_seed": b"a seed of the content's tests",
        "bind_address": "127.0.0.1",
        "max_window": WINDOW,
    }
    async with (
        STTNode(**settings) as there,
        STTNode(**settings) as here,
        ContentDistribution(node=there, store=directory / "there") as provider,
        ContentDistribution(node=here, store=directory / "here") as fetcher,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(there.serve, provider.serve)
        tracemalloc.start()
        try:
            name = await provider.publish_content(path)
            whereabouts = DHTNode(there.endpoint.config.node_id, "127.0.0.1", there.port)
            received = 0
            async for part in fetcher.fetch(name, providers=[whereabouts]):
                received += len(part)
            assert received == size
            await fetcher.fetch(name).save(directory / "out")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            tasks.cancel_scope.cancel()
    return peak


def test_a_large_file_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    path = sparse(tmp_path / "file", SIZE)
    peak = anyio.run(publish_and_fetch, tmp_path, path, SIZE)
    assert (tmp_path / "out").stat().st_size == SIZE
    assert peak < BOUND, f"{peak >> 10} KiB for {SIZE >> 20} MiB"
