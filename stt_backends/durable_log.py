"""A durable stream's bytes in a file, so that the process that sends them may be killed and started again.

Rule: whatever a crash leaves behind is read as what was there before or after, never as something else. A file that
others can read, that is damaged, in use or something else, is an error and never overwritten.

The file is two heads of 64 bytes, of which the newer whole one counts, and the bytes from offset ``start`` of the
stream on. What was consumed is left out when it is most of the file: the rest is written anew beside it, and takes its
place.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Final, ParamSpec, TypeVar

from stt_core.durable import check_append
from stt_core.errors import StoreError

_MAGIC: Final = b"STTD\x01"
_HEAD: Final = Struct(">5sQQQB")
_SLOT: Final = 64
_CHECK: Final = 16
_DATA: Final = 2 * _SLOT
COMPACT: Final = 4 * 1024 * 1024
"""Bytes of the file that are consumed before it is written anew, and half of it at least."""

P = ParamSpec("P")
T = TypeVar("T")


class FileLog:
    """A :class:`~stt_core.durable.DurableLog` in the file ``path``, made with mode 0600 where it isn't there.

    After a restart ``end`` tells how many bytes had been appended: go on from there. One object at a time has a file.
    Bytes survive the end of the process at once, that of the machine after :meth:`sync`.

    :param limit: bytes that may wait to be consumed.
    :raises StoreError: on making one and on every call, where the file can't be used.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int = 1024 * 1024 * 1024) -> None:
        self._path = Path(path)
        self._limit = limit
        self._count = self._start = self.base = self.end = 0
        self.finished = False
        self._file = self._call(self._open)

    def __repr__(self) -> str:
        return f"<FileLog {self._path}, {self.base} to {self.end}>"

    @property
    def room(self) -> int:
        """See :class:`~stt_core.durable.DurableLog`."""
        return self._limit - (self.end - self.base)

    def append(self, data: bytes) -> None:
        """See :class:`~stt_core.durable.DurableLog`."""
        check_append(self, len(data))
        self._call(_write_all, self._file, data, _DATA + self.end - self._start)
        self.end += len(data)

    def finish(self) -> None:
        """See :class:`~stt_core.durable.DurableLog`."""
        self.finished = True
        self._call(self._write_head)

    def read(self, offset: int, size: int) -> bytes:
        """See :class:`~stt_core.durable.DurableLog`."""
        return self._call(os.pread, self._file, min(size, self.end - offset), _DATA + offset - self._start)

    def release(self, offset: int) -> None:
        """See :class:`~stt_core.durable.DurableLog`."""
        if offset == self.base:
            return
        self.base = offset
        gone = self.base - self._start
        self._call(self._compact if gone >= COMPACT and 2 * gone >= self.end - self._start else self._write_head)

    def sync(self) -> None:
        """Return once all is on the disk."""
        self._call(os.fsync, self._file)

    def close(self) -> None:
        """Let others have the file. Nothing a second time."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _call(self, call: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        try:
            return call(*arguments, **keywords)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"can't use the durable stream {self._path}: {error.strerror or error}") from error

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise StoreError(f"the durable stream {self._path} is no file of this user's")
            if found.st_mode & 0o077:
                raise StoreError(f"others may read or write the durable stream {self._path}: chmod 600 it")
            _lock(file, self._path)
            self._file = file
            if found.st_size == 0:
                self._write_head()
            else:
                self._read_head(file, found.st_size)
        except BaseException:
            os.close(file)
            raise
        return file

    def _read_head(self, file: int, size: int) -> None:
        slots = [os.pread(file, _SLOT, at) for at in (0, _SLOT)]
        heads = [_HEAD.unpack_from(slot) for slot in slots if slot[-_CHECK:] == _checksum(slot[:-_CHECK])]
        if not any(slot.startswith(_MAGIC) for slot in slots):
            raise StoreError(f"{self._path} is no durable stream: it begins with something else")
        if not heads:
            raise StoreError(f"the durable stream {self._path} is damaged")
        _, self._count, self._start, self.base, finished = max(heads, key=lambda head: head[1])
        self.end = max(self._start + size - _DATA, self.base)
        self.finished = bool(finished)

    def _write_head(self) -> None:
        """Into the slot whose head is the older."""
        self._count += 1
        _write_all(self._file, self._head(self._start), _SLOT * (self._count % 2))

    def _head(self, start: int) -> bytes:
        head = _HEAD.pack(_MAGIC, self._count, start, self.base, self.finished).ljust(_SLOT - _CHECK, b"\0")
        return head + _checksum(head)

    def _compact(self) -> None:
        fresh = self._path.with_name(f".{self._path.name}.new")  # one that a crash left is overwritten
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _lock(file, fresh)
            self._count += 1
            _write_all(file, self._head(self.base), _SLOT * (self._count % 2))
            os.truncate(file, _DATA + self.end - self.base)
            for offset in range(self.base, self.end, COMPACT):
                _write_all(file, self.read(offset, COMPACT), _DATA + offset - self.base)
            os.fsync(file)
            os.replace(fresh, self._path)
        except BaseException:
            os.close(file)
            raise
        old, self._file, self._start = self._file, file, self.base
        os.close(old)


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreError(f"the durable stream {path} is in use") from None


def _write_all(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def _checksum(head: bytes) -> bytes:
    return hashlib.blake2b(head, digest_size=_CHECK).digest()
