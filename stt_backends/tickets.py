"""Ticket keys and spent tickets in a file that several processes of one machine share.

Rule: every look and every change happens under one lock (``fcntl``), so that a ticket is spent once whoever asks. A
file that anybody else can read, that is damaged, or that is something else, is an error and never overwritten.

The file is a line that names it, and records of 64 bytes: kind (1), fields (55), a checksum (8). New records are
appended and the others read no more than once; a torn last one, of a writer that was killed, is dropped.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import Final

from stt_backends.locked_file import open_locked
from stt_core.errors import StoreError
from stt_core.resumption import KeyRing, TicketKey

_MAGIC: Final = b"STT1 ticket keys and spent tickets: secret\n".ljust(64, b"\0")
_KEY: Final = Struct(">c4s32sd11x")
_SPENT: Final = Struct(">c16sd31x")
_RECORD: Final = 64
_CHECK: Final = 8
MOST_RECORDS: Final = 1 << 17
"""Records at which those that have expired are left out and the file is written anew."""


class FileTicketStore:
    """A :class:`~stt_core.resumption.TicketStore` in the file ``path``, made with mode 0600 where it isn't there.

    :raises StoreError: on making one and on every call, where the file can't be read or isn't what it should be.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._ring = KeyRing()
        self._spent: dict[bytes, float] = {}
        self._inode = -1
        self._read_to = 0
        with self._locked():
            pass

    def __repr__(self) -> str:
        return f"<FileTicketStore {self._path}>"

    def current(self, wall: float) -> TicketKey:
        """See :class:`~stt_core.resumption.TicketStore`."""
        if not self._ring.is_fresh(wall):
            with self._locked() as file:
                if not self._ring.is_fresh(wall):
                    self._ring = self._ring.rotated(wall, os.urandom)
                    self._append(file, _KEY.pack(b"K", *self._ring.keys[0]))
        return self._ring.keys[0]

    def find(self, key_id: bytes, wall: float) -> TicketKey | None:
        """See :class:`~stt_core.resumption.TicketStore`."""
        found = self._ring.find(key_id, wall)
        if found is None:
            with self._locked():
                found = self._ring.find(key_id, wall)
        return found

    def is_spent(self, ticket_id: bytes, wall: float) -> bool:
        """See :class:`~stt_core.resumption.TicketStore`. Looks at what is known here; :meth:`spend` looks again."""
        return ticket_id in self._spent

    def spend(self, ticket_id: bytes, expires: float, wall: float) -> bool:
        """See :class:`~stt_core.resumption.TicketStore`."""
        with self._locked() as file:
            if ticket_id in self._spent:
                return False
            self._spent[ticket_id] = expires
            self._append(file, _SPENT.pack(b"S", ticket_id, expires))
            if self._read_to // _RECORD > MOST_RECORDS:
                self._rewrite(wall)
        return True

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, locked and read to its end."""
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
            raise StoreError(f"can't use the ticket store {self._path}: {error.strerror or error}") from error

    def _open(self) -> int:
        return open_locked(
            self._path,
            os.O_RDWR,
            lambda file: fcntl.lockf(file, fcntl.LOCK_EX),
            forbidden=0o077,
            foreign=f"the ticket store {self._path} is no file of this user's",
            open_to=f"others may read or write the ticket store {self._path}: chmod 600 it",
        )

    def _read(self, file: int) -> None:
        size = os.fstat(file)
        if size.st_ino != self._inode or size.st_size < self._read_to:
            self._inode, self._read_to = size.st_ino, 0
            self._ring, self._spent = KeyRing(), {}
        if size.st_size == 0:
            os.pwrite(file, _MAGIC, 0)
            self._read_to = _RECORD
            return
        data = os.pread(file, size.st_size - self._read_to, self._read_to)
        whole = len(data) - len(data) % _RECORD
        if self._read_to == 0 and data[:_RECORD] != _MAGIC:
            raise StoreError(f"{self._path} is no ticket store: it begins with something else")
        for at in range(0 if self._read_to else _RECORD, whole, _RECORD):
            self._take(data[at : at + _RECORD])
        if whole < len(data):
            os.ftruncate(file, self._read_to + whole)
        self._read_to += whole

    def _take(self, record: bytes) -> None:
        fields, check = record[:-_CHECK], record[-_CHECK:]
        if _checksum(fields) != check or fields[:1] not in b"KS":
            raise StoreError(f"the ticket store {self._path} is damaged: remove it, and all tickets are void")
        if fields[:1] == b"K":
            _, *key = _KEY.unpack(fields)
            self._ring = KeyRing((TicketKey(*key), *self._ring.keys[:2]))
        else:
            _, ticket_id, expires = _SPENT.unpack(fields)
            self._spent[ticket_id] = expires

    def _append(self, file: int, fields: bytes) -> None:
        os.pwrite(file, fields + _checksum(fields), self._read_to)
        self._read_to += _RECORD

    def _rewrite(self, wall: float) -> None:
        """Leave out what has expired; the new file takes the place of the old one in one step."""
        self._spent = {ticket_id: until for ticket_id, until in self._spent.items() if until > wall}
        records = [_KEY.pack(b"K", *key) for key in reversed(self._ring.keys)]
        records += [_SPENT.pack(b"S", ticket_id, until) for ticket_id, until in self._spent.items()]
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(file, _MAGIC + b"".join([fields + _checksum(fields) for fields in records]))
            os.fsync(file)
            self._inode = os.fstat(file).st_ino
            self._read_to = _RECORD * (1 + len(records))
        finally:
            os.close(file)
        os.replace(fresh, self._path)


def _checksum(fields: bytes) -> bytes:
    return hashlib.blake2b(fields, digest_size=_CHECK).digest()
