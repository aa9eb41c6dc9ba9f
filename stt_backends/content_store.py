"""Contents in a directory: their bytes in files, what is known of them in SQLite (docs/content.md, "The store").

Rule: a piece counts as here only once its bytes are on the disk, so that whatever a crash leaves behind is either right
or fetched again. What is read is not verified anew: whoever gets it does that.

Calls block for as long as the disk does; they may come from any thread.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stt_core.content.manifest import MAX_SIZE, Manifest
from stt_core.content.tree import HASH_SIZE, LEAF, PIECE, PIECE_LEAVES, TreeBuilder, hash_leaf, leaf_count, leaves_in
from stt_core.errors import ConfigurationError, StateError, StoreError

SCHEMA: Final = 1
"""What ``PRAGMA user_version`` says of an index this version understands."""
MOST_LEAVES: Final = 64
"""Pieces whose leaf hashes are kept at hand, 8 KiB each."""
MOST_OPEN: Final = 32
"""Files kept open though nobody reads or writes them at the moment."""


class StoreFullError(StoreError):
    """The content doesn't fit beside what is pinned or in use."""


@dataclass(frozen=True, slots=True)
class StoredContent:
    """What a store has of one content; ``have`` holds a byte for each piece, 1 for those that are here."""

    manifest: Manifest
    have: bytes
    pinned: bool

    @property
    def complete(self) -> bool:
        """Whether all of it is here."""
        return 0 not in self.have


class ContentStore:
    """A directory of contents, of ``size_limit`` bytes at most where that is given.

    Where room is needed, the content that was not used for longest goes first; pinned ones and those in use stay. One
    process uses a directory at a time.

    :raises StoreError: if the directory can't be had, is in use, or was written by another version.
    """

    def __init__(self, directory: str | os.PathLike[str], size_limit: int | None = None) -> None:
        if size_limit is not None and size_limit < 1:
            raise ConfigurationError(f"size_limit is {size_limit}, expected a number of bytes, or None for no limit")
        self.directory = Path(directory)
        self.size_limit = size_limit
        self._data = self.directory / "data"
        self._lock = threading.RLock()
        self._in_use: dict[bytes, int] = {}
        self._leaves: OrderedDict[tuple[bytes, int], tuple[bytes, ...]] = OrderedDict()
        self._open: OrderedDict[bytes, _Handle] = OrderedDict()
        self._removed: list[bytes] = []
        try:
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._index: sqlite3.Connection | None = _open_index(self.directory / "index.sqlite3")
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"can't use {self.directory} as a store: {error}") from error
        self._remove_strays()

    def close(self) -> None:
        """Let go of the directory."""
        with self._lock:
            self._let_go(0)
            if self._index is not None:
                self._index.close()
                self._index = None

    @property
    def _database(self) -> sqlite3.Connection:
        """The index.

        :raises StateError: once the store was closed, perhaps by another thread.
        """
        if self._index is None:
            raise StateError(f"the store {self.directory} was closed")
        return self._index

    # --- what is here

    def contents(self) -> list[bytes]:
        """The names of all contents of which anything is here."""
        with self._lock:
            return [row[0] for row in self._database.execute("SELECT content_id FROM contents ORDER BY used")]

    def find(self, content_id: bytes) -> StoredContent | None:
        """What is here of a content, or None."""
        with self._lock:
            row = self._database.execute(
                "SELECT size, pieces, have, pinned FROM contents WHERE content_id = ?", (content_id,)
            ).fetchone()
        if row is None:
            return None
        size, pieces, have, pinned = row
        hashes = tuple(pieces[at : at + HASH_SIZE] for at in range(0, len(pieces), HASH_SIZE))
        return StoredContent(Manifest(content_id, size, hashes), have, bool(pinned))

    @property
    def used_bytes(self) -> int:
        """The sizes of all contents here, as if they were whole."""
        with self._lock:
            return int(self._database.execute("SELECT coalesce(sum(size), 0) FROM contents").fetchone()[0])

    def read(self, content_id: bytes, offset: int, length: int) -> bytes:
        """So many bytes of a content, fewer at its end; of pieces that aren't here, anything.

        :raises StoreError: if there is nothing of it here, or the disk fails.
        """
        try:
            with self._file(content_id) as descriptor:
                return os.pread(descriptor, length, offset)
        except OSError as error:
            raise StoreError(f"can't read content {content_id.hex()}: {error.strerror or error}") from error

    def leaves(self, content_id: bytes, piece: int) -> tuple[bytes, ...]:
        """The hashes of the leaves of a piece that is here.

        :raises StoreError: if it isn't.
        """
        with self._lock:
            known = self._leaves.get((content_id, piece))
        if known is not None:
            return known
        found = self.find(content_id)
        if found is None or piece >= len(found.have) or not found.have[piece]:
            raise StoreError(f"piece {piece} of content {content_id.hex()} isn't here")
        size = found.manifest.size
        data = memoryview(self.read(content_id, piece * PIECE, PIECE))
        last = leaf_count(size) - 1
        first = piece * PIECE_LEAVES
        hashes = tuple(
            hash_leaf(data[n * LEAF : (n + 1) * LEAF], first + n, last=first + n == last)
            for n in range(leaves_in(size, piece))
        )
        with self._lock:
            self._leaves[content_id, piece] = hashes
            while len(self._leaves) > MOST_LEAVES:
                self._leaves.popitem(last=False)
        return hashes

    @contextmanager
    def using(self, content_id: bytes) -> Iterator[None]:
        """Keep a content from being removed to make room."""
        with self._lock:
            self._in_use[content_id] = self._in_use.get(content_id, 0) + 1
            self._touch(content_id)
        try:
            yield
        finally:
            with self._lock:
                self._in_use[content_id] -= 1
                if not self._in_use[content_id]:
                    del self._in_use[content_id]

    # --- what comes in

    def begin(self, manifest: Manifest) -> StoredContent:
        """Make room for a content that will be fetched; goes on with what is here of it.

        :raises StoreFullError: if there is none.
        """
        with self._lock:
            found = self.find(manifest.content_id)
            if found is not None:
                return found
            self._make_room(manifest.size)
            with self._path(manifest.content_id).open("ab"):
                pass  # it exists before the index says so
            have = bytes(len(manifest.pieces))
            self._insert(manifest, have)
            return StoredContent(manifest, have, pinned=False)

    def write(self, content_id: bytes, offset: int, data: bytes) -> None:
        """Store verified bytes; they count once :meth:`complete_piece` says so.

        :raises StoreError: if the disk fails.
        """
        try:
            with self._file(content_id) as descriptor:
                written = 0
                while written < len(data):
                    written += os.pwrite(descriptor, data[written:], offset + written)
        except OSError as error:
            raise StoreError(f"can't write content {content_id.hex()}: {error.strerror or error}") from error

    def complete_pieces(self, content_id: bytes, pieces: Iterable[int]) -> None:
        """All bytes of these were written: from now on they are here, also after a crash.

        :raises StoreError: if the disk fails.
        """
        try:
            with self._file(content_id) as descriptor:
                os.fdatasync(descriptor)
        except OSError as error:
            raise StoreError(f"can't write content {content_id.hex()}: {error.strerror or error}") from error
        with self._lock, self._database:
            (have,) = self._database.execute("SELECT have FROM contents WHERE content_id = ?", (content_id,)).fetchone()
            changed = bytearray(have)
            for piece in pieces:
                changed[piece] = 1
            self._database.execute("UPDATE contents SET have = ? WHERE content_id = ?", (bytes(changed), content_id))

    def importing(self) -> Import:
        """A content from this machine: write it all, then commit."""
        return Import(self, self._data / f"incoming-{os.urandom(8).hex()}")

    def adopt(self, manifest: Manifest, path: Path) -> None:
        """Take a file in this directory for a whole content; for :class:`Import`.

        :raises StoreFullError: if it doesn't fit.
        """
        with self._lock:
            found = self.find(manifest.content_id)
            if found is None:
                self._make_room(manifest.size)
            self._forget_file(manifest.content_id)
            path.replace(self._path(manifest.content_id))
            have = b"\1" * len(manifest.pieces)
            if found is None:
                self._insert(manifest, have)
                return
            with self._database:
                self._database.execute("UPDATE contents SET have = ? WHERE content_id = ?", (have, manifest.content_id))

    # --- what stays

    def pin(self, content_id: bytes, pinned: bool = True) -> None:
        """Keep a content whatever room is needed, or no longer.

        :raises StoreError: if there is nothing of it here.
        """
        with self._lock, self._database:
            changed = self._database.execute(
                "UPDATE contents SET pinned = ? WHERE content_id = ?", (int(pinned), content_id)
            ).rowcount
        if not changed:
            raise StoreError(f"there is nothing of content {content_id.hex()} here")

    def remove(self, content_id: bytes) -> None:
        """Forget a content and delete its bytes; nothing where it isn't here."""
        with self._lock:
            with self._database:
                self._database.execute("DELETE FROM contents WHERE content_id = ?", (content_id,))
            self._removed.append(content_id)
            self._forget_file(content_id)
            self._path(content_id).unlink(missing_ok=True)
            for key in [key for key in self._leaves if key[0] == content_id]:
                del self._leaves[key]

    def take_removed(self) -> list[bytes]:
        """The names of the contents that were removed since the last time this was asked."""
        with self._lock:
            removed, self._removed = self._removed, []
        return removed

    def _make_room(self, size: int) -> None:
        if self.size_limit is None:
            return
        if size > self.size_limit:
            raise StoreFullError(f"a content of {size} bytes, and the store takes {self.size_limit} in all")
        evictable = self._database.execute("SELECT content_id, size FROM contents WHERE NOT pinned ORDER BY used")
        room = self.size_limit - self.used_bytes
        for content_id, freed in evictable.fetchall():
            if room >= size:
                break
            if content_id not in self._in_use:
                self.remove(content_id)
                room += freed
        if room < size:
            raise StoreFullError(f"{size} bytes don't fit: what is pinned or in use leaves {max(room, 0)}")

    def _insert(self, manifest: Manifest, have: bytes) -> None:
        with self._database:
            self._database.execute(
                "INSERT INTO contents (content_id, size, pieces, have, pinned, used) "
                "VALUES (?, ?, ?, ?, 0, (SELECT coalesce(max(used), 0) + 1 FROM contents))",
                (manifest.content_id, manifest.size, manifest.hashes, have),
            )

    def _touch(self, content_id: bytes) -> None:
        with self._database:
            self._database.execute(
                "UPDATE contents SET used = (SELECT max(used) + 1 FROM contents) WHERE content_id = ?", (content_id,)
            )

    def _remove_strays(self) -> None:
        """What a crash left: files that the index doesn't know, entries without a file."""
        known = {content_id.hex() for content_id in self.contents()}
        for path in self._data.iterdir():
            if path.name not in known:
                path.unlink()
        for name in known:
            if not (self._data / name).exists():
                self.remove(bytes.fromhex(name))

    def _path(self, content_id: bytes) -> Path:
        return self._data / content_id.hex()

    # --- files that are open

    @contextmanager
    def _file(self, content_id: bytes) -> Iterator[int]:
        """The descriptor of a content's file, not closed while this is entered."""
        with self._lock:
            handle = self._open.get(content_id)
            if handle is None:
                handle = self._open[content_id] = _Handle(os.open(self._path(content_id), os.O_RDWR | os.O_CLOEXEC))
            self._open.move_to_end(content_id)
            handle.users += 1
            self._let_go(MOST_OPEN)
        try:
            yield handle.descriptor
        finally:
            with self._lock:
                handle.users -= 1
                if handle.forgotten and not handle.users:
                    os.close(handle.descriptor)

    def _let_go(self, most: int) -> None:
        """Close files that nobody uses, the one used longest ago first, until so many are open."""
        unused = [content_id for content_id, handle in self._open.items() if not handle.users]
        for content_id in unused[: max(0, len(self._open) - most)]:
            self._forget_file(content_id)

    def _forget_file(self, content_id: bytes) -> None:
        """Close a file, as soon as nobody uses it."""
        handle = self._open.pop(content_id, None)
        if handle is None:
            return
        handle.forgotten = True
        if not handle.users:
            os.close(handle.descriptor)


class _Handle:
    """A file that is open, and how many are at it."""

    __slots__ = ("descriptor", "forgotten", "users")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.users = 0
        self.forgotten = False


class Import:
    """A content on its way into a store: :meth:`write` its bytes in order, then :meth:`commit`."""

    def __init__(self, store: ContentStore, path: Path) -> None:
        self.store = store
        self._path = path
        self._builder = TreeBuilder()
        self._file = path.open("xb")

    def write(self, data: bytes | memoryview) -> None:
        """The next bytes.

        :raises StoreError: if the disk fails, or the content gets larger than any may be.
        """
        if self._builder.size + len(data) > MAX_SIZE:
            raise StoreError(f"a content may have {MAX_SIZE} bytes, and this one has more")
        self._builder.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise StoreError(f"can't write to {self.store.directory}: {error.strerror or error}") from error

    def commit(self) -> Manifest:
        """That was all: the content is in the store, and this is its manifest.

        :raises StoreFullError: if it doesn't fit; then it is not.
        """
        manifest = Manifest.from_builder(self._builder)
        try:
            self._file.flush()
            os.fdatasync(self._file.fileno())
            self._file.close()
            self.store.adopt(manifest, self._path)
        except OSError as error:
            self.abandon()
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"can't write to {self.store.directory}: {error.strerror or error}") from error
        return manifest

    def abandon(self) -> None:
        """Leave nothing behind; also after :meth:`commit`, harmlessly."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def _open_index(path: Path) -> sqlite3.Connection:
    """The index, made where there is none, and held by this process alone.

    :raises StoreError: if another process holds it, or another version made it.
    """
    index = sqlite3.connect(path, check_same_thread=False, timeout=0)
    try:
        index.execute("PRAGMA locking_mode = EXCLUSIVE")
        index.execute("PRAGMA journal_mode = WAL")
        (version,) = index.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA):
            raise StoreError(f"{path} is of format {version}, this version reads {SCHEMA}")
        with index:
            index.execute("BEGIN IMMEDIATE")  # takes the lock that exclusive mode then keeps
            index.execute(
                "CREATE TABLE IF NOT EXISTS contents ("
                "content_id BLOB PRIMARY KEY, size INTEGER NOT NULL, pieces BLOB NOT NULL, have BLOB NOT NULL, "
                "pinned INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID"
            )
            index.execute(f"PRAGMA user_version = {SCHEMA}")
    except sqlite3.OperationalError as error:
        index.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise StoreError(f"another process uses {path.parent}: one at a time, or give each its own") from error
        raise
    except BaseException:
        index.close()
        raise
    return index
