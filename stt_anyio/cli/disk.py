"""Files of this machine: those that are sent, and those that are being received.

Rule: nothing stands under its final name before it is whole and on disk, and nothing that was there is replaced.
Nothing here waits for anything but the disk: a pipe without a writer is told apart before it is opened.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from stt_anyio.cli.failure import Exit, Failure

DIGEST_SIZE = 32
"""Bytes of BLAKE2b."""
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


class Part:
    """A file being received, as ``name.part`` until :meth:`publish`.

    :raises Failure: if something is there already, under either name. ``OSError``: if it can't be made.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(final.name + ".part")
        if os.path.lexists(final):
            raise _in_the_way(final)
        # O_EXCL: never write through a link, or into a file that another transfer holds.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._file = io.FileIO(os.open(self.path, flags, 0o666), "w")
        except FileExistsError:
            raise Failure(
                Exit.INTEGRITY,
                f"{self.path.name} stands in the way: another transfer of it runs, or one was killed; then remove it",
            ) from None
        except UnicodeEncodeError:
            reason = "that name can't be written in the encoding of the receiver's system"
            raise Failure(Exit.INTEGRITY, reason) from None
        self._digest = digest()

    def write(self, parts: Iterable[bytes]) -> None:
        """Add to it."""
        data = memoryview(b"".join(parts))
        self._digest.update(data)
        while data:
            data = data[self._file.write(data) :]

    def digest(self) -> bytes:
        """The hash of all that was written."""
        return self._digest.digest()

    def publish(self) -> None:
        """Put it on disk for good, and give it its name.

        :raises Failure: if something has got that name in the meantime. ``OSError``: if the disk won't.
        """
        os.fsync(self._file.fileno())
        self._file.close()
        try:
            try:
                os.link(self.path, self.final)  # unlike a rename, this never replaces anything
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    raise
                # A file system without hard links. Of this program's transfers only the holder of the .part gets here.
                if os.path.lexists(self.final):
                    raise FileExistsError from None
                self.path.rename(self.final)
            else:
                self.path.unlink()
        except FileExistsError:
            raise _in_the_way(self.final) from None
        try:
            _sync_directory(self.final.parent)
        except OSError:
            self.final.unlink()
            raise

    def discard(self) -> None:
        """Forget it, as far as it isn't published."""
        # What can't even be removed stays, and is named to whoever wants to send it again.
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self.path.unlink()


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
