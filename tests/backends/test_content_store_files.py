"""Which files of its contents a store keeps open, and what becomes of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stt_backends.content_store import MOST_OPEN, ContentStore
from stt_core.content.manifest import Manifest
from stt_core.content.tree import TreeBuilder
from stt_core.errors import StateError, StoreError


def descriptors(directory: Path) -> list[str]:
    """The files below ``directory`` that this process has open, each as often as it has."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # the one that listed them
            continue
    return [path for path in found if path.startswith(f"{directory}/data/")]


def begun(store: ContentStore, number: int) -> bytes:
    """A content of which nothing is here yet."""
    builder = TreeBuilder()
    builder.update(number.to_bytes(4, "big"))
    manifest = Manifest.from_builder(builder)
    store.begin(manifest)
    return manifest.content_id


def test_a_file_is_opened_once_for_all_that_is_written_and_read(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    name = begun(store, 1)
    for offset in range(4):
        store.write(name, offset, bytes((offset,)))
        assert store.read(name, 0, 4) == bytes(range(offset + 1))
    store.complete_pieces(name, [0])
    assert descriptors(tmp_path) == [f"{tmp_path}/data/{name.hex()}"]
    store.close()
    assert descriptors(tmp_path) == []


def test_of_many_those_used_last_stay_open(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    names = [begun(store, number) for number in range(MOST_OPEN + 8)]
    for name in names:
        store.write(name, 0, b"data")
    assert set(descriptors(tmp_path)) == {f"{tmp_path}/data/{name.hex()}" for name in names[8:]}
    assert store.read(names[0], 0, 4) == b"data"
    store.close()


def test_what_is_removed_is_closed_and_told_of_once(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    name = begun(store, 1)
    store.write(name, 0, b"data")
    store.remove(name)
    assert descriptors(tmp_path) == []
    assert store.take_removed() == [name]
    assert store.take_removed() == []
    with pytest.raises(StoreError, match="No such file"):
        store.read(name, 0, 4)
    store.close()


def test_a_content_that_is_imported_again_is_read_anew(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    name = begun(store, 1)
    store.write(name, 0, b"half")
    incoming = store.importing()
    incoming.write((1).to_bytes(4, "big"))
    assert incoming.commit().content_id == name
    assert store.read(name, 0, 4) == bytes((0, 0, 0, 1))
    store.close()


def test_a_store_that_was_closed_says_so(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    name = begun(store, 1)
    store.close()
    store.close()
    with pytest.raises(StateError, match="was closed"):
        store.find(name)
