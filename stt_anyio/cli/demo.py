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
        target.mkdir()
        sent_hash = await to_thread.run_sync(_make, source, arguments.size * MIB)
        command = [sys.executable, "-m", "stt_anyio", "recv", str(target)]
        command += ["--bind", "127.0.0.1", "--port", "0", "--once", "--json"]
        with subprocess.Popen(
            command,
            env={**os.environ, "STT_SHARED_SEED": seed},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as receiver:
            try:
                port = await to_thread.run_sync(_listening_port, receiver)
                if not arguments.json:
                    say(f"process {receiver.pid} receives on 127.0.0.1:{port}, process {os.getpid()} sends")
                await send_files(seed.encode(), ("127.0.0.1", port), [source], PATIENCE, summary, quiet=arguments.json)
                await to_thread.run_sync(receiver.communicate, None, PATIENCE)
            finally:
                if receiver.poll() is None:
                    receiver.kill()
        received_hash = await to_thread.run_sync(_hash, target / source.name)
    if received_hash != sent_hash or receiver.returncode:
        raise Failure(Exit.INTEGRITY, f"the receiver has {received_hash}, the sender {sent_hash}")
    if not arguments.json:
        say(f"both sides have BLAKE2b {sent_hash}")


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


def _listening_port(receiver: subprocess.Popen[str]) -> int:
    if receiver.stderr is None:
        raise Failure(Exit.UNREACHABLE, "the receiver has no stderr")
    lines = []
    for line in receiver.stderr:
        found = re.match(r"listening on .*:(\d+)$", line)
        if found:
            return int(found[1])
        lines.append(line)
    raise Failure(Exit.UNREACHABLE, f"the receiving process ended at once: {''.join(lines).strip()}")
