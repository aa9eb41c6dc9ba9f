"""A service of two processes that share a ticket store: who was a session's peer at one is known at the other."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.abc
import pytest
from anyio.streams.text import TextReceiveStream

from stt_anyio import STTNode
from tests.anyio_adapter.net import LIMIT, SEED
from tests.anyio_adapter.test_resuming import token_of
from tests.fleet.server import RedisServer

SERVER = """
import sys, anyio
from stt_anyio import STTNode

async def main():
    where = sys.argv[1]
    if where.startswith("unix:"):
        from stt_backends.redis_tickets import RedisTicketStore
        tickets = RedisTicketStore(where, timeout=5)
    else:
        from stt_backends.tickets import FileTicketStore
        tickets = FileTicketStore(where)
    async with STTNode(shared_seed=sys.argv[2].encode(), node_seed=b"the seed of the service alone", tickets=tickets,
                       bind_address="127.0.0.1", resumable=True) as node:
        print(node.port, flush=True)
        async for session in node.incoming():
            print("session", session.resumed, flush=True)

anyio.run(main)
"""


@asynccontextmanager
async def serving(store: str) -> AsyncIterator[tuple[anyio.abc.Process, tuple[str, int]]]:
    """A process of the service, and where it is."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", SERVER, store, SEED.decode()]
    async with await anyio.open_process(command, env=environment, stderr=None) as process:
        try:
            assert process.stdout is not None
            said = TextReceiveStream(process.stdout)
            port = ""
            while "\n" not in port:
                port += await said.receive()
            yield process, ("127.0.0.1", int(port))
        finally:
            with suppress(ProcessLookupError):  # where the test has killed it already
                process.kill()


@pytest.fixture(params=["file", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield str(tmp_path / "tickets")
        return
    with RedisServer() as server:
        yield server.url


async def story(store: str) -> None:
    node = STTNode(shared_seed=SEED, bind_address="127.0.0.1", node_seed=b"the seed of the client alone")
    async with serving(store) as (one, here), serving(store) as (_, there), node:
        stolen = await token_of(await node.connect(here))
        session = await node.resume(stolen, there)
        assert session.resumed == "identity"
        token = await token_of(session)
        assert token != stolen
        for address in (here, there):
            assert (await node.resume(stolen, address)).resumed == "no"  # it was spent, wherever it is shown
        one.kill()
        await one.wait()
        async with serving(store) as (_, again):
            assert (await node.resume(token, again)).resumed == "identity"
            assert (await node.resume(token, there)).resumed == "no"


def test_a_token_is_good_at_each_process_of_a_service_and_once_at_all_of_them(store: str) -> None:
    async def limited() -> None:
        with anyio.fail_after(LIMIT):
            await story(store)

    anyio.run(limited)
