"""Fetchers that take a provider's places and do nothing with them."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import stt_backends.adapter.content as adapter
from stt_anyio import ContentDistribution, MessageStream, STTSession
from stt_backends.adapter.fetching import PURPOSE
from stt_core.content.wire import Answer, AskBlock, Holding, Refusal, Refused, Run, Want, parse_answer_untrusted
from tests.anyio_adapter.net import LIMIT, make_node

pytestmark = pytest.mark.anyio

SIZE = 3 << 20


@pytest.mark.parametrize("reading", [True, False], ids=["asking for nothing", "reading nothing"])
async def test_those_that_do_nothing_give_way_to_others(
    reading: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "MOST_SUPPLIES", 2)
    now = [1000.0]
    async with (
        make_node() as server,
        make_node(stream_window=16_384, session_window=65_536, max_window=65_536) as mallory,
        make_node() as bob,
        ContentDistribution(store=tmp_path, clock=lambda: now[0]) as serving,
    ):
        content_id = await serving.publish_content(bytes(SIZE))
        theirs = [await node.connect(("127.0.0.1", server.port)) for node in (mallory, bob)]

        async def begin(session: STTSession) -> MessageStream:
            stream = session.open_stream(purpose=PURPOSE)
            assert isinstance(stream, MessageStream)
            await stream.send(Want(content_id).encode())
            return stream

        async def hear(stream: MessageStream) -> Answer:
            return parse_answer_untrusted(await stream.receive())

        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                for _ in theirs:
                    tasks.start_soon(serving.serve, await server.accept())
                hogs = [await begin(theirs[0]) for _ in range(2)]
                for hog in hogs:
                    assert isinstance(await hear(hog), Holding)
                for block in range(0 if reading else 12):  # far more than the windows take
                    for hog in hogs:
                        await hog.send(AskBlock(0, block).encode())
                assert await hear(await begin(theirs[1])) == Refused(Refusal.BUSY)
                now[0] += adapter.SUPPLY_IDLE - 1
                assert await hear(await begin(theirs[1])) == Refused(Refusal.BUSY)
                while isinstance(await hear(honest := await begin(theirs[1])), Refused):
                    now[0] += adapter.SUPPLY_IDLE + 1  # some of what was asked for may have been read until now
                await honest.send(AskBlock(0, 0).encode())
                assert isinstance(await hear(honest), Run)
                tasks.cancel_scope.cancel()
