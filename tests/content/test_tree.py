"""The hash tree: the same whatever way the bytes come in, and as its page defines it."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from stt_core.content.manifest import MAX_SIZE, Manifest
from stt_core.content.tree import LEAF, PIECE, PIECE_LEAVES, TreeBuilder, hash_leaf, leaf_count
from stt_core.errors import Violation

SIZES = [0, 1, LEAF - 1, LEAF, LEAF + 1, 3 * LEAF, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5 * LEAF + 7, 3 * PIECE]


def content(size: int) -> bytes:
    return (b"%08d" % size + bytes(range(256)) * (size // 256 + 1))[:size]


def manifest_of(data: bytes, step: int = 1 << 20) -> Manifest:
    builder = TreeBuilder()
    for start in range(0, len(data), step):
        builder.update(data[start : start + step])
    return Manifest.from_builder(builder)


def reference_root(data: bytes) -> bytes:
    """The definition, read literally: all levels whole, one above the other."""
    parameters = {"digest_size": 32, "fanout": 2, "depth": 64, "leaf_size": LEAF, "inner_size": 32}
    leaves = [data[at : at + LEAF] for at in range(0, len(data), LEAF)] or [b""]
    row = [
        blake2b(leaf, node_depth=0, node_offset=n, last_node=n == len(leaves) - 1, **parameters).digest()  # type: ignore[arg-type]
        for n, leaf in enumerate(leaves)
    ]
    level = 0
    while len(row) > 1:
        level += 1
        width = (len(row) + 1) // 2
        row = [
            blake2b(
                row[2 * n] + row[2 * n + 1],
                node_depth=level,
                node_offset=n,
                last_node=n == width - 1,
                **parameters,  # type: ignore[arg-type]
            ).digest()
            if 2 * n + 1 < len(row)
            else row[2 * n]
            for n in range(width)
        ]
    return row[0]


@pytest.mark.parametrize("size", SIZES)
def test_a_name_is_what_its_definition_says(size: int) -> None:
    data = content(size)
    head = b"\x01" + size.to_bytes(8, "big") + LEAF.to_bytes(4, "big")
    assert manifest_of(data).content_id == blake2b(head + reference_root(data), digest_size=32).digest()


@pytest.mark.parametrize("step", [1, 7, LEAF - 1, LEAF, LEAF + 1, PIECE])
def test_a_name_does_not_hang_on_how_the_bytes_come_in(step: int) -> None:
    data = content(PIECE + 3 * LEAF + 5) if step > 7 else content(2 * LEAF + 5)
    assert manifest_of(data, step) == manifest_of(data)


def test_names_that_were_published_stay() -> None:
    """The vectors of docs/content.md: a change here is another format."""
    assert manifest_of(b"").content_id.hex() == EMPTY
    assert manifest_of(b"hello, world\n").content_id.hex() == HELLO
    assert manifest_of(bytes(PIECE + 1)).content_id.hex() == ZEROS


EMPTY = "84426a96957ae247c6b6e219882f61ba90f59adadcb766b2ab93f83e7f8e08db"
HELLO = "6d284d4df3fa649449ad3b8f9feb33ab2e6f893e52f26a87028c81866001bfec"
ZEROS = "eb657226a019e585f284c187a94ee8651af0de47ca95a9b5c336d9d3ecea17c2"


@pytest.mark.parametrize("size", [1, LEAF + 1, PIECE + LEAF])
def test_every_bit_counts(size: int) -> None:
    data = content(size)
    name = manifest_of(data).content_id
    for at in {0, size // 2, size - 1}:
        changed = bytearray(data)
        changed[at] ^= 1
        assert manifest_of(bytes(changed)).content_id != name
    assert manifest_of(data + b"\0").content_id != name
    assert manifest_of(data[:-1]).content_id != name


def test_a_leaf_is_not_a_node_nor_a_leaf_elsewhere() -> None:
    data = content(LEAF)
    assert len({hash_leaf(data, index, last=last) for index in (0, 1) for last in (False, True)}) == 4


def test_a_finished_builder_says_the_same_again() -> None:
    builder = TreeBuilder()
    builder.update(content(LEAF + 1))
    assert builder.finish() == builder.finish()


@pytest.mark.parametrize("size", SIZES)
def test_a_manifest_crosses_the_wire(size: int) -> None:
    manifest = manifest_of(content(size))
    assert Manifest.parse_untrusted(manifest.content_id, size, manifest.hashes) == manifest


def test_a_manifest_that_gives_another_name_is_refused() -> None:
    manifest = manifest_of(content(2 * PIECE + 1))
    hashes = bytearray(manifest.hashes)
    hashes[40] ^= 1
    for size, forged in [
        (manifest.size, bytes(hashes)),
        (manifest.size - 1, manifest.hashes),
        (manifest.size, manifest.hashes[:-32]),
        (manifest.size, manifest.hashes + bytes(32)),
        (MAX_SIZE + 1, manifest.hashes),
        (2**64 - 1, b""),
    ]:
        with pytest.raises(Violation):
            Manifest.parse_untrusted(manifest.content_id, size, forged)


def leaves_of(data: bytes, piece: int) -> tuple[bytes, ...]:
    last = leaf_count(len(data)) - 1
    first = piece * PIECE_LEAVES
    return tuple(
        hash_leaf(data[n * LEAF : (n + 1) * LEAF], n, last=n == last)
        for n in range(first, min(first + PIECE_LEAVES, last + 1))
    )


def test_leaves_and_runs_are_held_to_their_hashes() -> None:
    data = content(PIECE + 2 * LEAF + 9)
    manifest = manifest_of(data)
    leaves = leaves_of(data, 1)
    manifest.check_leaves_untrusted(1, leaves)
    manifest.check_leaves_untrusted(0, leaves_of(data, 0))
    manifest.check_run_untrusted(PIECE_LEAVES, data[PIECE:], leaves)
    for wrong in (leaves[:-1], (*leaves[:-1], bytes(32)), (leaves[1], leaves[0], leaves[2])):
        with pytest.raises(Violation, match="leaf hashes of piece 1"):
            manifest.check_leaves_untrusted(1, wrong)
    for run in (data[PIECE:-1], data[PIECE:] + b"\0", data[PIECE + 1 :] + b"\0", data[PIECE : PIECE + LEAF]):
        with pytest.raises(Violation):
            manifest.check_run_untrusted(PIECE_LEAVES, run, leaves)
