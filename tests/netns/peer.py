"""One end of a transfer, as a process of its own on one host of a :class:`~tests.netns.network.Network`.

    python -m tests.netns.peer give --bind 10.77.1.1 --to 10.77.2.1 4433 --mib 16
    python -m tests.netns.peer take --bind 10.77.2.1

Prints JSON, an object a line: ``{"port": N}`` when it listens, and a report at the end. With ``--more M`` the giver
reports after ``--mib``, goes on giving until it is told a line, and gives M MiB after that: so whoever tells it knows
that what he did meanwhile was done in mid-transfer. With ``--rest`` it waits for that line instead, with nothing in
flight. :class:`Peer` runs it.
"""

from __future__ import annotations

import argparse
import errno
import functools
import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio

from stt_anyio import ByteStream, STTNode, STTSession
from stt_backends.udp import UdpSocket
from stt_backends.udp_address import Address
from tests.netns.network import ROUTER_A4, Network, Place
from tests.support.relay import RelayProcess

SEED = b"a seed only the hosts of these tests know"
MIB = 1024 * 1024
LIMIT = 60.0
"""Seconds a transfer may take, several times what any does."""


async def give(session: STTSession, options: argparse.Namespace, report: functools.partial[None]) -> None:
    """Give ``--mib``, until told, and ``--more``; then wait for the taker to say that it has all."""
    block = random.Random(options.mib).randbytes(MIB)
    digest = hashlib.sha256()
    stream = session.open_byte_stream()
    told = False

    async def send(count: int | None) -> None:
        number = 0
        while number != count and not (count is None and told):
            data = number.to_bytes(8, "big") + block[8:]
            digest.update(data)
            await stream.send(data)
            number += 1

    async def listen() -> None:
        nonlocal told
        await anyio.wait_readable(sys.stdin)
        assert sys.stdin.readline() == "go on\n"
        told = True

    await send(options.mib)
    if options.more is not None:
        if options.rest:
            await stream.wait_acknowledged()
        report()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            if not options.rest:
                await send(None)
        await send(options.more)
    await stream.send_eof()
    assert await stream.receive() == digest.digest(), "what was taken is not what was given"
    report(sha256=digest.hexdigest())
    await session.close()


async def take(session: STTSession, report: functools.partial[None]) -> None:
    """Take all of one stream, and answer with its hash."""
    stream = await session.accept_stream()
    assert isinstance(stream, ByteStream)
    digest = hashlib.sha256()
    async for chunk in stream:
        digest.update(chunk)
    await stream.send(digest.digest())
    await stream.send_eof()
    report(sha256=digest.hexdigest())
    await session.wait_closed()


def tell(node: STTNode, session: STTSession, sha256: str = "") -> None:
    """Print the state of things."""
    channel = session.core._channel
    assert channel is not None
    assert node._socket is not None
    marks = channel.acks._marks
    ecn = channel.recovery.ecn
    assert isinstance(node._socket, UdpSocket)
    say(
        sha256=sha256,
        seconds=time.monotonic(),
        **asdict(session.statistics()),
        port=node.port,
        path=session.path.address,
        ecn=None if ecn is None else ecn.state.value,
        ecn_counted=None if marks is None else marks.counts,
        losses={errno.errorcode[number]: count for number, count in node._socket.losses.items()},
        segment_limit=node._socket._segment_limit,
    )


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def run(options: argparse.Namespace) -> None:
    with anyio.fail_after(LIMIT):
        async with STTNode(shared_seed=SEED, bind_address=options.bind) as node:
            say(port=node.port)
            to = None if options.to is None else (options.to[0], int(options.to[1]))
            session = await node.accept() if to is None else await node.connect(to)
            report = functools.partial(tell, node, session)
            if options.job == "give":
                await give(session, options, report)
            else:
                await take(session, report)


def main() -> None:
    parser = argparse.ArgumentParser(description="Be one end of a transfer.")
    parser.add_argument("job", choices=["give", "take"])
    parser.add_argument("--bind", required=True, metavar="HOST")
    parser.add_argument("--to", nargs=2, metavar=("HOST", "PORT"))
    parser.add_argument("--mib", type=int, default=1, metavar="N")
    parser.add_argument("--more", type=int, metavar="M")
    parser.add_argument("--rest", action="store_true")
    anyio.run(run, parser.parse_args())


class Peer:
    """The above (or another ``module`` that speaks alike) as a process, for the length of a ``with`` block."""

    def __init__(self, network: Network, place: Place, *arguments: str | int, module: str = "tests.netns.peer") -> None:
        command = [*network.prefix(place), sys.executable, "-m", module, *map(str, arguments)]
        self._process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.port = int(self.report()["port"])
        except BaseException:
            self._kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def report(self) -> dict[str, Any]:
        """The next object it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with exit code {self._process.wait()}; see its standard error")
        found: dict[str, Any] = json.loads(line)
        return found

    def go_on(self) -> None:
        """Tell a giver that gives until it is told."""
        assert self._process.stdin is not None
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()

    def _kill(self) -> None:
        self._process.kill()
        with self._process:  # closes the pipes and waits
            pass


class Ends(NamedTuple):
    """The processes of a transfer."""

    giver: Peer
    taker: Peer
    relay: RelayProcess | None


class Outcome(NamedTuple):
    """What both ends reported at the end; ``before`` is the giver's report in between (empty without one)."""

    before: dict[str, Any]
    giver: dict[str, Any]
    taker: dict[str, Any]


@contextmanager
def ends(
    network: Network,
    ours: str,
    theirs: str,
    *,
    mib: int,
    more: int | None = None,
    rest: bool = False,
    download: bool = False,
    climate: Mapping[str, Any] | None = None,
) -> Iterator[Ends]:
    """Host A connects from ``ours`` to ``theirs`` on host B and gives, or with ``download`` takes, ``mib`` MiB; then
    ``more``, once told to go on. With a ``climate`` (see :mod:`tests.support.relay`) all goes through a relay on the
    router. Where the hash of what was taken isn't the right one, the giver fails.
    """
    giving: list[str | int] = ["give", "--mib", mib]
    if more is not None:
        giving += ["--more", more, *(["--rest"] if rest else [])]
    there, here = (giving, ["take"]) if download else (["take"], giving)
    with ExitStack() as stack:
        listening = stack.enter_context(Peer(network, "b", *there, "--bind", theirs))
        to: Address = (theirs, listening.port)
        relay = None
        if climate is not None:
            prefix = network.prefix("router")
            relay = stack.enter_context(RelayProcess(to, listen=ROUTER_A4, prefix=prefix, **climate))
            to = relay.address
        calling = stack.enter_context(Peer(network, "a", *here, "--bind", ours, "--to", *to[:2]))
        yield Ends(listening, calling, relay) if download else Ends(calling, listening, relay)


def transfer(
    network: Network, ours: str, theirs: str, *, meanwhile: Callable[[], object] | None = None, **settings: Any
) -> Outcome:
    """A transfer to its end, ``settings`` as for :func:`ends`; where there is ``more``, it goes on once ``meanwhile``
    was called.
    """
    with ends(network, ours, theirs, **settings) as (giver, taker, _):
        before = {}
        if meanwhile is not None:
            before = giver.report()
            meanwhile()
            giver.go_on()
        return Outcome(before, giver.report(), taker.report())


if __name__ == "__main__":
    main()
