from __future__ import annotations

import asyncio
import errno
import gc
import logging
import socket
import sys
from typing import Any

import anyio
import pytest

from stt_anyio import ConfigurationError, SessionClosedError, StateError, STTNode, STTSession
from tests.anyio_adapter.net import LIMIT, Cable, address_of, cut_off, make_node, two_nodes, two_sessions

pytestmark = pytest.mark.anyio


def running_tasks() -> set[Any]:
    """Every task of the event loop, the event loop's own included."""
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_run():
        return set(asyncio.all_tasks())
    found, waiting = set(), [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        found.add(task)
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


# --- starting and stopping


@pytest.mark.parametrize("awaited", [True, False])
async def test_start_listens_at_once_whether_or_not_it_is_awaited(awaited: bool) -> None:
    server, client = make_node(), make_node()
    with anyio.fail_after(LIMIT):
        for node in (server, client):
            started = node.start()
            assert node.port > 0
            if awaited:
                assert await started is node
        assert (await client.connect(address_of(server))).alive
        await client.stop()
        await server.stop()
        await server.stop()


async def test_nodes_get_free_ports_of_their_own() -> None:
    async with two_nodes() as (client, server):
        assert client.port != server.port
        assert client.address == address_of(client)


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="127") as caught:
            make_node(port=taken.getsockname()[1]).start()
    assert caught.value.errno == errno.EADDRINUSE


async def test_a_bad_setting_leaves_no_socket_behind() -> None:
    with pytest.raises(ConfigurationError, match="keep_alive_timeout"):
        make_node(keep_alive_interval=5, keep_alive_timeout=1).start()
    with pytest.raises(ConfigurationError, match="transport"):
        make_node(transport="carrier pigeon")
    gc.collect()


async def test_a_node_starts_once() -> None:
    async with make_node() as node:
        with pytest.raises(StateError, match="started already"):
            node.start()


async def test_stopping_what_never_started_is_fine() -> None:
    node = make_node()
    await node.stop()
    with pytest.raises(StateError):
        _ = node.port


async def test_nothing_is_left_behind() -> None:
    before = running_tasks()
    async with two_sessions() as (here, there):
        await here.open_stream().send(b"x")
        await there.accept_stream()
    assert running_tasks() == before
    for session in (here, there):
        assert session.node._socket is not None
        assert session.node._socket.fileno() == -1
    gc.collect()


def test_a_program_that_ends_without_stopping_its_node_closes_the_socket_all_the_same(
    anyio_backend: tuple[str, dict[str, Any]],
) -> None:
    async def on_closed(session_id: bytes, reason: str) -> None:
        await anyio.lowlevel.checkpoint()

    async def main() -> list[STTNode]:
        client, server = make_node(), make_node()
        for node in (client, server):
            await node.start()
            node.on_session_closed(on_closed)
        await client.connect(address_of(server))
        return [client, server]

    name, options = anyio_backend
    for node in anyio.run(main, backend=name, backend_options=options):
        assert node._socket is not None
        assert node._socket.fileno() == -1
    gc.collect()


def test_starting_outside_of_an_event_loop_is_an_error_that_leaves_no_socket_behind() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        make_node().start()
    gc.collect()


async def test_stopping_with_streams_open_and_unread_is_quick() -> None:
    async with two_sessions() as (here, there):
        for _ in range(20):
            await here.open_stream().send(bytes(10_000))
        await there.open_byte_stream().send(bytes(100_000))
        with anyio.fail_after(2):
            await here.node.stop()
        with anyio.fail_after(2):
            await there.node.stop()


async def test_what_was_sent_before_the_stop_still_arrives() -> None:
    async with two_sessions() as (here, there):
        await here.open_stream().send(bytes(100_000))
        await here.node.stop()
        assert await (await there.accept_stream()).receive() == bytes(100_000)
        await there.wait_closed()


async def test_a_stop_is_bounded_where_the_peer_is_gone() -> None:
    async with two_sessions() as (here, there):
        cable = cut_off(here.node)
        await here.open_stream().send(b"x")
        with anyio.fail_after(4):
            await here.node.stop()
        assert not here.alive
        cable.cut = False
        there.core.abandon("enough")


async def test_a_cancelled_stop_closes_the_socket_all_the_same() -> None:
    async with two_sessions() as (here, there):
        cut_off(here.node)
        await here.open_stream().send(b"x")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await here.node.stop()
        assert scope.cancelled_caught
        assert here.node._socket is not None
        assert here.node._socket.fileno() == -1
        await here.wait_closed()
        there.core.abandon("enough")


async def test_a_node_inside_a_cancelled_scope_says_goodbye() -> None:
    with anyio.fail_after(LIMIT):
        async with make_node() as server:
            with anyio.CancelScope() as scope:
                async with make_node() as client:
                    await client.connect(address_of(server))
                    session = await server.accept()
                    scope.cancel()
                    await anyio.Event().wait()
            await session.wait_closed()


async def test_a_node_that_fails_wakes_everyone_and_tells_who_stops_it(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Cable):
        def receive(self, most: int = 1) -> Any:
            raise RuntimeError("the card was pulled")

    async def accept() -> None:
        with pytest.raises(StateError) as caught:
            await here.node.accept()
        assert isinstance(caught.value.__cause__, RuntimeError)

    async def receive() -> None:
        with pytest.raises(SessionClosedError):
            await stream.receive()

    async with two_sessions() as (here, _):
        stream = here.open_stream()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(accept)
            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            Broken(here.node)
            here.node.kick()
        assert "the node failed and stops" in caplog.text
        with pytest.raises(StateError):
            await here.node.connect(("127.0.0.1", 1))
        with pytest.raises(RuntimeError, match="the card was pulled"):
            await here.node.stop()
        await here.node.stop()


# --- accepting


async def test_incoming_yields_sessions_until_the_node_stops() -> None:
    async with two_nodes() as (client, server):
        seen: list[bytes] = []
        complete = anyio.Event()

        async def collect() -> None:
            async for session in server.incoming():
                seen.append(session.session_id)
                if len(seen) == 3:
                    complete.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect)
            made = [(await client.connect(address_of(server))).session_id for _ in range(3)]
            await complete.wait()
            await server.stop()
        assert seen == made
        with pytest.raises(StateError, match="stopped"):
            await server.accept()


async def test_a_cancelled_accept_leaves_the_session_for_the_next() -> None:
    async with two_nodes() as (client, server):
        with anyio.move_on_after(0.01) as scope:
            await server.accept()
        assert scope.cancelled_caught
        here = await client.connect(address_of(server))
        assert (await server.accept()).session_id == here.session_id


async def test_a_node_that_never_accepts_does_not_collect_the_dead() -> None:
    async with two_nodes(server={"max_sessions": 2}) as (client, server):
        for _ in range(6):
            session = await client.connect(address_of(server))
            await session.open_stream().send(b"x", timeout=10)
            await session.close()
        assert len(server._accepted) <= 2


async def test_a_handler_that_crashes_ends_its_own_session_only(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(session: STTSession) -> None:
        stream = await session.accept_stream()
        message = await stream.receive()
        if message == b"crash":
            raise ZeroDivisionError
        await stream.send(b"fine")
        await session.wait_closed()

    async with two_nodes() as (client, server), anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, handle)
        good, bad = [await client.connect(address_of(server)) for _ in range(2)]
        ours = good.open_stream()
        await bad.open_stream().send(b"crash")
        await bad.wait_closed()
        await ours.send(b"well?")
        assert await ours.receive() == b"fine"
        assert (await client.connect(address_of(server))).alive
        assert "ZeroDivisionError" in caplog.text
        assert "the handler of" in caplog.text
        await client.stop()
        await server.stop()


async def test_a_handler_surprised_by_the_end_of_its_session_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(session: STTSession) -> None:
        await session.accept_stream()

    async with two_nodes() as (client, server), anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, handle)
        await (await client.connect(address_of(server))).close()
        await server.stop()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# --- callbacks


async def test_callbacks_tell_of_both_ends_of_every_session() -> None:
    made: list[bytes] = []
    ended: list[tuple[bytes, str]] = []

    async def on_made(session: STTSession) -> None:
        made.append(session.session_id)

    async def on_ended(session_id: bytes, reason: str) -> None:
        await anyio.lowlevel.checkpoint()
        ended.append((session_id, reason))

    async with two_nodes() as (client, server):
        for node in (client, server):
            node.on_session_established(on_made)
            node.on_session_closed(on_ended)
            node.on_session_established(lambda session: made.append(session.session_id))
            node.on_session_closed(lambda session_id, reason: ended.append((session_id, reason)))
        here = await client.connect(address_of(server))
        there = await server.accept()
        await here.close()
        await there.wait_closed()
    assert made == [here.session_id] * 4
    assert ended == [(here.session_id, "graceful")] * 4


async def test_callbacks_that_fail_are_logged_and_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*details: object) -> None:
        raise ZeroDivisionError("sync")

    async def fail_later(*details: object) -> None:
        await anyio.lowlevel.checkpoint()
        raise ZeroDivisionError("async")

    async with two_nodes() as (client, server):
        for callback in (fail, fail_later):
            client.on_session_established(callback)
            client.on_session_closed(callback)
        here = await client.connect(address_of(server))
        await here.open_stream().send(b"x", timeout=10)
        await here.close()
    assert caplog.text.count("ZeroDivisionError: sync") == 2
    assert caplog.text.count("ZeroDivisionError: async") == 2


async def test_a_callback_still_running_when_the_node_stops_gets_a_moment_then_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stt_anyio.node.CALLBACK_PATIENCE", 0.05)
    went: list[str] = []

    async def quick(session_id: bytes, reason: str) -> None:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        went.append("finished")

    async def stuck(session_id: bytes, reason: str) -> None:
        try:
            await anyio.Event().wait()
        finally:
            went.append("cancelled")

    before = running_tasks()
    async with two_sessions() as (here, _):
        here.node.on_session_closed(quick)
        here.node.on_session_closed(stuck)
        await here.node.stop()
        assert went == ["finished", "cancelled"]
    assert running_tasks() == before


async def test_a_callback_may_stop_the_node() -> None:
    stopped = anyio.Event()
    async with two_sessions() as (here, there):

        async def stop(session_id: bytes, reason: str) -> None:
            await here.node.stop()
            stopped.set()

        here.node.on_session_closed(stop)
        await there.close()
        await stopped.wait()
