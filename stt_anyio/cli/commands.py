"""``stt send`` and ``stt recv``."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import anyio

from stt_anyio import ByteStream, STTNode, STTSession
from stt_anyio.cli.failure import Exit, Failure, failure_of
from stt_anyio.cli.names import for_display
from stt_anyio.cli.progress import Progress, say
from stt_anyio.cli.transfer import PURPOSE, open_source, receive_file, send_file
from stt_backends.seed import load_shared_seed
from stt_core.errors import SessionClosedError
from stt_core.statistics import SessionStatistics

KEEP_ALIVE_INTERVAL = 2.0
KEEP_ALIVE_TIMEOUT = 10.0
"""Shorter than the library's: somebody is watching a transfer."""


class Summary:
    """What one command moved, for its last line."""

    def __init__(self) -> None:
        self.bytes = 0
        self.files = 0
        self.seconds = 0.0
        self._begun: float | None = None
        self._statistics: SessionStatistics | None = None

    def begin(self) -> None:
        """The clock runs while a session lives."""
        if self._begun is None:
            self._begun = time.monotonic()

    def add(self, size: int) -> None:
        """One more file is across."""
        self.files += 1
        self.bytes += size

    def end(self, session: STTSession) -> None:
        """Note the session's figures."""
        if self._begun is not None:
            self.seconds += time.monotonic() - self._begun
            self._begun = None
        self._statistics = session.statistics()

    @property
    def rate(self) -> float:
        """MB (10^6 bytes) a second."""
        return self.bytes / self.seconds / 1e6 if self.seconds else 0.0

    def as_json(self, *, ok: bool, error: str | None = None, **more: Any) -> str:
        """The one line on stdout that ``--json`` ends with."""
        statistics = self._statistics
        record: dict[str, Any] = {
            "ok": ok,
            "bytes": self.bytes,
            "files": self.files,
            "seconds": round(self.seconds, 6),
            "mb_s": round(self.rate, 3),
            "transport": "udp",
            "loss": round(statistics.loss, 6) if statistics else None,
            "rtt_ms": round(statistics.rtt * 1000, 3) if statistics else None,
            **more,
        }
        if error is not None:
            record["error"] = error
        return json.dumps(record)

    def __str__(self) -> str:
        return f"{self.files} file(s), {self.bytes:,} bytes in {self.seconds:.2f} s, {self.rate:.1f} MB/s"


def shared_seed() -> bytes:
    """The seed from the environment, a file or, on a terminal, a prompt; never from the command line."""
    prompt = (lambda: getpass.getpass("shared seed: ")) if sys.stdin.isatty() else None
    return load_shared_seed(os.environ, prompt)


def _node(seed: bytes, **settings: Any) -> STTNode:
    return STTNode(
        shared_seed=seed,
        keep_alive_interval=KEEP_ALIVE_INTERVAL,
        keep_alive_timeout=KEEP_ALIVE_TIMEOUT,
        **settings,
    )


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT``.

    :raises Failure: if it is neither.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise Failure(Exit.USAGE, f"the address is {for_display(text)!r}, expected HOST:PORT")
    return host, int(port)


async def send(arguments: argparse.Namespace, summary: Summary) -> None:
    """``stt send``: every file in turn over one session; each counts only when the receiver has stored it."""
    host, port = parse_address(arguments.address)
    paths = [Path(name) for name in arguments.files]
    for path in paths:  # before anybody is bothered
        open_source(path)[0].close()
    await send_files(shared_seed(), (host, port), paths, arguments.timeout, summary, quiet=arguments.json)


async def send_files(
    seed: bytes, address: tuple[str, int], paths: list[Path], timeout: float, summary: Summary, *, quiet: bool
) -> None:
    """Connect, send, close."""
    any_address = "::" if ":" in address[0] else "0.0.0.0"
    async with _node(seed, bind_address=any_address) as node:
        session = await node.connect(address, timeout=timeout)
        async with session:
            summary.begin()
            try:
                with Progress(wanted=not quiet) as progress:
                    for path in paths:
                        summary.add(await send_file(session, path, progress))
            finally:
                summary.end(session)
    if not quiet:
        say(f"sent {summary}")


async def receive(arguments: argparse.Namespace, summary: Summary) -> None:
    """``stt recv``: store what is sent until interrupted, or with ``--once`` until one session is over."""
    directory = Path(arguments.directory)
    if not await anyio.Path(directory).is_dir():
        raise Failure(Exit.USAGE, f"{directory} is not a directory")
    async with _node(shared_seed(), bind_address=arguments.bind, port=arguments.port) as node:
        node.on_session_closed(
            lambda session_id, reason: None if session_id else say("refused a peer that holds another seed")
        )
        say(f"listening on {arguments.bind}:{node.port}")
        if arguments.once:
            session = await node.accept()
            async with session:
                await _take_all(session, directory, summary, quiet=arguments.json)
            return

        async def handle(session: STTSession) -> None:
            try:
                await _take_all(session, directory, summary, quiet=arguments.json)
            except Exception as error:
                failure = failure_of(error)
                if failure is None:
                    raise
                say(f"stt: {failure}")

        await node.serve(handle)


async def _take_all(session: STTSession, directory: Path, summary: Summary, *, quiet: bool) -> None:
    """Every file of one session, one at a time; the first that fails is reported when the session is over."""
    summary.begin()
    failure: Failure | None = None
    try:
        with Progress(wanted=not quiet) as progress:
            while True:
                try:
                    stream = await session.accept_stream()
                except SessionClosedError as error:
                    _check_end(error)
                    break
                if not isinstance(stream, ByteStream) or stream.purpose != PURPOSE:
                    stream.reset()
                    continue
                try:
                    name, size = await receive_file(stream, directory, progress)
                except Failure as error:
                    failure = failure or error
                    continue
                summary.add(size)
                if not quiet:
                    say(f"received {for_display(name)}, {size:,} bytes")
    finally:
        summary.end(session)
    if failure is not None:
        raise failure
    await anyio.lowlevel.checkpoint()


def _check_end(error: SessionClosedError) -> None:
    if error.reason != "graceful":
        raise error
