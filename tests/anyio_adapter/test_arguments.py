"""What a caller gets wrong raises at the caller and changes nothing; what a peer does ends no more than its session."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from stt_anyio import STTNode, STTSession
from stt_core.errors import ConfigurationError
from tests.anyio_adapter.net import LIMIT, SEED, address_of, make_node, two_nodes, two_sessions

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("address", "arguments"),
    [
        (None, {"peer_node_id": "bob"}),
        (None, {"peer_node_id": b""}),
        (None, {"peer_key": b"short"}),
        (None, {"timeout": float("nan")}),
        (None, {"timeout": float("inf")}),
        (None, {"timeout": -1}),
        ("127.0.0.1", {}),
        (("127.0.0.1",), {}),
        (("127.0.0.1", "4433"), {}),
    ],
)
async def test_a_wrong_argument_of_connect_raises_there_and_leaves_the_node_alone(
    address: Any, arguments: dict[str, Any]
) -> None:
    async with two_nodes() as (calling, listening):
        live = await calling.connect(address_of(listening))
        with pytest.raises(ConfigurationError):
            await calling.connect(address or address_of(listening), **arguments)
        assert live.alive
        await calling.connect(address_of(listening))


@pytest.mark.parametrize(
    "settings", [{"node_id": "name"}, {"shared_seed": "text"}, {"node_seed": "text"}, {"max_sessions": "many"}]
)
async def test_a_setting_of_the_wrong_type_is_refused_at_start_and_a_secret_one_not_shown(settings: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        make_node(**settings).start()
    assert next(iter(settings)) in str(raised.value)
    assert "text" not in str(raised.value)


async def test_a_setting_that_is_none_is_refused_where_it_is_given() -> None:
    with pytest.raises(TypeError, match="keep_alive_intervall"):
        STTNode(shared_seed=SEED, keep_alive_intervall=3.0)


@pytest.mark.parametrize("wrong", [5, "text", [1, 2]])
async def test_what_is_no_bytes_is_no_message(wrong: Any) -> None:
    async with two_sessions() as (here, _):
        with pytest.raises(TypeError):
            await here.open_stream().send(wrong)
        with pytest.raises(TypeError):
            await here.send_datagram(wrong)


async def test_connects_given_up_early_do_not_lock_out_of_a_host_that_has_proved_itself() -> None:
    async with two_nodes() as (calling, listening):
        await calling.connect(address_of(listening))
        endpoint = calling.endpoint
        path = next(iter(endpoint._register.budgets))
        assert path.address == address_of(listening)
        while endpoint._targets.allow(path, calling._started()[0].clock()):
            continue  # as many proofs as connects that are cancelled in the middle would have used
        assert (await calling.connect(address_of(listening), timeout=2.0)).alive


async def test_the_end_of_a_stream_is_a_checkpoint_however_often_it_is_asked_for() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_stream()
        await ours.send(b"x")
        await ours.send_eof()
        theirs = await there.accept_stream()
        assert await theirs.receive() == b"x"
        with anyio.move_on_after(0.02) as scope:
            while True:
                with pytest.raises(anyio.EndOfStream):
                    await theirs.receive()
        assert scope.cancelled_caught
        with anyio.move_on_after(0.02) as scope:
            while True:
                await ours.wait_acknowledged()
        assert scope.cancelled_caught


async def test_a_peer_that_goes_away_under_a_handler_with_tasks_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with two_nodes() as (calling, listening), anyio.create_task_group() as tasks:
        ended = anyio.Event()

        async def handler(session: STTSession) -> None:
            async def serve_streams() -> None:
                while True:
                    await session.accept_stream()

            try:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(serve_streams)
            finally:
                ended.set()

        tasks.start_soon(listening.serve, handler)
        session = await calling.connect(address_of(listening))
        with caplog.at_level(logging.INFO, logger="stt.node"):
            await session.close(0x100, "had enough")
            with anyio.fail_after(LIMIT):
                await ended.wait()
                await anyio.wait_all_tasks_blocked()
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
        tasks.cancel_scope.cancel()


async def test_a_code_of_the_applications_own_is_a_graceful_end() -> None:
    async with two_sessions() as (here, there):
        reasons: list[str] = []
        there.node.on_session_closed(lambda _, reason: reasons.append(reason))
        async with here:
            await here.close(0x123, "bye")
        await there.wait_closed()
        assert reasons == ["graceful"]
