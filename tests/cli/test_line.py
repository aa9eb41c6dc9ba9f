"""What a command does while its session is away, and when it must not go on."""

from __future__ import annotations

import anyio
import pytest

from stt_anyio import AuthenticationError, STTSession
from stt_anyio.cli import line as room
from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.line import Line
from stt_core.state import SessionState
from tests.anyio_adapter.net import Cable, address_of, cut_off, make_node, two_sessions
from tests.anyio_adapter.test_resuming import SETTINGS, token_of, until

pytestmark = pytest.mark.anyio


async def cut(session: STTSession) -> Cable:
    """Let the session lose its peer, as one that can be resumed."""
    await token_of(session)
    cable = cut_off(session.node)
    await until(session, SessionState.DETACHED)
    return cable


async def test_what_is_new_waits_for_the_session_and_is_refused_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_sessions(SETTINGS, SETTINGS) as (here, there), anyio.create_task_group() as tasks:
        line = Line(here, address_of(there.node), None)
        assert await line.session() is here
        cable = await cut(here)
        monkeypatch.setattr(room, "PATIENCE", 0.05)
        with pytest.raises(Failure, match=r"no session with 127\.0\.0\.1:") as failed:
            await line.session()
        monkeypatch.undo()
        assert failed.value.code is Exit.UNREACHABLE
        tasks.start_soon(line.keep)
        cable.cut = False
        assert await line.session() is here
        assert (line.resumed, line.renewed) == (1, 0)
        tasks.cancel_scope.cancel()


async def test_a_peer_that_lost_the_session_gets_a_new_one() -> None:
    async with two_sessions(SETTINGS) as (here, there), anyio.create_task_group() as tasks:
        line = Line(here, address_of(there.node), None)
        tasks.start_soon(line.keep)
        await there.close()
        assert await line.session() is not here
        assert (line.resumed, line.renewed) == (0, 1)
        tasks.cancel_scope.cancel()


async def test_another_seed_ends_it() -> None:
    async with two_sessions(SETTINGS) as (here, there):
        port = there.node.port
        line = Line(here, address_of(there.node), None)
        await there.node.stop()
        async with make_node(port=port, shared_seed=b"another seed altogether"):
            with pytest.raises(AuthenticationError):
                await line.keep()


async def test_where_udp_is_gone_it_is_resumed_by_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "ATTEMPT_PATIENCE", 0.2)
    server = {**SETTINGS, "transport": "both"}
    async with two_sessions(SETTINGS, server) as (here, there), anyio.create_task_group() as tasks:
        await cut(here)
        line = Line(here, address_of(there.node), f"ws://127.0.0.1:{there.node.port}/")
        tasks.start_soon(line.keep)
        assert await line.session() is here
        assert (here.path.transport, line.resumed) == ("websocket", 1)
        tasks.cancel_scope.cancel()
