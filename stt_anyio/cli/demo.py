"""``stt demo``: two nodes in two processes on this machine, a seed made up on the spot, a file across."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
from anyio import to_thread

from stt_anyio.cli.commands import Summary, send_files
from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.progress import say

MIB = 1024 * 1024
PATIENCE = 30.0


async def demo(arguments: argparse.Namespace, summary: Summary) -> None:
    """Start a receiver process, send it a random file, compare the hashes, tell how it went."""
    seed = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="stt-demo-") as folder:
        source = Path(folder, "demo.bin")
        target = Path(folder, "received")
        sent_hash = await to_thread.run_sync(_prepare, source, target, arguments.size * MIB)
        command = [sys.executable, "-m", "stt_anyio", "recv", str(target)]
        command += ["--bind", "127.0.0.1", "--port", "0", "--once", "--json"]
        environment = {**os.environ, "STT_SHARED_SEED": seed}
        async with await anyio.open_process(command, env=environment, stdin=subprocess.DEVNULL) as receiver:
            try:
                port = await _listening_port(receiver)
                if not arguments.json:
                    say(f"process {receiver.pid} receives on 127.0.0.1:{port}, process {os.getpid()} sends")
                await send_files(seed.encode(), ("127.0.0.1", port), [source], PATIENCE, summary, quiet=arguments.json)
                with anyio.fail_after(PATIENCE):
                    await receiver.wait()
            finally:
                if receiver.returncode is None:
                    receiver.kill()
        received_hash = await to_thread.run_sync(_hash, target / source.name)
    if received_hash != sent_hash or receiver.returncode:
        raise Failure(Exit.INTEGRITY, f"the receiver has {received_hash}, the sender {sent_hash}")
    if not arguments.json:
        say(f"both sides have BLAKE2b {sent_hash}")


async def _listening_port(receiver: anyio.abc.Process) -> int:
    """What the receiver says on stderr once it is bound."""
    said = ""
    if receiver.stderr is not None:
        async for data in receiver.stderr:
            said += data.decode(errors="replace")
            if found := re.search(r"listening on .*:(\d+)\n", said):
                return int(found[1])
    raise Failure(Exit.UNREACHABLE, f"the receiving process ended at once: {said.strip()}")


def _prepare(source: Path, target: Path, size: int) -> str:
    target.mkdir()
    return _make(source, size)


def _make(path: Path, size: int) -> str:
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - start)))
    return _hash(path)


def _hash(path: Path) -> str:
    if not path.is_file():
        return "no file"
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
