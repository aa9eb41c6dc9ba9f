"""Nodes over WebSocket: on every event loop the same sessions, streams, errors and ends as over UDP."""

from __future__ import annotations

import gc
import hashlib
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from stt_anyio import STTNode
from stt_anyio.pump import AnyioPump, pump_for
from stt_backends.udp import UdpSocket
from stt_core.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    SessionClosedError,
)
from tests.anyio_adapter.net import LIMIT, SEED, TICK, address_of, make_node
from tests.backends.websocket_net import contexts

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[pump_for, AnyioPump], ids=["native", "anyio"], autouse=True)
def pump(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Each test runs on both kinds of pump that its event loop has."""
    kind: Callable[..., Any] = request.param
    monkeypatch.setattr("stt_anyio.node.pump_for", kind)
    return kind


def make_server(**settings: Any) -> STTNode:
    return make_node(**{"transport": "websocket", **settings})


def url_of(node: STTNode, path: str = "/") -> str:
    return f"ws://127.0.0.1:{node.port}{path}"


async def exchange(client: STTNode, server: STTNode, address: Any, **arguments: Any) -> str:
    """A message there and a larger one back; returns the transport it went by."""
    session = await client.connect(address, **arguments)
    accepted = await server.accept()
    stream = session.open_stream(purpose="question")
    await stream.send(b"how large?")
    answering = await accepted.accept_stream()
    assert await answering.receive() == b"how large?"
    await answering.send(b"x" * 300_000)
    assert len(await stream.receive()) == 300_000
    assert session.path.transport == accepted.path.transport
    await session.close()
    return session.path.transport


async def test_a_session_over_websocket() -> None:
    with anyio.fail_after(LIMIT):
        async with make_server(node_id=b"server") as server, make_node() as client:
            assert await exchange(client, server, url_of(server), peer_node_id=b"server") == "websocket"
            assert await exchange(client, server, f"ws://localhost:{server.port}/") == "websocket"


async def test_one_port_number_serves_both_transports() -> None:
    with anyio.fail_after(LIMIT):
        async with make_server(transport="both") as server, make_node() as client:
            assert await exchange(client, server, url_of(server)) == "websocket"
            assert await exchange(client, server, address_of(server)) == "udp"


async def test_a_port_that_was_asked_for_and_is_taken_by_tcp_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for transport in ("websocket", "both"):
            with pytest.raises(OSError, match=f"TCP port {port}"):
                make_server(transport=transport, port=port).start()


async def test_any_port_tries_others_where_tcp_has_it_and_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(LIMIT), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = [port, port, 0]
        monkeypatch.setattr("stt_backends.adapter.building._bind_udp", _udp_at(ports))
        async with make_server(transport="both") as server:
            assert server.port != port
        assert ports == []
        ports += [port] * 20
        with pytest.raises(OSError, match="free for both"):
            make_server(transport="both").start()
        assert len(ports) == 4


def _udp_at(ports: list[int]) -> Callable[..., Any]:
    return lambda settings: UdpSocket(settings.bind_address, ports.pop(0))


async def test_ipv6() -> None:
    with anyio.fail_after(LIMIT):
        async with make_server(bind_address="::1") as server, make_node() as client:
            assert await exchange(client, server, f"ws://[::1]:{server.port}/") == "websocket"


async def test_wss_with_a_context_on_each_side(tmp_path: Path) -> None:
    inside, outside = contexts(tmp_path)
    with anyio.fail_after(LIMIT):
        async with make_server(ssl_context=inside) as server, make_node() as client:
            url = f"wss://localhost:{server.port}/"
            assert await exchange(client, server, url, ssl_context=outside) == "websocket"
            with pytest.raises(ConnectError, match="certificate"):
                await client.connect(url)


async def test_a_file_crosses_whole_in_both_directions_at_once() -> None:
    data = hashlib.shake_256(b"a file").digest(8 << 20)
    with anyio.fail_after(LIMIT):
        async with make_server() as server, make_node() as client, anyio.create_task_group() as tasks:
            here = await client.connect(url_of(server))
            there = await server.accept()
            outward = here.open_byte_stream()
            await outward.send(b"!")
            inward = await there.accept_stream()
            assert await inward.receive() == b"!"
            got: dict[Any, bytearray] = {}

            async def send(stream: Any) -> None:
                await stream.send(data)
                await stream.send_eof()

            async def receive(stream: Any) -> None:
                got[stream] = bytearray()
                async for part in stream:
                    got[stream] += part

            for stream in (outward, inward):
                tasks.start_soon(send, stream)
                tasks.start_soon(receive, stream)
        assert [bytes(part) == data for part in got.values()] == [True, True]


async def test_many_sessions_at_once_and_one_that_reads_nothing_holds_up_nobody() -> None:
    count = 100
    with anyio.fail_after(LIMIT):
        async with make_server() as server, make_node() as client, anyio.create_task_group() as tasks:

            async def echo(session: Any) -> None:
                stream = await session.accept_stream()
                if stream.purpose == "flood":
                    await anyio.sleep_forever()
                await stream.send(await stream.receive())

            tasks.start_soon(server.serve, echo)
            stuck = await client.connect(url_of(server))
            tasks.start_soon(stuck.open_byte_stream(purpose="flood").send, bytes(64 << 20))
            answers = []

            async def ask(number: int) -> None:
                session = await client.connect(url_of(server))
                stream = session.open_stream()
                await stream.send(b"%d" % number)
                answers.append(int(await stream.receive()))
                await session.close()

            async with anyio.create_task_group() as asking:
                for number in range(count):
                    asking.start_soon(ask, number)
            assert sorted(answers) == list(range(count))
            tasks.cancel_scope.cancel()


async def test_a_connection_that_breaks_ends_the_session_by_its_timeout_and_stopping_does_not_hang() -> None:
    settings = {"keep_alive_interval": 0.05, "keep_alive_timeout": 0.2}
    with anyio.fail_after(LIMIT):
        async with make_server(**settings) as server, make_node(**settings) as client:
            session = await client.connect(url_of(server))
            accepted = await server.accept()
            driver = client._driver
            assert driver is not None
            session.detour(driver).targets = []  # else it would open another
            for link in driver.hub.sources:  # none where this process was kept from running, and the time is up
                link.abort("the network is gone")  # type: ignore[attr-defined]
                driver.hub._after(link, driver.clock())  # type: ignore[arg-type]
            for end in (session, accepted):
                with pytest.raises(SessionClosedError):
                    await end.accept_stream()


# --- refusals


async def test_refusals_are_connection_errors_that_say_what_was_wrong() -> None:
    with anyio.fail_after(LIMIT):
        async with make_server(websocket_path="/stt") as server, make_node() as client:
            with pytest.raises(ConnectError, match="404"):
                await client.connect(url_of(server))
            assert await exchange(client, server, url_of(server, "/stt")) == "websocket"
            with socket.create_server(("127.0.0.1", 0)) as other:
                gone = f"ws://127.0.0.1:{other.getsockname()[1]}/"
                with pytest.raises(ConnectionTimeoutError, match="upgrade did not come in time"):
                    await client.connect(gone, timeout=0.05)
            with pytest.raises(ConnectionRefusedError, match="nothing listens at"):
                await client.connect(gone)
            with pytest.raises(ConnectionRefusedError, match="the proxy"):
                await client.connect(url_of(server), proxy=gone.replace("ws:", "http:").rstrip("/"))
            with pytest.raises(ConnectError, match="resolve"):
                await client.connect("ws://nowhere.invalid/")


async def test_a_wrong_seed_is_an_authentication_error() -> None:
    with anyio.fail_after(LIMIT):
        async with make_server() as server, make_node(shared_seed=b"another seed, not theirs") as client:
            with pytest.raises(AuthenticationError):
                await client.connect(url_of(server))


async def test_a_connect_that_is_cancelled_leaves_no_connection() -> None:
    with anyio.fail_after(LIMIT), socket.create_server(("127.0.0.1", 0)) as silent:
        async with make_node() as client:
            with anyio.move_on_after(TICK):
                await client.connect(f"ws://127.0.0.1:{silent.getsockname()[1]}/")
            assert client._driver is not None
            assert client._driver.hub.sources == []


async def test_a_connect_under_way_ends_with_the_node() -> None:
    with anyio.fail_after(LIMIT), socket.create_server(("127.0.0.1", 0)) as silent:
        async with make_node() as client, anyio.create_task_group() as tasks:
            failures = []

            async def connect() -> None:
                try:
                    await client.connect(f"ws://127.0.0.1:{silent.getsockname()[1]}/")
                except SessionClosedError as error:
                    failures.append(error)

            tasks.start_soon(connect)
            await anyio.wait_all_tasks_blocked()
            await client.stop()
        assert len(failures) == 1


@pytest.mark.parametrize(
    ("address", "arguments"),
    [
        ("http://127.0.0.1/", {}),
        ("ws://", {}),
        ("127.0.0.1", {}),
        ("ws://127.0.0.1/", {"proxy": "socks5://127.0.0.1"}),
        ("ws://127.0.0.1/", {"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}),
        (("127.0.0.1", 1), {"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}),
        ("ws://127.0.0.1/", {"timeout": float("nan")}),
    ],
)
async def test_a_wrong_address_raises_before_anything_is_sent(address: Any, arguments: dict[str, Any]) -> None:
    async with make_node() as client:
        with pytest.raises(ConfigurationError):
            await client.connect(address, **arguments)


async def test_a_node_without_udp_says_what_address_it_can_reach() -> None:
    async with make_server() as node:
        with pytest.raises(ConfigurationError, match=r"ws://127\.0\.0\.1:4433/"):
            await node.connect(("127.0.0.1", 4433))


@pytest.mark.parametrize(
    "settings",
    [
        {"transport": "carrier pigeon"},
        {"transport": "udp", "ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)},
        {"websocket_path": "stt"},
        {"websocket_path": "/a b"},
        {"allowed_origins": "https://example.org"},
        {"proxy": "https://user:secret@proxy/path"},
        {"trusted_proxies": ["proxy.example"]},
    ],
)
async def test_a_wrong_setting_is_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        make_server(**settings)
    assert "secret" not in str(raised.value)


async def test_tls_with_an_https_proxy_is_by_the_context_for_it_or_by_the_systems_authorities() -> None:
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for settings, expected in (({"proxy_ssl_context": own}, own), ({}, None)):
        async with make_node(proxy="https://proxy.example", **settings) as node:
            destination = node.destination("ws://node.example", None, None)
            assert (destination.host, destination.port) == ("proxy.example", 443)
            assert destination.proxy_tls is not None
            assert destination.proxy_tls.verify_mode is ssl.CERT_REQUIRED
            assert expected is None or destination.proxy_tls is expected


async def test_a_proxys_password_is_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with STTNode(shared_seed=SEED, bind_address="127.0.0.1", proxy="http://user:hush-hush@127.0.0.1:1") as node:
        with pytest.raises(ConnectError) as raised:
            await node.connect("ws://127.0.0.1:2/")
        shown = f"{node!r} {node._settings!r} {raised.value!r} {caplog.text}"
    assert "hush-hush" not in shown


async def test_nothing_is_left_open() -> None:
    with anyio.fail_after(LIMIT):
        for _ in range(3):
            async with make_server(transport="both") as server, make_node() as client:
                await client.connect(url_of(server))
                await server.accept()
    gc.collect()  # a socket left open would warn, and warnings are errors
