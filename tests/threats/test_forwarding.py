"""Threat: a holder of the seed who wants to reach, through ``stt serve``, what was not allowed, or to leave no room.

Defence: a target has one spelling, and is compared whole with those that were allowed, before anything is looked up or
connected to. The connections of those who fell silent make room for those of others.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from stt_anyio import StreamResetError, STTNode, STTSession
from stt_anyio.cli.forward import Server
from stt_anyio.cli.summary import Summary
from stt_core.forwarding import PURPOSE, Refusal, Target
from stt_core.state import SessionState
from tests.anyio_adapter.net import LIMIT, address_of, cut_off, make_node
from tests.cli.tunnel import HOST, tcp_server

pytestmark = pytest.mark.anyio

SETTINGS: dict[str, Any] = {"resumable": True, "keep_alive_interval": 0.1, "keep_alive_timeout": 0.3}


@asynccontextmanager
async def served(*allowed: str, most: int = 10) -> AsyncIterator[STTNode]:
    server = Server([Target.parse(text) for text in allowed], Summary(), most)
    with anyio.fail_after(LIMIT):
        async with make_node(**SETTINGS) as node, anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, node)
            yield node
            await node.stop()


async def refusal_of(session: STTSession, purpose: str, **mode: Any) -> int:
    """The code with which a stream of this purpose is reset."""
    with pytest.raises(StreamResetError) as reset:
        await session.open_stream(purpose=purpose, **mode).receive()
    return reset.value.code


async def test_no_spelling_leads_to_what_was_not_allowed() -> None:
    connections: list[socket.socket] = []
    with tcp_server(connections.append) as port, tcp_server() as allowed:
        other = [f"{HOST}:{port}", f"localhost:{port}", f"127.1:{port}", f"{HOST}.:{port}", f"{HOST}:0{port}"]
        other += [
            f"[::ffff:{HOST}]:{port}",
            f"{HOST}:{allowed}\0",
            f"{HOST}:{allowed} {HOST}:{port}",
            "",
            ":",
            "a" * 240,
        ]
        async with served(f"{HOST}:{allowed}") as node, make_node() as client:
            session = await client.connect(address_of(node))
            for text in other:
                assert await refusal_of(session, PURPOSE + text, mode="bytes") == Refusal.NOT_ALLOWED
            for purpose in (f"{HOST}:{allowed}", "stt.file", f"STT.TCP {HOST}:{allowed}"):
                assert await refusal_of(session, purpose, mode="bytes") == Refusal.NOT_ALLOWED
            assert await refusal_of(session, f"{PURPOSE}{HOST}:{allowed}", mode="messages") == Refusal.NOT_ALLOWED
            stream = session.open_byte_stream(purpose=f"{PURPOSE}{HOST}:{allowed}")
            await stream.send(b"this one is")
            assert await stream.receive() == b"this one is"
    assert not connections


async def test_those_who_fell_silent_leave_no_others_without_room() -> None:
    with tcp_server() as port:
        purpose = f"{PURPOSE}{HOST}:{port}"
        async with served(f"{HOST}:{port}", most=3) as node, make_node(**SETTINGS) as silent, make_node() as other:
            streams = [(await silent.connect(address_of(node))).open_byte_stream(purpose=purpose) for _ in range(3)]
            for stream in streams:
                await stream.send(b"hello")
                assert await stream.receive() == b"hello"
            session = await other.connect(address_of(node))
            assert await refusal_of(session, purpose, mode="bytes") == Refusal.TOO_MANY
            cut_off(silent)
            while [each.state for each in node._sessions.values()].count(SessionState.DETACHED) < 3:
                await anyio.lowlevel.checkpoint()
            for _ in range(2):
                stream = session.open_byte_stream(purpose=purpose)
                await stream.send(b"room")
                assert await stream.receive() == b"room"
            assert [each.state for each in node._sessions.values()].count(SessionState.DETACHED) == 1
