"""Files over a session: one byte stream each, verified end to end.

Rule: nothing stands under its final name before it is whole, verified and on disk, and the sender believes only the
receiver's explicit word that it is. Memory is flat: disk and network are kept in step by flow control. A file that
fails is over, on both sides and for both; the session goes on to the next.

A transfer that was cut leaves what had come, and the next of that name goes on from there, where the sender finds that
it is the beginning of its file: both hash those bytes again, and the hash over the whole file begins with them.

On the stream, each JSON text behind its length (u32)::

    sender    {"name": …, "size": …}            receiver  {"accept": true} or {"error": …}
      where something was left, the receiver adds "have": N and "hash": BLAKE2b-256 of these N bytes, in hex
    sender    {"from": N}, or 0 to begin anew
    sender    the other bytes, BLAKE2b-256 of all    receiver  {"done": true} or {"error": …}
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from stt_anyio import ByteStream, StreamResetError, STTSession
from stt_anyio.cli.disk import DIGEST_SIZE, InUse, Part, Source
from stt_anyio.cli.failure import Exit, Failure, failure_of
from stt_anyio.cli.names import for_display, safe_path
from stt_anyio.cli.output import say
from stt_anyio.cli.progress import Progress
from stt_anyio.cli.summary import Moved
from stt_core.errors import SessionClosedError, StreamError

CHUNK = 1024 * 1024
"""Bytes read, written and hashed at once, in a worker thread."""
MAX_JSON = 64 * 1024
MAX_SHOWN = 500
"""Characters of the peer's reasons that are shown."""
MAX_SIZE = 2**63 - 1
"""Bytes: what file systems count to."""
LOOK_AGAIN = 0.1
"""Seconds between two looks at a session that may be over."""
PURPOSE = "stt.file"
GIVEN_UP = 0x101
"""Stream code: the sender can't finish this file."""


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
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise Failure(Exit.INTEGRITY, "a record that is no JSON object: not our protocol")
        return record


async def _tell(stream: ByteStream, **record: Any) -> None:
    text = json.dumps(record).encode()
    await stream.send(len(text).to_bytes(4, "big") + text)


# --- sending


async def send_file(session: STTSession, path: Path, progress: Progress) -> Moved:
    """Send one file, or of it what the receiver lacks, and wait for the receiver's word that it is stored.

    :raises Failure: if the receiver refused it or could not store it, or the file can't be read or changed under our
        hands. ``SessionClosedError``: if the session ended.
    """
    source = await to_thread.run_sync(Source, path)
    try:
        stream = await session.open_stream_when_possible(purpose=PURPOSE, mode="bytes")
        assert isinstance(stream, ByteStream)
        try:
            resumed = await _offer(stream, source, progress)
        except (Failure, StreamError) as error:
            stream.reset(GIVEN_UP)  # changes nothing where the receiver has said its last word
            failure = failure_of(error)
            raise Failure(failure.code, f"{path}: {failure}") from error
        # Not if we are cancelled: an end in the middle of a file would reach the receiver before the session's does.
        await stream.aclose()
        return Moved(source.size, resumed)
    finally:
        source.close()


async def _offer(stream: ByteStream, source: Source, progress: Progress) -> int:
    reader = _Reader(stream)
    try:
        await _tell(stream, name=source.path.name, size=source.size)
        answer = await reader.record()
        _expect(answer, "accept")
        with progress.file(source.path.name, source.size) as advance:
            resumed = await _agree(stream, source, answer, advance)
            await _send_body(stream, source, source.size - resumed, advance)
        await stream.send_eof()
    except StreamError:
        # The receiver stopped reading: its reason comes on the stream.
        _expect(await reader.record(), "done")
        raise
    _expect(await reader.record(), "done")
    return resumed


async def _agree(stream: ByteStream, source: Source, answer: dict[str, Any], advance: Callable[[int], None]) -> int:
    """How many bytes the receiver has already: as many as it says, if they are the beginning of this file."""
    if "have" not in answer:
        return 0
    have = answer["have"]
    if type(have) is not int or not 0 < have <= source.size:
        raise Failure(Exit.INTEGRITY, "the receiver claims to have what there isn't: not our protocol")
    left = have
    while left:
        left -= len(await to_thread.run_sync(source.read, min(CHUNK, left)))
    if source.digest().hex() != answer.get("hash"):
        say(f"{source.path}: sent from its beginning: what the receiver has left of that name is of another file")
        source.rewind()
        have = 0
    advance(have)
    await _tell(stream, **{"from": have})
    return have


async def _send_body(stream: ByteStream, source: Source, left: int, advance: Callable[[int], None]) -> None:
    while left:
        data = await to_thread.run_sync(source.read, min(CHUNK, left))
        await stream.send(data)
        left -= len(data)
        advance(len(data))
    await stream.send(source.finish())


def _expect(record: dict[str, Any], word: str) -> None:
    if record.get(word) is not True:
        reason = for_display(str(record.get("error", "no reason given")))[:MAX_SHOWN]
        raise Failure(Exit.INTEGRITY, f"the receiver says: {reason}")


# --- receiving


class Claims:
    """Which sessions of this process are receiving which files."""

    def __init__(self) -> None:
        self._holders: dict[Path, STTSession] = {}

    @asynccontextmanager
    async def part(self, final: Path, session: STTSession) -> AsyncIterator[Part]:
        """The unfinished file for ``final``, for this session alone.

        Where another session has it, that may be one of a sender that was killed: this waits until it is over, or its
        peer was heard, as every living peer is within a few seconds.

        :raises Failure: if it can't be had.
        """
        heard: dict[STTSession, int] = {}
        while True:
            holder = self._holders.get(final)
            try:
                part = await to_thread.run_sync(Part, final)
                break
            except InUse:
                if holder is None or _heard(holder) > heard.setdefault(holder, _heard(holder)):
                    raise
            await anyio.sleep(LOOK_AGAIN)
        self._holders[final] = session
        try:
            yield part
        finally:
            del self._holders[final]


def _heard(session: STTSession) -> int:
    """How many packets have come."""
    return session.statistics().packets_received if session.alive else -1


async def receive_file(stream: ByteStream, directory: Path, claims: Claims, progress: Progress) -> tuple[str, Moved]:
    """Take the file offered on ``stream``; returns its name, and what moved, once it is stored.

    The sender does not know that yet: :func:`confirm` tells.

    :raises Failure: if it was refused, could not be stored or did not verify; the sender has been told. Or if the
        sender gave it up, or the session ended.
    """
    reader = _Reader(stream)
    named = ""
    try:
        name, size = _offered(await reader.record())
        final = safe_path(directory, name)
        named = f"{name}: "
        async with claims.part(final, stream.session) as part:
            resumed = await _store(stream, reader, part, size, progress)
    except SessionClosedError as error:
        failure = failure_of(error)
        raise Failure(failure.code, f"{named}{failure}") from error
    except StreamError as error:
        reason = "the other side gave the transfer up"
        if _gave_up(error):
            reason = "the sender gave it up: it changed there while it was sent, or can't be read"
        stream.reset()
        raise Failure(Exit.INTEGRITY, named + reason) from error
    except (Failure, OSError) as error:
        failure = error if isinstance(error, Failure) else _disk_failure(error)
        await _say_last(stream, error=str(failure))
        raise Failure(failure.code, f"{named}{failure}") from error
    return name, Moved(size, resumed)


def _gave_up(error: BaseException) -> bool:
    return isinstance(error, StreamResetError) and error.code == GIVEN_UP


async def confirm(stream: ByteStream) -> None:
    """Tell the sender that its file is stored."""
    await _say_last(stream, done=True)


async def _say_last(stream: ByteStream, **record: Any) -> None:
    try:
        await _tell(stream, **record)
    except (StreamError, SessionClosedError):
        stream.reset()  # nobody wants to know
    # What was said still arrives, and the sender is told that nothing more will be read.
    await stream.aclose()


def _disk_failure(error: OSError) -> Failure:
    return Failure(Exit.INTEGRITY, f"can't store the file: {error.strerror or error}")


def _offered(offer: dict[str, Any]) -> tuple[str, int]:
    name, size = offer.get("name"), offer.get("size")
    if not isinstance(name, str) or type(size) is not int or not 0 <= size <= MAX_SIZE:
        raise Failure(Exit.INTEGRITY, "an offer without a name and a size: not our protocol")
    return name, size


async def _store(stream: ByteStream, reader: _Reader, part: Part, size: int, progress: Progress) -> int:
    try:
        with progress.file(part.final.name, size) as advance:
            resumed = await _resume(stream, reader, part, size)
            advance(resumed)
            await _receive_body(reader, part, size - resumed, advance)
        await reader.end()
        await to_thread.run_sync(part.publish)
    except (SessionClosedError, StreamError) as error:
        if _gave_up(error):
            part.discard()
        else:
            part.keep()
        raise
    except Exception:
        part.discard()
        raise
    except BaseException:  # a signal
        part.keep()
        raise
    return resumed


async def _resume(stream: ByteStream, reader: _Reader, part: Part, size: int) -> int:
    """Accept the file; how many bytes of it both sides found to be here already."""
    if part.left > size:
        _begin_anew(part)
    while await to_thread.run_sync(part.recall, CHUNK):
        pass
    have = part.size
    if not have:
        await _tell(stream, accept=True)
        return 0
    await _tell(stream, accept=True, have=have, hash=part.digest().hex())
    start = (await reader.record()).get("from")
    if start == 0:
        _begin_anew(part)
    elif start != have:
        raise Failure(Exit.INTEGRITY, "a transfer that begins somewhere else: not our protocol")
    return have if start else 0


def _begin_anew(part: Part) -> None:
    say(f"{part.final.name}: received from its beginning: what was left of that name is of another file")
    part.restart()


async def _receive_body(reader: _Reader, part: Part, size: int, advance: Callable[[int], None]) -> None:
    left = size
    while left:
        pieces: list[bytes] = []
        held = 0
        while held < CHUNK and left:
            piece = await reader.some(min(left, CHUNK))
            pieces.append(piece)
            held += len(piece)
            left -= len(piece)
        await to_thread.run_sync(part.write, pieces)
        advance(held)
    if await reader.exactly(DIGEST_SIZE) != part.digest():
        raise Failure(Exit.INTEGRITY, "the file's BLAKE2b hash is not the sender's: it changed on the way to the disk")
