"""The store keeps what it says it keeps, through crashes and full disks, and within its limit."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stt_backends.content_store import ContentStore, StoreFullError
from stt_core.content.manifest import Manifest
from stt_core.content.tree import LEAF, PIECE, TreeBuilder
from stt_core.errors import ConfigurationError, StoreError


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def manifest_of(data: bytes) -> Manifest:
    builder = TreeBuilder()
    builder.update(data)
    return Manifest.from_builder(builder)


def put(store: ContentStore, data: bytes) -> Manifest:
    incoming = store.importing()
    for start in range(0, len(data), 1 << 20):
        incoming.write(data[start : start + (1 << 20)])
    return incoming.commit()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContentStore]:
    opened = ContentStore(tmp_path / "store")
    yield opened
    opened.close()


@pytest.mark.parametrize("size", [0, 1, LEAF, PIECE, PIECE + LEAF + 3])
def test_what_is_imported_is_whole_and_named_after_its_bytes(store: ContentStore, size: int) -> None:
    data = content(size)
    manifest = put(store, data)
    assert manifest == manifest_of(data)
    found = store.find(manifest.content_id)
    assert found is not None
    assert (found.manifest, found.complete, found.pinned) == (manifest, True, False)
    assert store.read(manifest.content_id, 0, size + 1) == data
    for piece in range(len(manifest.pieces)):
        manifest.check_leaves_untrusted(piece, store.leaves(manifest.content_id, piece))


def test_pieces_come_in_any_order_and_outlive_the_process(tmp_path: Path) -> None:
    data = content(2 * PIECE + 5)
    manifest = manifest_of(data)
    name = manifest.content_id
    store = ContentStore(tmp_path)
    store.begin(manifest)
    store.write(name, 2 * PIECE, data[2 * PIECE :])
    store.complete_pieces(name, [2])
    store.write(name, 0, data[:PIECE])  # and the machine stops here
    store.close()

    again = ContentStore(tmp_path)
    assert again.begin(manifest).have == b"\0\0\1", "a piece that was not completed doesn't count"
    with pytest.raises(StoreError, match="piece 0"):
        again.leaves(name, 0)
    manifest.check_leaves_untrusted(2, again.leaves(name, 2))
    for piece in (0, 1):
        again.write(name, piece * PIECE, data[piece * PIECE : (piece + 1) * PIECE])
        again.complete_pieces(name, [piece])
    found = again.find(name)
    assert found is not None
    assert found.complete
    assert again.read(name, 0, len(data)) == data
    again.close()


def test_importing_what_is_there_in_part_completes_it(store: ContentStore) -> None:
    data = content(PIECE + 1)
    store.begin(manifest_of(data))
    manifest = put(store, data)
    found = store.find(manifest.content_id)
    assert found is not None
    assert found.complete
    assert store.contents() == [manifest.content_id]


def test_an_abandoned_import_leaves_nothing(store: ContentStore) -> None:
    incoming = store.importing()
    incoming.write(b"half")
    incoming.abandon()
    assert list((store.directory / "data").iterdir()) == []
    assert store.contents() == []


def test_the_least_recently_used_makes_room(tmp_path: Path) -> None:
    store = ContentStore(tmp_path, size_limit=3000)
    first, second, third = (put(store, content(1000, seed)).content_id for seed in range(3))
    with store.using(first):
        pass
    fourth = put(store, content(1000, 4)).content_id
    assert set(store.contents()) == {first, third, fourth}
    assert store.used_bytes == 3000
    assert not (tmp_path / "data" / second.hex()).exists()
    store.close()


def test_what_is_pinned_or_in_use_stays(tmp_path: Path) -> None:
    store = ContentStore(tmp_path, size_limit=2000)
    pinned, used = (put(store, content(1000, seed)).content_id for seed in range(2))
    store.pin(pinned)
    with store.using(used), pytest.raises(StoreFullError, match="leaves 0"):
        put(store, content(1000, 3))
    assert set(store.contents()) == {pinned, used}
    new = put(store, content(1000, 3)).content_id
    assert set(store.contents()) == {pinned, new}
    store.pin(pinned, pinned=False)
    put(store, content(2000, 4))
    assert len(store.contents()) == 1
    store.close()


def test_a_content_larger_than_the_store_is_refused_before_anything_is_removed(tmp_path: Path) -> None:
    store = ContentStore(tmp_path, size_limit=2000)
    kept = put(store, content(1000)).content_id
    with pytest.raises(StoreFullError, match="2000 in all"):
        store.begin(manifest_of(content(2001, 2)))
    with pytest.raises(StoreFullError):
        put(store, content(2001, 2))
    assert store.contents() == [kept]
    assert [path.name for path in (tmp_path / "data").iterdir()] == [kept.hex()]
    store.close()


def test_a_process_has_the_store_for_itself(store: ContentStore) -> None:
    with pytest.raises(StoreError, match="another process uses"):
        ContentStore(store.directory)


def test_strays_of_a_crash_are_cleared(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    lost, kept = (put(store, content(10, seed)).content_id for seed in range(2))
    store.close()
    (tmp_path / "data" / lost.hex()).unlink()
    (tmp_path / "data" / "incoming-1234").write_bytes(b"half")
    again = ContentStore(tmp_path)
    assert again.contents() == [kept]
    assert [path.name for path in (tmp_path / "data").iterdir()] == [kept.hex()]
    again.close()


def test_a_killed_process_leaves_a_store_that_opens(tmp_path: Path) -> None:
    """And the pieces it had completed are whole."""
    data = content(2 * PIECE)
    source = tmp_path / "content"
    source.write_bytes(data)
    script = """
import os, signal, sys
from pathlib import Path
from stt_backends.content_store import ContentStore
from stt_core.content.manifest import Manifest
from stt_core.content.tree import PIECE, TreeBuilder
data = Path(sys.argv[2]).read_bytes()
builder = TreeBuilder()
builder.update(data)
manifest = Manifest.from_builder(builder)
store = ContentStore(sys.argv[1])
store.begin(manifest)
store.write(manifest.content_id, PIECE, data[PIECE:])
store.complete_pieces(manifest.content_id, [1])
store.write(manifest.content_id, 0, data[:100])
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script, tmp_path / "store", source], check=False, timeout=60)
    assert killed.returncode == -9
    store = ContentStore(tmp_path / "store")
    manifest = manifest_of(data)
    found = store.find(manifest.content_id)
    assert found is not None
    assert found.have == b"\0\1"
    assert store.read(manifest.content_id, PIECE, PIECE) == data[PIECE:]
    store.close()


def test_an_index_of_another_format_is_not_touched(tmp_path: Path) -> None:
    ContentStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "index.sqlite3") as index:
        index.execute("PRAGMA user_version = 9")
    index.close()
    with pytest.raises(StoreError, match="format 9"):
        ContentStore(tmp_path)


def test_what_is_no_store_gives_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="can't use"):
        ContentStore(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="can't use"):
        ContentStore(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="size_limit"):
        ContentStore(tmp_path / "new", size_limit=0)


def test_nobody_else_can_read_it(store: ContentStore) -> None:
    assert (store.directory / "data").stat().st_mode & 0o077 == 0


def test_reading_what_is_not_here_says_so(store: ContentStore) -> None:
    with pytest.raises(StoreError, match="can't read"):
        store.read(bytes(32), 0, 1)
    with pytest.raises(StoreError, match="nothing of content"):
        store.pin(bytes(32))
    assert store.find(bytes(32)) is None
    store.remove(bytes(32))


def test_importing_ten_times_a_content_takes_no_more_memory(store: ContentStore) -> None:
    """32 bytes for each 4 MiB, and one piece's leaf hashes."""
    import tracemalloc  # noqa: PLC0415 - only here

    incoming = store.importing()
    block = os.urandom(1 << 20)
    for _ in range(8):
        incoming.write(block)
    tracemalloc.start()
    for _ in range(24):
        incoming.write(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    incoming.abandon()
    assert peak < 200_000
