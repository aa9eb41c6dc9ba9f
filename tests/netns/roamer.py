"""One end of a transfer that moves, as a process of its own on one host of a :class:`~tests.netns.network.Network`.

    python -m tests.netns.roamer give --bind 10.77.1.1 --to 10.77.2.1 4433 --mib 20 --move '{"local": "10.77.1.2"}'
    python -m tests.netns.roamer take --bind 10.77.2.1

Prints JSON, an object a line: ``{"port": N}`` when it listens, ``{"path": [transport, address], "mib": N}`` whenever it
sends over another path than before, and the hash at the end. A giver makes its moves (the arguments of
``session.migrate``) when equal shares of ``--mib`` are sent; with ``--steady`` it gives slowly until it is told a line.
Both listen by UDP and by WebSocket, at one port number.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from typing import Any

import anyio

from stt_anyio import ByteStream, STTNode, STTSession
from tests.netns.peer import LIMIT, MIB, SEED, say

PIECE = 64 * 1024
PACE = 0.01
"""Seconds between two pieces of a steady giver: 6 MB/s."""


class Roamer:
    """One end, and where it was seen."""

    def __init__(self, session: STTSession) -> None:
        self._session = session
        self._seen: object = None
        self._digest = hashlib.sha256()
        self._size = 0

    def _note(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        if self._session.path != self._seen:
            self._seen = self._session.path
            say(path=self._session.path, mib=self._size / MIB)

    async def give(self, mib: int, moves: list[dict[str, Any]], *, steady: bool) -> None:
        """Give ``mib``, or as much more as it takes to make all moves, or to be told."""
        stream = self._session.open_byte_stream()
        marks = [anyio.Event() for _ in moves]
        busy = {"moves": bool(moves), "steady": steady}

        async def move() -> None:
            for mark, arguments in zip(marks, moves, strict=True):
                await mark.wait()
                await self._session.migrate(**arguments)
            busy["moves"] = False

        async def listen() -> None:
            await anyio.wait_readable(sys.stdin)
            busy["steady"] = False

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(move)
            if steady:
                tasks.start_soon(listen)
            number = 0
            while self._size < mib * MIB or any(busy.values()):
                data = number.to_bytes(8, "big") * (PIECE // 8)
                await stream.send(data)
                self._note(data)
                for index, mark in enumerate(marks):
                    if self._size * (len(marks) + 1) >= mib * MIB * (index + 1):
                        mark.set()
                if busy["steady"]:
                    await anyio.sleep(PACE)
                number += 1
        await stream.send_eof()
        assert await stream.receive() == self._digest.digest(), "what was taken is not what was given"
        say(sha256=self._digest.hexdigest(), size=self._size)
        await self._session.close()

    async def take(self) -> None:
        stream = await self._session.accept_stream()
        assert isinstance(stream, ByteStream)
        async for data in stream:
            self._note(data)
        await stream.send(self._digest.digest())
        await stream.send_eof()
        say(sha256=self._digest.hexdigest(), size=self._size)
        await self._session.wait_closed()


async def run(options: argparse.Namespace) -> None:
    with anyio.fail_after(LIMIT):
        async with STTNode(shared_seed=SEED, bind_address=options.bind, transport="both") as node:
            say(port=node.port)
            if options.job == "give":
                session = await node.connect((options.to[0], int(options.to[1])))
                await Roamer(session).give(options.mib, options.move, steady=options.steady)
            else:
                await Roamer(await node.accept()).take()


def main() -> None:
    parser = argparse.ArgumentParser(description="Be one end of a transfer that moves.")
    parser.add_argument("job", choices=["give", "take"])
    parser.add_argument("--bind", required=True, metavar="HOST")
    parser.add_argument("--to", nargs=2, metavar=("HOST", "PORT"))
    parser.add_argument("--mib", type=int, default=1, metavar="N")
    parser.add_argument("--move", type=json.loads, action="append", default=[], metavar="JSON")
    parser.add_argument("--steady", action="store_true")
    anyio.run(run, parser.parse_args())


if __name__ == "__main__":
    main()
