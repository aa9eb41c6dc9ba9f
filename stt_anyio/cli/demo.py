"""``stt demo``: two nodes in two processes on this machine, a seed made up on the spot, a file across. It begins by
UDP, which is cut half-way, and ends over a WebSocket.

Rule: whatever happens, the other process and the files are gone at the end.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import Process

from stt_anyio import STTSession
from stt_anyio.cli.addresses import spelled
from stt_anyio.cli.commands import send_files
from stt_anyio.cli.disk import digest
from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.interrupts import signals
from stt_anyio.cli.output import say
from stt_anyio.cli.summary import Summary
from stt_anyio.cli.wire import Wire
from stt_core.errors import STTError

HOST = "127.0.0.1"
MIB = 1024 * 1024
PIECE = 4 * MIB
"""Bytes made or hashed at once."""
PATIENCE = 30.0
"""Seconds for what takes the other process a moment."""
MOMENT = 15.0
"""Seconds in which a process that has ended its work has ended itself, on a busy machine too."""
GLANCE = 0.01
"""Seconds between two looks at where the session is."""
SMALLEST_CUT = 4 * MIB
"""Bytes of the smallest file that is cut in half: anything smaller may be under way as a whole before it is noticed."""
MAX_WORDS = 64 * 1024
"""Characters kept of what the other process said last."""


def demo(arguments: argparse.Namespace, summary: Summary) -> None:
    """Start a receiver process, send it a random file, compare the hashes, tell how it went."""
    with tempfile.TemporaryDirectory(prefix="stt-demo-") as folder:
        signals.run(lambda: _show(Path(folder), arguments.size * MIB, summary, quiet=arguments.json))


async def _show(folder: Path, size: int, summary: Summary, *, quiet: bool) -> None:
    source, target = folder / "demo.bin", folder / "received"
    seed = secrets.token_urlsafe(24)
    try:
        target.mkdir()
        sent = await _make(source, size)
    except OSError as error:
        raise Failure(Exit.INTEGRITY, f"can't make a file of {size} bytes in {folder}: {error.strerror}") from error
    async with _receiving(target, seed) as receiver:
        port = await receiver.port()
        if not quiet:
            say(f"process {receiver.pid} receives on {spelled(HOST, port)}, process {os.getpid()} sends")
        with Wire((HOST, port), size // 2 if size >= SMALLEST_CUT else sys.maxsize) as wire:
            await _send(receiver, wire, f"ws://{spelled(HOST, port)}/", seed, source, summary, quiet=quiet)
    if summary.failure is not None:
        return
    received = await _hash(target / source.name)
    if received != sent:
        raise Failure(Exit.INTEGRITY, f"the receiver has BLAKE2b {received}, the sender {sent}")
    if not quiet:
        say(f"sent {summary}")
        say(f"both sides have BLAKE2b {sent}")


async def _send(
    receiver: _Receiver, wire: Wire, url: str, seed: str, source: Path, summary: Summary, *, quiet: bool
) -> None:
    """Send the file through ``wire``, and by ``url`` once that is cut; the receiver ends by itself."""

    async def watch(session: STTSession) -> None:
        if not quiet:
            tasks.start_soon(_tell_of_the_cut, session, wire)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receiver.insist_on_success, summary)
        way = [wire.address]
        try:
            secret = seed.encode()
            await send_files(secret, way, [source], PATIENCE, summary, quiet=quiet, prepare=watch, detour=url)
        except (Failure, STTError):
            await anyio.sleep(MOMENT)  # where it is because the other process ended, the task above tells better
            raise
        with anyio.move_on_after(PATIENCE) as waiting:
            await receiver.wait()
        if waiting.cancelled_caught:
            raise Failure(Exit.UNREACHABLE, f"the receiving process has not ended after {PATIENCE:g} s")


async def _tell_of_the_cut(session: STTSession, wire: Wire) -> None:
    """Say when it happened, and how long it took to go round."""
    while session.alive and (wire.cut_at is None or session.path.transport == "udp"):  # noqa: ASYNC110 - nobody tells
        await anyio.sleep(GLANCE)
    if wire.cut_at is not None and session.path.transport != "udp":
        later = time.monotonic() - wire.cut_at
        say(f"UDP was cut after {wire.carried:,} bytes; going on over a WebSocket {later:.1f} s later")


@asynccontextmanager
async def _receiving(directory: Path, seed: str) -> AsyncIterator[_Receiver]:
    """``stt recv`` in a process of its own, which is killed at the end if it still runs."""
    command = [sys.executable, "-P", "-m", "stt_anyio", "recv", str(directory), "--bind", HOST, "--once", "--json"]
    command += ["--transport", "both"]
    environment = os.environ | {
        "STT_SHARED_SEED": seed,
        # It finds its modules where this process found them, wherever we stand.
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
    }
    try:
        process = await anyio.open_process(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
    except OSError as error:
        raise Failure(Exit.UNREACHABLE, f"can't start the receiving process: {error.strerror}") from error
    async with process:
        yield _Receiver(process)


class _Receiver:
    """The other process. Its words are read by one caller at a time: first :meth:`port`, then the end."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._said = ""

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    async def wait(self) -> int:
        """Its exit code, once it has ended; negative for a signal."""
        return await self._process.wait()

    async def port(self) -> int:
        """Where it listens, once it does.

        :raises Failure: if it ends before.
        """
        while not (found := re.search(r"listening on .*:(\d+)\n", self._said)):
            if not await self._read():
                raise self._failure(await self.wait())
        return int(found[1])

    async def insist_on_success(self, summary: Summary) -> None:
        """Wait for its end.

        :raises Failure: if it fails, and ``summary`` doesn't know yet.
        """
        while await self._read():
            pass
        code = await self.wait()
        if code and summary.failure is None:
            raise self._failure(code)

    async def _read(self) -> bool:
        assert self._process.stderr is not None
        try:
            words = await self._process.stderr.receive()
        except anyio.EndOfStream:
            return False
        self._said = (self._said + words.decode(errors="replace"))[-MAX_WORDS:]
        return True

    def _failure(self, code: int) -> Failure:
        if code < 0:
            return Failure(Exit.UNREACHABLE, f"the receiving process was killed by {signal.Signals(-code).name}")
        last = self._said.strip().rpartition("\n")[2].removeprefix("stt: ")
        known = Exit(code) if code <= Exit.INTEGRITY else Exit.UNREACHABLE
        return Failure(known, f"the receiving process failed: {last or f'exit code {code}'}")


async def _make(path: Path, size: int) -> str:
    """A file of random bytes; its hash. Piece by piece, so that it can be cancelled."""
    made = digest()

    def add(piece: int) -> None:
        data = os.urandom(piece)
        made.update(data)
        file.write(data)

    with path.open("wb") as file:
        for start in range(0, size, PIECE):
            await to_thread.run_sync(add, min(PIECE, size - start))
    return made.hexdigest()


async def _hash(path: Path) -> str:
    found = digest()
    with path.open("rb", buffering=0) as file:
        while data := await to_thread.run_sync(file.read, PIECE):
            await to_thread.run_sync(found.update, data)
    return found.hexdigest()
