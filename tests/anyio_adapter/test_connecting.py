from __future__ import annotations

import builtins
import logging
import socket
from collections.abc import Iterator

import anyio
import pytest

from stt_anyio import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    PeerBusyError,
    SessionClosedError,
    StateError,
    STTNode,
    STTSession,
)
from stt_core.handshake.identity import node_id_of
from tests.anyio_adapter.net import LIMIT, SEED, Cable, address_of, make_node, two_nodes

pytestmark = pytest.mark.anyio


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """Where somebody listens and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()


@pytest.fixture
def dead() -> tuple[str, int]:
    """Where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address: tuple[str, int] = sock.getsockname()
    return address


async def test_both_sides_know_each_other() -> None:
    async with two_nodes({"node_id": b"Alice"}, {"node_id": b"Bob"}) as (client, server):
        here = await client.connect(address_of(server), peer_node_id=b"Bob")
        there = await server.accept()
        assert (here.peer_node_id, there.peer_node_id) == (b"Bob", b"Alice")
        assert here.session_id == there.session_id
        assert len(here.session_id) == 8
        assert here.path.address == address_of(server)
        assert client.get_active_sessions() == [here]
        assert server.get_active_sessions() == [there]


async def test_a_host_may_be_a_name() -> None:
    async with two_nodes() as (client, server):
        assert (await client.connect(("localhost", server.port))).alive


async def test_a_name_that_does_not_resolve_is_a_connect_error() -> None:
    async with two_nodes() as (client, _):
        with pytest.raises(ConnectError, match=r"nowhere\.invalid"):
            await client.connect(("nowhere.invalid", 1))


async def test_ipv6() -> None:
    async with two_nodes({"bind_address": "::1"}, {"bind_address": "::1"}) as (client, server):
        session = await client.connect(("::1", server.port))
        stream = session.open_stream()
        await stream.send(b"x")
        assert await (await (await server.accept()).accept_stream()).receive() == b"x"


async def test_a_family_the_socket_cannot_reach_is_a_setting_to_mend() -> None:
    async with two_nodes() as (client, _):
        with pytest.raises(ConfigurationError, match="IPv6"):
            await client.connect(("::1", 1))


async def test_a_dead_port_refuses_at_once(dead: tuple[str, int]) -> None:
    async with two_nodes() as (client, _):
        with anyio.fail_after(5), pytest.raises(ConnectionRefusedError) as caught:
            await client.connect(dead)
        assert isinstance(caught.value, builtins.ConnectionRefusedError)


async def test_a_silent_port_is_a_timeout(silent: tuple[str, int]) -> None:
    async with two_nodes() as (client, _):
        with pytest.raises(ConnectionTimeoutError) as caught:
            await client.connect(silent, timeout=0.05)
        assert not caught.value.challenged
        assert isinstance(caught.value, TimeoutError)


async def test_a_peer_that_falls_silent_after_its_challenge_is_told_apart() -> None:
    async with two_nodes() as (client, server):
        cable = Cable(server)
        cable.answers = 1
        with pytest.raises(ConnectionTimeoutError) as caught:
            await client.connect(address_of(server), timeout=0.3)
        assert caught.value.challenged


async def test_a_wrong_seed_is_told_to_both_sides(caplog: pytest.LogCaptureFixture) -> None:
    refused = anyio.Event()
    seen: list[tuple[bytes, str]] = []
    async with two_nodes(client={"shared_seed": b"another seed altogether"}) as (client, server):

        async def on_closed(session_id: bytes, reason: str) -> None:
            seen.append((session_id, reason))
            refused.set()

        server.on_session_closed(on_closed)
        with caplog.at_level(logging.WARNING), pytest.raises(AuthenticationError):
            await client.connect(address_of(server))
        await refused.wait()
        assert seen == [(b"", "auth_failure")]
        assert server.get_active_sessions() == []
        assert client.get_active_sessions() == []
    assert "refused a peer at" in caplog.text


async def test_another_name_than_the_one_asked_for_is_a_failed_authentication() -> None:
    async with two_nodes(server={"node_id": b"Mallory"}) as (client, server):
        with pytest.raises(AuthenticationError):
            await client.connect(address_of(server), peer_node_id=b"Bob")


async def test_a_node_shows_an_identity_where_it_has_a_seed_for_one_or_a_name_to_prove() -> None:
    async with two_nodes(client={"node_id": b"Alice"}, server={"node_id": None}) as (client, server):
        session = await client.connect(address_of(server))
        assert session.peer_identity_key is not None
        assert session.peer_node_id == node_id_of(session.peer_identity_key)
        assert (await server.accept()).peer_identity_key is None


async def test_an_identity_is_proven_by_its_key() -> None:
    async with two_nodes(server={"node_seed": b"0123456789abcdef"}) as (client, server):
        session = await client.connect(address_of(server))
        key = session.peer_identity_key
        assert key is not None
        assert (await client.connect(address_of(server), peer_key=key)).peer_identity_key == key
        with pytest.raises(AuthenticationError):
            await client.connect(address_of(server), peer_key=bytes(32))


async def test_a_full_node_says_that_it_is_busy() -> None:
    async with two_nodes(server={"max_sessions": 1}) as (client, server):
        first = await client.connect(address_of(server))
        await server.accept()
        with pytest.raises(PeerBusyError):
            await client.connect(address_of(server))
        assert first.alive


async def test_a_node_that_is_full_itself_says_so() -> None:
    async with two_nodes({"max_sessions": 1}) as (client, server):
        await client.connect(address_of(server))
        with pytest.raises(StateError, match="max_sessions"):
            await client.connect(address_of(server))


async def test_a_cancelled_connect_leaves_nothing_behind(silent: tuple[str, int]) -> None:
    async with two_nodes() as (client, server):
        with anyio.move_on_after(0.05) as scope:
            await client.connect(silent)
        assert scope.cancelled_caught
        assert client.get_active_sessions() == []
        assert (await client.connect(address_of(server))).alive


async def test_a_connect_cancelled_as_it_succeeds_closes_the_session() -> None:
    async with two_nodes() as (client, server):
        with anyio.CancelScope() as scope:
            client.on_session_established(lambda session: scope.cancel())
            async with await client.connect(address_of(server)):
                await anyio.Event().wait()
        assert scope.cancelled_caught
        await (await server.accept()).wait_closed()


async def test_a_session_closed_before_connect_returns_is_returned_closed() -> None:
    async with two_nodes() as (client, server):

        def close(session: STTSession) -> None:
            session.core.close()

        client.on_session_established(close)
        session = await client.connect(address_of(server))
        with pytest.raises(SessionClosedError):
            session.open_stream()
        await session.wait_closed()


async def test_stopping_ends_a_connect_under_way(silent: tuple[str, int]) -> None:
    async with two_nodes() as (client, _):

        async def connect() -> None:
            with pytest.raises(SessionClosedError, match="stopped"):
                await client.connect(silent)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect)
            await anyio.wait_all_tasks_blocked()
            await client.stop()
        with pytest.raises(StateError, match="stopped"):
            await client.connect(silent)


async def test_connecting_before_the_start_is_an_error() -> None:
    with pytest.raises(StateError, match="isn't started"):
        await make_node().connect(("127.0.0.1", 1))


async def test_a_node_that_meets_itself_hears_no_answer() -> None:
    with anyio.fail_after(LIMIT):
        async with make_node() as node:
            with pytest.raises(ConnectionTimeoutError):
                await node.connect(address_of(node), timeout=0.05)


async def test_two_hundred_sessions_at_once_and_each_gets_its_own_answers() -> None:
    answers: dict[int, bytes] = {}

    async def echo(session: STTSession) -> None:
        stream = await session.accept_stream()
        async for message in stream:
            await stream.send(message)

    async def ask(client: STTNode, server: STTNode, number: int) -> None:
        async with await client.connect(address_of(server)) as session:
            stream = session.open_stream()
            await stream.send(b"%d" % number)
            answers[number] = await stream.receive()

    async with two_nodes() as (client, server), anyio.create_task_group() as serving:
        serving.start_soon(server.serve, echo)
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(ask, client, server, number)
        assert answers == {number: b"%d" % number for number in range(200)}
        serving.cancel_scope.cancel()


async def test_the_seed_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STT_SHARED_SEED", SEED.decode())
    async with two_nodes({"shared_seed": None}) as (client, server):
        assert (await client.connect(address_of(server))).alive


async def test_without_a_seed_both_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STT_SHARED_SEED", raising=False)
    monkeypatch.delenv("STT_SEED_FILE", raising=False)
    with pytest.raises(ConfigurationError, match=r"STT_SHARED_SEED.*STT_SEED_FILE"):
        make_node(shared_seed=None).start()


async def test_a_node_that_was_refused_hears_what_comes_next_at_once() -> None:
    """uvloop stops watching a socket that had an error to report: refusals after the first came 0.4 s late."""
    async with two_nodes() as (calling, listening):
        port = listening.port
        await listening.stop()
        began = anyio.current_time()
        for _ in range(5):
            with pytest.raises(ConnectionRefusedError):
                await calling.connect(("127.0.0.1", port))
        assert anyio.current_time() - began < 0.4, "less than one repetition of a HELLO takes"
