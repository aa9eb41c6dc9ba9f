from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from stt_anyio import STTSession
from stt_backends.tickets import FileTicketStore
from stt_core.errors import ConfigurationError
from stt_core.state import SessionState
from tests.anyio_adapter.net import LIMIT, Cable, address_of, make_node, two_sessions

pytestmark = pytest.mark.anyio

SETTINGS: dict[str, Any] = {"resumable": True, "keep_alive_interval": 0.1, "keep_alive_timeout": 0.3}


async def token_of(session: STTSession) -> bytes:
    """Its token, once the peer has given a ticket."""
    while session.resumption_token is None:
        await anyio.lowlevel.checkpoint()
    return bytes(session.resumption_token)


async def until(session: STTSession, state: SessionState) -> None:
    while session.state is not state:
        await anyio.lowlevel.checkpoint()


async def test_who_waits_on_a_stream_goes_on_after_a_resume() -> None:
    async with two_sessions(SETTINGS, SETTINGS) as (here, there):
        token = await token_of(here)
        up = here.open_stream()
        await up.send(b"before")
        down = await there.accept_stream()
        assert await down.receive() == b"before"
        detached: list[STTSession] = []
        here.node.on_session_detached(detached.append)
        received: list[bytes] = []

        async def wait() -> None:
            received.append(await down.receive())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            cable = Cable(here.node)
            cable.cut = True
            await until(here, SessionState.DETACHED)
            await until(there, SessionState.DETACHED)
            cable.cut = False
            tasks.start_soon(up.send, b"after")
            assert await here.node.resume(token, address_of(there.node)) is here
        assert received == [b"after"]
        assert detached == [here]
        assert here.resumed == "full"


async def test_a_client_that_was_restarted_is_known_by_its_token() -> None:
    seed = b"a seed of the client alone"
    with anyio.fail_after(LIMIT):
        async with make_node(**SETTINGS) as server:
            async with make_node(node_seed=seed) as client:
                token = await token_of(await client.connect(address_of(server)))
            async with make_node(node_seed=seed) as again:
                session = await again.resume(token, address_of(server))
                assert session.resumed == "identity"


async def test_a_server_that_was_restarted_knows_whom_its_store_knows(tmp_path: Path) -> None:
    with anyio.fail_after(LIMIT):
        async with make_node(**SETTINGS) as client:
            async with make_node(tickets=FileTicketStore(tmp_path / "tickets")) as server:
                token = await token_of(await client.connect(address_of(server)))
            async with make_node(tickets=FileTicketStore(tmp_path / "tickets")) as server:
                assert (await client.resume(token, address_of(server))).resumed == "identity"
            async with make_node() as server:
                assert (await client.resume(token, address_of(server))).resumed == "no"


async def test_bytes_that_are_no_token_are_the_callers_mistake() -> None:
    async with two_sessions() as (here, there):
        with pytest.raises(ConfigurationError):
            await here.node.resume(b"nothing of the kind", address_of(there.node))
