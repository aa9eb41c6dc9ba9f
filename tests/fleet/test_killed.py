"""Processes killed in the middle of a transfer and started again: the session is resumed, and the bytes are equal."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.streams.text import TextReceiveStream

from stt_anyio import DurableReceiver, DurableSender, SessionClosedError, STTNode, STTSession
from stt_core.durable import MemoryLog
from tests.anyio_adapter.net import LIMIT, SEED

WHOLE = bytes(range(251)) * 20_000
"""Five megabytes."""
ALICES = b"the seed of the client alone"

SERVER = """
import os, sys, anyio
from stt_anyio import DurableReceiver, STTNode
from stt_backends.tickets import FileTicketStore

async def main():
    path = sys.argv[1]
    tickets = FileTicketStore(path + ".tickets")
    async with STTNode(shared_seed=sys.argv[2].encode(), node_seed=b"the seed of the service alone", tickets=tickets,
                       bind_address="127.0.0.1", resumable=True) as node:
        print("port", node.port, flush=True)
        session = await node.accept()
        print("resumed", session.resumed, flush=True)
        with open(path, "ab") as file:
            receiver = DurableReceiver(await session.accept_stream(), position=file.tell())
            try:
                while True:
                    file.write(await receiver.receive())
                    file.flush()
                    os.fsync(file.fileno())
                    await receiver.consumed()
                    print("kept", receiver.position, flush=True)
            except anyio.EndOfStream:
                await receiver.stream.close()
                print("all", flush=True)
        await session.wait_closed()

anyio.run(main)
"""

CLIENT = """
import sys, anyio
from pathlib import Path
from stt_anyio import CryptoSessionContinuity, DurableSender, STTNode
from stt_backends.durable_log import FileLog

async def main():
    place, port, seed = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
    whole = bytes(range(251)) * 20_000
    log = FileLog(place / "log")
    sender = DurableSender(log, "file")
    async with STTNode(shared_seed=seed, node_seed=b"the seed of the client alone", bind_address="127.0.0.1") as node:
        continuity = CryptoSessionContinuity(node)
        token = place / "token"
        if token.exists():
            session = await continuity.resume_session(token.read_bytes(), "udp", ("127.0.0.1", port))
        else:
            _, fresh = continuity.create_resumable_session(b"Bob")
            token.write_bytes(fresh)
            session = await node.connect(("127.0.0.1", port), b"Bob")
        print("resumed", session.resumed, flush=True)
        await sender.send(whole[log.end:])
        sender.finish()
        await sender.carry(session)
        print("all", flush=True)

anyio.run(main)
"""


class Process:
    """A process of the test's, and what it says."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self._process = process
        assert process.stdout is not None
        self._output = TextReceiveStream(process.stdout)
        self._text = ""

    async def said(self, word: str) -> str:
        """The rest of the next line that begins with ``word``."""
        while True:
            while "\n" not in self._text:
                self._text += await self._output.receive()
            line, self._text = self._text.split("\n", 1)
            first, _, rest = line.partition(" ")
            if first == word:
                return rest

    async def kill(self) -> None:
        """At once, with no last words."""
        self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def running(program: str, *arguments: str) -> AsyncIterator[Process]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", program, *arguments]
    async with await anyio.open_process(command, env=environment, stderr=None) as process:
        try:
            yield Process(process)
        finally:
            with suppress(ProcessLookupError):
                process.kill()


async def killed_server(path: Path) -> None:
    sender = DurableSender(MemoryLog(), "file")
    await sender.send(WHOLE)
    sender.finish()
    node = STTNode(
        shared_seed=SEED, node_seed=ALICES, bind_address="127.0.0.1", resumable=True,
        keep_alive_interval=0.1, keep_alive_timeout=0.5,
    )  # fmt: skip
    addresses: list[tuple[str, int]] = []
    resumed: list[STTSession] = []

    async def again(session: STTSession) -> None:
        while not addresses:
            await anyio.lowlevel.checkpoint()
        resumed.append(await node.resume(session.resumption_token, addresses.pop()))

    async def carry(session: STTSession) -> None:
        with suppress(SessionClosedError):
            await sender.carry(session)

    async with node, anyio.create_task_group() as tasks:
        node.on_session_detached(again)
        async with running(SERVER, str(path), SEED.decode()) as server:
            session = await node.connect(("127.0.0.1", int(await server.said("port"))))
            tasks.start_soon(carry, session)
            while int(await server.said("kept")) < len(WHOLE) // 3:
                pass
            await server.kill()
        async with running(SERVER, str(path), SEED.decode()) as server:
            addresses.append(("127.0.0.1", int(await server.said("port"))))
            assert await server.said("resumed") == "identity"
            await session.wait_closed()
            while not resumed:
                await anyio.lowlevel.checkpoint()
            assert resumed[0].resumed == "identity"
            await sender.carry(resumed[0])
            await server.said("all")


async def killed_client(place: Path) -> None:
    kept = bytearray()
    closed: list[str] = []

    async def receive(session: STTSession, until: int) -> None:
        receiver = DurableReceiver(await session.accept_stream(), position=len(kept))  # type: ignore[arg-type]
        with suppress(anyio.EndOfStream):
            while len(kept) < until:
                kept.extend(await receiver.receive())
                await receiver.consumed()
            return
        await receiver.stream.close()

    async with STTNode(shared_seed=SEED, node_id=b"Bob", bind_address="127.0.0.1", resumable=True) as node:
        node.on_session_closed(lambda _, reason: closed.append(reason))
        arguments = str(place), str(node.port), SEED.decode()
        async with running(CLIENT, *arguments) as client:
            assert await client.said("resumed") == "no"
            first = await node.accept()
            await receive(first, len(WHOLE) // 3)
            await client.kill()
        async with running(CLIENT, *arguments) as client:
            assert await client.said("resumed") == "identity"
            await first.wait_closed()
            assert closed == ["superseded"]
            await receive(await node.accept(), len(WHOLE) + 1)
            await client.said("all")
    assert kept == WHOLE


def test_a_server_that_is_killed_in_the_middle_of_a_transfer_goes_on_when_it_is_back(tmp_path: Path) -> None:
    async def limited() -> None:
        with anyio.fail_after(LIMIT):
            await killed_server(tmp_path / "received")

    anyio.run(limited)
    assert (tmp_path / "received").read_bytes() == WHOLE


def test_a_client_that_is_killed_in_the_middle_of_a_transfer_goes_on_by_its_seeds(tmp_path: Path) -> None:
    async def limited() -> None:
        with anyio.fail_after(LIMIT):
            await killed_client(tmp_path)

    anyio.run(limited)
