"""``stt send`` and ``stt recv``.

Rule: what can be wrong on this machine is told before anybody else is bothered, and what asks the user or waits for
name servers is done before the event loop runs. One file that fails keeps no other from getting across.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio

from stt_anyio import ByteStream, MessageStream, STTError, STTSession
from stt_anyio.cli.addresses import Address, parse_destination, parse_fallback, resolve, spelled
from stt_anyio.cli.disk import Source, tidy
from stt_anyio.cli.failure import Exit, Failure, failure_of
from stt_anyio.cli.interrupts import signals
from stt_anyio.cli.line import FIRST_DELAY, MAX_DELAY
from stt_anyio.cli.names import problem_with
from stt_anyio.cli.output import say
from stt_anyio.cli.progress import Progress
from stt_anyio.cli.seed import shared_seed
from stt_anyio.cli.sessions import candid, connected, next_stream, running_node
from stt_anyio.cli.summary import Summary
from stt_anyio.cli.transfer import PURPOSE, Claims, confirm, receive_file, send_file
from stt_core.backoff import Backoff

# --- sending


def send(arguments: argparse.Namespace, summary: Summary) -> None:
    """``stt send``: every file in turn over one session; each counts only when the receiver has stored it."""
    where = parse_destination(arguments.address)
    detour = parse_fallback(arguments.fallback)
    names: list[str] = arguments.files
    try:
        paths = _sendable(names, summary)
        if paths:
            seed = shared_seed()
            addresses: Sequence[Address | str] = [where] if isinstance(where, str) else resolve(*where)
            way = {"timeout": arguments.timeout, "retry": arguments.retry, "detour": detour}
            signals.run(lambda: send_files(seed, addresses, paths, summary=summary, quiet=arguments.json, **way))
    finally:
        summary.failed = len(names) - summary.files
        if summary.files and not arguments.json:
            say(f"sent {summary}")


def _sendable(names: Sequence[str], summary: Summary) -> list[Path]:
    """Those of the files that can be sent, as far as this side can tell; what is wrong with the others is told."""
    sendable: dict[str, Path] = {}
    for path in map(Path, names):
        try:
            Source(path).close()
            _check_name(path, sendable)
        except Failure as failure:
            summary.fail(failure)
        else:
            sendable[path.name] = path
    return list(sendable.values())


def _check_name(path: Path, others: Mapping[str, Path]) -> None:
    problem = problem_with(path.name)
    if problem is not None:
        raise Failure(Exit.INTEGRITY, f"{path} can't be sent under its name: {problem}")
    if path.name in others:
        raise Failure(Exit.USAGE, f"{path} would get into the way of {others[path.name]}, which has the same name")


async def send_files(
    seed: bytes,
    addresses: Sequence[Address | str],
    paths: Sequence[Path],
    timeout: float,
    summary: Summary,
    *,
    quiet: bool,
    retry: float = 0.0,
    detour: str | None = None,
) -> None:
    """Connect, send what can be sent, close.

    Where UDP falls silent the session goes round by ``detour``, a URL. One that is lost under way is made anew if that
    succeeds within ``retry`` seconds, and the file that was cut goes on.

    :raises Failure: or ``STTError`` if the session can't be made, or ends; what fails one file is told to ``summary``.
    """
    waiting = deque(paths)
    backoff = Backoff(os.urandom, FIRST_DELAY, MAX_DELAY)
    deadline: float | None = None
    while True:
        try:
            async with connected(seed, addresses, timeout, detour) as session:
                deadline = None
                summary.begin()
                try:
                    with Progress(wanted=not quiet) as progress:
                        await _send_waiting(session, waiting, summary, progress)
                finally:
                    summary.end(session)
            return
        except (Failure, STTError) as error:
            now = anyio.current_time()
            if deadline is None:
                if not summary.sessions:
                    raise
                deadline = now + retry
            delay = backoff.next_delay(now)
            if now + delay >= deadline or failure_of(error).code is not Exit.UNREACHABLE:
                raise
            say(f"trying again: {failure_of(error)}")
            await anyio.sleep(delay)


async def _send_waiting(session: STTSession, waiting: deque[Path], summary: Summary, progress: Progress) -> None:
    while waiting:
        try:
            summary.add(await send_file(session, waiting[0], progress))
        except Failure as failure:
            summary.fail(failure)
        waiting.popleft()


# --- receiving


def receive(arguments: argparse.Namespace, summary: Summary) -> None:
    """``stt recv``: store what is sent until interrupted, or with ``--once`` until one session is over."""
    directory: str = arguments.directory
    if not os.path.isdir(directory):
        raise Failure(Exit.USAGE, f"{directory} is not a directory")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise Failure(Exit.USAGE, f"can't write to {directory}")
    inbox = _Inbox(Path(directory), summary, quiet=arguments.json)
    seed = shared_seed()
    tidy(Path(directory), time.time())
    host, port, transport = arguments.bind, arguments.port, arguments.transport
    signals.run(lambda: _listen(seed, host, port, transport, inbox, once=arguments.once))


async def _listen(seed: bytes, host: str, port: int, transport: str, inbox: _Inbox, *, once: bool) -> None:
    limit = {"max_sessions": 1} if once else {}
    async with running_node(seed, bind_address=host, port=port, transport=transport, **limit) as node:
        node.on_session_closed(
            lambda session_id, reason: None if session_id else say("refused a peer that holds another seed")
        )
        say(f"listening on {spelled(host, node.port)}")
        if once:
            await inbox.take_all(await node.accept())
        else:
            await node.serve(inbox.take_all)


class _Inbox:
    """The directory that files are stored in, by any number of sessions at once."""

    def __init__(self, directory: Path, summary: Summary, *, quiet: bool) -> None:
        self._directory = directory
        self._summary = summary
        self._quiet = quiet
        self._progress = Progress(wanted=not quiet)
        self._claims = Claims()

    async def take_all(self, session: STTSession) -> None:
        """Every file of one session, one at a time; what goes wrong is told, and is no end to other sessions."""
        self._summary.begin()
        try:
            with self._progress:
                async with candid(session):
                    while (stream := await next_stream(session)) is not None:
                        if not await self._take(stream) and not session.alive:
                            break  # its end is told, as that of the file
        except Exception as error:  # noqa: BLE001 - told, bugs too
            self._summary.fail(failure_of(error))
        finally:
            self._summary.end(session)

    async def _take(self, stream: ByteStream | MessageStream) -> bool:
        """Take what one stream brings; False for a file that failed."""
        if not isinstance(stream, ByteStream) or stream.purpose != PURPOSE:
            stream.reset()
            return True
        try:
            name, moved = await receive_file(stream, self._directory, self._claims, self._progress)
        except Failure as failure:
            self._summary.fail(failure, files=1)
            return False
        self._summary.add(moved)
        if not self._quiet:
            resumed = f", of which {moved.resumed:,} were here before" if moved.resumed else ""
            say(f"received {name}, {moved.size:,} bytes{resumed}")
        await confirm(stream)
        return True
