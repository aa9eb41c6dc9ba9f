"""Files of this machine: those that are sent, and those that are being received.

Rule: nothing stands under its final name before it is whole and on disk, and nothing that was there is replaced.
Nothing here waits for anything but the disk: a pipe without a writer is told apart before it is opened.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.names import SUFFIX

DIGEST_SIZE = 32
"""Bytes of BLAKE2b."""
MAX_LEFT = 16
MAX_AGE = 7 * 86400.0
"""Parts that transfers which were cut leave in one directory, and for how many seconds."""
_KINDS = (
    (stat.S_ISDIR, "a directory; send the files in it, or an archive of it"),
    (stat.S_ISFIFO, "a pipe, and no regular file"),
    (stat.S_ISSOCK, "a socket, and no regular file"),
    (stat.S_ISCHR, "a device, and no regular file"),
    (stat.S_ISBLK, "a device, and no regular file"),
)


def digest() -> hashlib.blake2b:
    """What both sides hash a file with."""
    return hashlib.blake2b(digest_size=DIGEST_SIZE)


class Source:
    """A file to send, opened; ``size`` in bytes is what it has now.

    :raises Failure: if it is not a regular file that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _check_regular(path, path.stat())  # before it is opened: that alone does things to some devices
            # And not to wait even if a pipe takes the file's place in between.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise Failure(Exit.USAGE, f"can't read {path}: {error.strerror}") from error
        self._file = io.FileIO(descriptor)
        self._digest = digest()
        try:
            self._state = os.fstat(descriptor)
            _check_regular(path, self._state)
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        """Bytes it had when it was opened."""
        return self._state.st_size

    def read(self, most: int) -> bytes:
        """The next bytes, hashed on the way.

        :raises Failure: at the end of the file, or if it can't be read on.
        """
        try:
            data = self._file.read(most)
        except OSError as error:
            raise Failure(Exit.INTEGRITY, f"can't be read on: {error.strerror}") from error
        if not data:
            raise self._changed()
        self._digest.update(data)
        return data

    def digest(self) -> bytes:
        """The hash of what was read so far."""
        return self._digest.digest()

    def rewind(self) -> None:
        """Begin to read, and to hash, anew."""
        self._file.seek(0)
        self._digest = digest()

    def finish(self) -> bytes:
        """The hash of all that was read.

        :raises Failure: if the file was written to in the meantime: what was read may be half old and half new. Or if
            it goes on, as the files in /proc do, whose size is said to be 0.
        """
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._state.st_size, self._state.st_mtime_ns) or self._file.read(1):
            raise self._changed()
        return self._digest.digest()

    def _changed(self) -> Failure:
        return Failure(Exit.INTEGRITY, "it changed while it was sent; send it again when it is at rest")

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def _check_regular(path: Path, state: os.stat_result) -> None:
    for is_kind, kind in _KINDS:
        if is_kind(state.st_mode):
            raise Failure(Exit.USAGE, f"{path} is {kind}")


class InUse(Failure):
    """Another transfer, of this process or another, is writing the same file."""


class Part:
    """A file being received, as ``name.stt.part`` until :meth:`publish`. Its holder has it locked against all others.

    What an earlier transfer left there is kept: :attr:`left` bytes, which nobody may rely on before both sides have
    compared the hash of them, see :meth:`recall`.

    :raises Failure: if something stands under either name that is not ours to write. ``InUse``: if another transfer
        writes it. ``OSError``: if it can't be made.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(final.name + SUFFIX)
        if os.path.lexists(final):
            raise _in_the_way(final)
        try:
            self._file = _claimed(self.path)
        except UnicodeEncodeError:
            reason = "that name can't be written in the encoding of the receiver's system"
            raise Failure(Exit.INTEGRITY, reason) from None
        self._digest = digest()
        self.left = os.fstat(self._file.fileno()).st_size
        self.size = 0
        """Bytes that were recalled or written, and are hashed."""

    def recall(self, most: int) -> int:
        """Read and hash the next of the bytes that were left; how many these were, 0 at their end."""
        data = self._file.read(most)
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def restart(self) -> None:
        """Forget what was left."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = digest()
        self.left = self.size = 0

    def write(self, parts: Iterable[bytes]) -> None:
        """Add to it."""
        data = memoryview(b"".join(parts))
        self._digest.update(data)
        self.size += len(data)
        while data:
            data = data[self._file.write(data) :]

    def digest(self) -> bytes:
        """The hash of all that was recalled and written."""
        return self._digest.digest()

    def publish(self) -> None:
        """Put it on disk for good, and give it its name.

        :raises Failure: if something has got that name in the meantime. ``OSError``: if the disk won't.
        """
        os.fsync(self._file.fileno())
        try:
            try:
                os.link(self.path, self.final)  # unlike a rename, this never replaces anything
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    raise
                # A file system without hard links. Of this program's transfers only the holder of the part gets here.
                if os.path.lexists(self.final):
                    raise FileExistsError from None
                self.path.rename(self.final)
            else:
                self.path.unlink()
        except FileExistsError:
            raise _in_the_way(self.final) from None
        self._file.close()  # and with it the lock, once nothing stands under the old name
        try:
            _sync_directory(self.final.parent)
        except OSError:
            self.final.unlink()
            raise

    def keep(self) -> None:
        """Let go of it, and leave what there is to a later transfer; some of those that were left earlier may go."""
        if not os.fstat(self._file.fileno()).st_size:
            self.discard()
            return
        self._file.close()
        tidy(self.path.parent, time.time())

    def discard(self) -> None:
        """Forget it, as far as it isn't published."""
        # What can't even be removed stays, and the next transfer of that name begins from it.
        if not self._file.closed:
            with suppress(OSError):
                self.path.unlink()
        with suppress(OSError):
            self._file.close()


def _claimed(path: Path) -> io.FileIO:
    """The file at ``path``, new or left there by an earlier transfer, locked."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    while True:
        try:
            file = io.FileIO(os.open(path, flags, 0o666), "r+")
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # a link, a directory, a socket
                raise _not_ours(path) from None
            raise
        try:
            if _locks(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _locks(file: io.FileIO, path: Path) -> bool:
    """Lock it; False where it is no longer what stands at ``path``.

    :raises Failure: if it can't be one of ours. ``InUse``: if another holds it.
    """
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise _not_ours(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(Exit.INTEGRITY, f"{path.name} stands in the way: another transfer of it runs") from None
    state = os.fstat(file.fileno())
    if state.st_uid != os.geteuid():
        raise _not_ours(path)
    try:
        now = path.lstat()
    except FileNotFoundError:
        return False
    if (now.st_dev, now.st_ino) != (state.st_dev, state.st_ino):
        return False
    if state.st_nlink > 1:  # killed between its two last steps, or somebody's link: what it also names is left alone
        path.unlink()
        return False
    return True


def _not_ours(path: Path) -> Failure:
    return Failure(Exit.INTEGRITY, f"{path.name} stands in the way, and is nothing that a transfer left; remove it")


def tidy(directory: Path, wall: float) -> None:
    """Remove what transfers that were cut left in ``directory``, but for the 16 last of the 7 days before ``wall``
    (seconds since the epoch), and for what is in use."""
    left = []
    for path in directory.glob(f"*{SUFFIX}"):
        with suppress(OSError):  # another transfer may have finished it
            left.append((path.lstat().st_mtime, path))
    left.sort(reverse=True)
    for number, (changed, path) in enumerate(left):
        if number < MAX_LEFT and wall - changed < MAX_AGE:
            continue
        with suppress(OSError, Failure), _claimed(path):
            path.unlink()


def _in_the_way(final: Path) -> Failure:
    return Failure(Exit.INTEGRITY, f"{final.name} exists already in the receiver's directory; move it, or rename yours")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # which says that this file system can't, and needs no such thing
            raise
    finally:
        os.close(descriptor)
