"""Pinned identities in a file that people can read, like ssh's ``known_hosts``.

Rule: every change happens under one lock, and is read again before. A pin that is there is never replaced; a file that
others may write, or a line that is no pin, is an error, and neither ignored nor overwritten.

A line is a node id and an identity key, both in hexadecimal, with the id in plain text after ``#``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stt_backends.locked_file import open_locked
from stt_core.config import check_bytes
from stt_core.errors import StoreError

MOST_PINS: Final = 1 << 16
"""Pins in one file; a peer that would be one more is refused."""


class FilePinStore:
    """A :class:`~stt_core.pins.PinStore` in the file ``path``, made with mode 0600 where it isn't there.

    Several processes may share it. ``dict(store.items())`` are the pins, by node id.

    :raises StoreError: on making one and on every call, where the file can't be read or isn't what it should be.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._pins: dict[bytes, bytes] = {}
        self._seen: tuple[int, int, int] | None = None
        with self._locked():
            pass

    def __repr__(self) -> str:
        return f"<FilePinStore {self._path}, {len(self._pins)} pins>"

    def items(self) -> list[tuple[bytes, bytes]]:
        """All pins: node id and identity key."""
        self._refresh()
        return list(self._pins.items())

    def pinned(self, node_id: bytes) -> bytes | None:
        """See :class:`~stt_core.pins.PinStore`."""
        self._refresh()
        return self._pins.get(node_id)

    def pin(self, node_id: bytes, key: bytes) -> bytes:
        """See :class:`~stt_core.pins.PinStore`."""
        check_bytes("node_id", node_id, 1, 255)
        check_bytes("key", key, 32, 32)
        found = self.pinned(node_id)
        if found is not None:
            return found
        with self._locked() as file:
            found = self._pins.get(node_id)
            if found is None:
                if len(self._pins) >= MOST_PINS:
                    raise StoreError(f"there are {MOST_PINS} pins in {self._path} already: take some out")
                _append(file, _line(node_id, key))
                self._note(node_id, key, file)
                found = key
        return found

    def forget(self, node_id: bytes) -> bool:
        """Take out a pin, so that the next identity is pinned; False where there is none. For people, not for peers."""
        with self._locked():
            if node_id not in self._pins:
                return False
            rest = {other: key for other, key in self._pins.items() if other != node_id}
            fresh = self._path.with_name(f".{self._path.name}.new")  # one that a crash left is overwritten
            file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                _append(file, b"".join([_line(*pin) for pin in rest.items()]))
                os.fsync(file)
            finally:
                os.close(file)
            os.replace(fresh, self._path)
            self._pins, self._seen = rest, None
        return True

    # --- the file

    def _refresh(self) -> None:
        """Read it again where it changed."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise self._trouble(error) from error
        if _state(found) != self._seen:
            with self._locked():
                pass

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, locked and read."""
        try:
            file = self._open()
            try:
                self._read(file)
                yield file
            finally:
                os.close(file)  # which gives the lock back
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> StoreError:
        return StoreError(f"can't use the pins in {self._path}: {error.strerror or error}")

    def _open(self) -> int:
        return open_locked(
            self._path,
            os.O_RDWR | os.O_APPEND,
            lambda file: fcntl.flock(file, fcntl.LOCK_EX),
            forbidden=0o022,
            foreign=f"the pins in {self._path} are in no file of this user's",
            open_to=f"others may write the pins in {self._path}: chmod 600 it",
        )

    def _read(self, file: int) -> None:
        found = os.fstat(file)
        if _state(found) == self._seen:
            return
        pins: dict[bytes, bytes] = {}
        data = b"".join(iter(lambda: os.read(file, 1 << 20), b""))
        for number, line in enumerate(data.splitlines(), 1):
            words = line.partition(b"#")[0].split()
            if not words:
                continue
            try:
                node_id, key = [bytes.fromhex(word.decode("ascii")) for word in words]
            except ValueError:
                node_id = key = b""
            if not 1 <= len(node_id) <= 255 or len(key) != 32 or pins.setdefault(node_id, key) != key:
                raise StoreError(f"line {number} of {self._path} is no pin: a node id and a key, in hexadecimal, once")
        self._pins, self._seen = pins, _state(found)

    def _note(self, node_id: bytes, key: bytes, file: int) -> None:
        self._pins[node_id] = key
        self._seen = _state(os.fstat(file))


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _line(node_id: bytes, key: bytes) -> bytes:
    plain = repr(node_id)[2:-1]  # with whatever could end the line escaped
    return f"{node_id.hex()} {key.hex()}  # {plain}\n".encode()


def _append(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
