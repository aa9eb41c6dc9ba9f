"""Files over a session: one byte stream each, verified end to end.

Rule: nothing stands under its final name before it is whole, verified and on disk, and the sender believes only the
receiver's explicit word that it is. Memory is flat: disk and network are kept in step by flow control.

On the stream, each JSON text behind its length (u32)::

    sender    {"name": …, "size": …}            receiver  {"accept": true} or {"error": …}
    sender    size bytes, BLAKE2b-256 of them   receiver  {"done": true} or {"error": …}
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import anyio
from anyio import to_thread

from stt_anyio import ByteStream, STTSession
from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.names import for_display, safe_path
from stt_anyio.cli.progress import Progress
from stt_core.errors import StreamError

CHUNK = 1024 * 1024
"""Bytes read, written and hashed at once, in a worker thread."""
DIGEST_SIZE = 32
MAX_JSON = 64 * 1024
PURPOSE = "stt.file"
REFUSED = 0x100
"""Stream code: the receiver won't take any more of this file; its reason is on the stream."""


class _Reader:
    """Exact reads from a byte stream."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._rest = b""

    async def some(self, most: int) -> bytes:
        """1 to ``most`` bytes."""
        if not self._rest:
            try:
                self._rest = await self._stream.receive()
            except anyio.EndOfStream:
                raise Failure(Exit.INTEGRITY, "the other side ended the transfer in the middle") from None
        data, self._rest = self._rest[:most], self._rest[most:]
        return data

    async def exactly(self, size: int) -> bytes:
        """``size`` bytes."""
        parts = []
        while size:
            part = await self.some(size)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    async def end(self) -> None:
        """The end of the stream; until it is read the stream stays open, and the peer may open no other for it."""
        try:
            extra = self._rest or await self._stream.receive(1)
        except anyio.EndOfStream:
            return
        raise Failure(Exit.INTEGRITY, f"{len(extra)} or more bytes after the end of the file: not our protocol")

    async def record(self) -> dict[str, Any]:
        """One JSON object."""
        size = int.from_bytes(await self.exactly(4), "big")
        if size > MAX_JSON:
            raise Failure(Exit.INTEGRITY, f"a record of {size} bytes, expected at most {MAX_JSON}: not our protocol")
        try:
            record = json.loads(await self.exactly(size))
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise Failure(Exit.INTEGRITY, "a record that is no JSON object: not our protocol")
        return record


async def _tell(stream: ByteStream, **record: Any) -> None:
    text = json.dumps(record).encode()
    await stream.send(len(text).to_bytes(4, "big") + text)


# --- sending


def open_source(path: Path) -> tuple[BinaryIO, int]:
    """The file to send and its size in bytes.

    :raises Failure: if it is not a regular file that can be read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise Failure(Exit.USAGE, f"can't read {path}: {error.strerror}") from error
    if not path.is_file():
        file.close()
        raise Failure(Exit.USAGE, f"{path} is not a regular file")
    return file, os.fstat(file.fileno()).st_size


async def send_file(session: STTSession, path: Path, progress: Progress) -> int:
    """Send one file and wait for the receiver's word that it is stored; returns its size.

    :raises Failure: if the receiver refused it or could not store it, or the file changed under our hands.
    """
    file, size = open_source(path)
    with file:
        stream = session.open_byte_stream(purpose=PURPOSE)
        reader = _Reader(stream)
        try:
            await _tell(stream, name=path.name, size=size)
            _expect(await reader.record(), "accept")
            await _send_body(stream, file, size, progress.begin(path.name, size), progress)
            await stream.send_eof()
        except StreamError:
            # The receiver stopped reading: its reason comes on the stream.
            _expect(await reader.record(), "done")
            raise
        _expect(await reader.record(), "done")
        await stream.aclose()
        return size


async def _send_body(stream: ByteStream, file: BinaryIO, size: int, task: int, progress: Progress) -> None:
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)

    def read(most: int) -> bytes:
        data = file.read(most)
        digest.update(data)
        return data

    left = size
    while left:
        data = await to_thread.run_sync(read, min(CHUNK, left))
        if not data:
            stream.reset(REFUSED)
            raise Failure(Exit.INTEGRITY, f"{file.name} became shorter while it was sent")
        await stream.send(data)
        left -= len(data)
        progress.advance(task, len(data))
    await stream.send(digest.digest())


def _expect(record: dict[str, Any], word: str) -> None:
    if record.get(word) is not True:
        reason = for_display(str(record.get("error", "no reason given")))
        raise Failure(Exit.INTEGRITY, f"the receiver says: {reason}")


# --- receiving


async def receive_file(stream: ByteStream, directory: Path, progress: Progress) -> tuple[str, int]:
    """Take the file offered on ``stream``; returns its name and size once it is stored.

    :raises Failure: if it was refused, could not be stored or did not verify; the sender has been told.
    """
    reader = _Reader(stream)
    try:
        return await _receive(stream, reader, directory, progress)
    except (Failure, OSError) as error:
        if isinstance(error, ConnectionError):
            raise
        failure = error if isinstance(error, Failure) else _disk_failure(error)
        await _tell(stream, error=str(failure))
        await stream.send_eof()
        if stream.session.alive:
            stream.session.core.stop_stream(stream.stream_id, REFUSED)
            stream.session.kick()
        raise failure from error


def _disk_failure(error: OSError) -> Failure:
    return Failure(Exit.INTEGRITY, f"can't store the file: {error.strerror or error}")


async def _receive(stream: ByteStream, reader: _Reader, directory: Path, progress: Progress) -> tuple[str, int]:
    offer = await reader.record()
    name, size = offer.get("name"), offer.get("size")
    if not isinstance(name, str) or type(size) is not int or size < 0:
        raise Failure(Exit.INTEGRITY, "an offer without a name and a size: not our protocol")
    final = safe_path(directory, name)
    if await to_thread.run_sync(os.path.lexists, final):
        raise Failure(Exit.INTEGRITY, f"{name} exists already in the receiver's directory; move it, or rename yours")
    part = final.with_name(final.name + ".part")
    # O_EXCL: never write through a link or into a file that another transfer holds.
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        reason = f"{part.name} stands in the way: another transfer of it runs, or one was killed; then remove it"
        raise Failure(Exit.INTEGRITY, reason) from None
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            await _tell(stream, accept=True)
            await _store(reader, file, size, progress.begin(name, size), progress)
            await reader.end()
            await to_thread.run_sync(os.fsync, file.fileno())
        _publish(part, final)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    await _tell(stream, done=True)
    await stream.send_eof()
    return name, size


async def _store(reader: _Reader, file: Any, size: int, task: int, progress: Progress) -> None:
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)

    def write(parts: list[bytes]) -> None:
        data = memoryview(b"".join(parts))
        digest.update(data)
        while data:
            data = data[file.write(data) :]

    left = size
    while left:
        parts: list[bytes] = []
        held = 0
        while held < CHUNK and left:
            part = await reader.some(min(left, CHUNK))
            parts.append(part)
            held += len(part)
            left -= len(part)
        await to_thread.run_sync(write, parts)
        progress.advance(task, held)
    if await reader.exactly(DIGEST_SIZE) != digest.digest():
        raise Failure(Exit.INTEGRITY, "the file's BLAKE2b hash is not the sender's: it changed on the way to the disk")


def _publish(part: Path, final: Path) -> None:
    """Give the finished file its name, never in place of another."""
    os.link(part, final)
    part.unlink()
    final.chmod(0o666 & ~_umask())
    directory = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
