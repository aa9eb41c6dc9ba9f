"""A node's life on trio: what it runs in, how it ends, and what is left of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import trio
import trio.testing

import stt_trio.node
from stt_backends.driver import Driver
from stt_trio import SessionClosedError, StateError, STTNode
from tests.trio_adapter.net import LIMIT, address_of, make_node, on_trio, two_nodes, two_sessions


def running_tasks() -> set[trio.lowlevel.Task]:
    def below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
        yield task
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                yield from below(child)

    root = trio.lowlevel.current_root_task()
    assert root is not None
    return set(below(root))


@on_trio
async def test_nothing_is_left_behind() -> None:
    before = running_tasks()
    async with two_sessions() as (here, there):
        await here.open_stream().send(b"x")
        await there.accept_stream()
        assert running_tasks() != before
    assert running_tasks() == before


def test_a_node_that_nobody_stops_ends_with_trio_and_gives_its_socket_back() -> None:
    closed: list[str] = []

    async def main() -> list[STTNode]:
        server, client = make_node(), make_node()
        for node in (server, client):
            await node.start()
            node.on_session_closed(lambda session_id, reason: closed.append(reason))
        await client.connect(address_of(server))
        await server.accept()
        return [server, client]

    for node in trio.run(main):
        assert node._socket is not None
        assert node._socket.fileno() == -1
    assert len(closed) == 2
    gc.collect()


def test_starting_outside_of_trio_is_an_error_that_leaves_no_socket_behind() -> None:
    with pytest.raises(RuntimeError, match="async context"):
        make_node().start()
    gc.collect()


@on_trio
async def test_a_cancelled_node_says_goodbye() -> None:
    async with make_node() as server:
        with trio.CancelScope() as scope:
            async with make_node() as client:
                await client.connect(address_of(server))
                session = await server.accept()
                scope.cancel()
                await trio.sleep_forever()
        await session.wait_closed()


@on_trio
async def test_a_node_that_fails_wakes_everyone_and_tells_who_stops_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(driver: Driver) -> None:
        if driver is here.node._driver:
            raise ZeroDivisionError("the card was pulled")

    async def receive() -> None:
        with pytest.raises(SessionClosedError):
            await stream.receive()

    async def accept() -> None:
        with pytest.raises(StateError) as caught:
            await here.node.accept()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    async with two_sessions() as (here, there):
        stream = here.open_stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(accept)
            await trio.testing.wait_all_tasks_blocked()
            monkeypatch.setattr(Driver, "turn", fail)
            here.node.wake_pump()
        monkeypatch.undo()
        assert "the node failed and stops" in caplog.text
        with pytest.raises(ZeroDivisionError, match="the card was pulled"):  # itself, in no group
            await here.node.stop()
        await here.node.stop()
        there.core.abandon("enough")


@on_trio
async def test_a_callback_still_running_when_the_node_stops_gets_a_moment_then_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stt_trio.node, "CALLBACK_PATIENCE", 0.05)
    went: list[str] = []

    async def quick(session_id: bytes, reason: str) -> None:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        went.append("finished")

    async def stuck(session_id: bytes, reason: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            went.append("cancelled")

    before = running_tasks()
    async with two_sessions() as (here, _):
        here.node.on_session_closed(quick)
        here.node.on_session_closed(stuck)
        await here.node.stop()
        assert went == ["finished", "cancelled"]
    assert running_tasks() == before


@on_trio
async def test_a_callback_may_stop_the_node() -> None:
    stopped = trio.Event()

    async def stop(session_id: bytes, reason: str) -> None:
        await here.node.stop()
        stopped.set()

    async with two_sessions() as (here, there):
        here.node.on_session_closed(stop)
        await there.close()
        await stopped.wait()


@on_trio
async def test_a_name_is_looked_up() -> None:
    async with two_nodes() as (client, server):
        assert (await client.connect(("localhost", server.port))).alive
        with pytest.raises(ConnectionError, match="can't resolve"):
            await client.connect(("no-such-host.invalid", 1))


@on_trio
async def test_a_timer_is_kept_while_the_socket_is_silent() -> None:
    """The one scope's deadline moves: a peer that is gone is noticed although nothing ever arrives."""
    settings = {"keep_alive_interval": 0.05, "keep_alive_timeout": 0.3}
    async with two_sessions(settings, settings) as (here, there):
        there.node.endpoint.abandon("gone without a word")
        begun = trio.current_time()
        await here.wait_closed()
        assert trio.current_time() - begun < LIMIT / 2


@on_trio
async def test_commands_in_quick_succession_share_packets() -> None:
    async with two_sessions() as (here, there):
        before = here.statistics().packets_sent
        for _ in range(50):
            stream = here.core.open_stream()
            assert here.core.send_message(stream, b"small")
            here.kick()
        for _ in range(50):
            accepted = await there.accept_stream()
            assert await accepted.receive() == b"small"
        assert here.statistics().packets_sent - before <= 12
