"""The websockets library at one end, a plain WebSocket that knows nothing of STT: a whole session goes through it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

from stt_anyio import STTNode
from stt_backends.websocket.upgrade import SUBPROTOCOL
from stt_core.events import SessionEstablished, StreamOpened, StreamReadable
from tests.interop.raw import PATH, SEED, RawPeer

LIMIT = 20.0

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The library's connections are asyncio's."""
    return "asyncio"


@pytest.fixture
async def server() -> AsyncIterator[STTNode]:
    async with STTNode(
        b"node",
        shared_seed=SEED,
        bind_address="127.0.0.1",
        transport="websocket",
        allowed_origins=["https://good.example"],
    ) as node:
        yield node


def url_of(node: STTNode) -> str:
    return f"ws://127.0.0.1:{node.port}/"


async def receive(connection: ClientConnection | ServerConnection) -> bytes:
    message = await connection.recv()
    assert isinstance(message, bytes)
    return message


async def in_fragments(connection: ClientConnection, data: bytes) -> None:
    await connection.send([data[:7], b"", data[7:]])


async def at_once(connection: ClientConnection, data: bytes) -> None:
    await connection.send(data)


@pytest.mark.parametrize("send", [at_once, in_fragments])
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_as_a_client_it_carries_a_session_to_a_node(
    server: STTNode, send: Callable[[ClientConnection, bytes], Any], compression: str | None
) -> None:
    with anyio.fail_after(LIMIT):
        async with connect(
            url_of(server), subprotocols=[Subprotocol(SUBPROTOCOL)], compression=compression, proxy=None, max_size=None
        ) as connection:
            assert connection.subprotocol == SUBPROTOCOL
            assert connection.protocol.extensions == []
            raw = RawPeer(lambda data: send(connection, data), lambda: receive(connection))
            key = raw.endpoint.connect(PATH.address, now=time.monotonic(), transport="websocket")
            await raw.until(SessionEstablished)
            session = raw.endpoint.session(key)
            stream = session.open_stream(purpose="question")
            session.send_message(stream, b"x" * 200_000)
            await raw.flush()
            accepted = await server.accept()
            answering = await accepted.accept_stream()
            assert await answering.receive() == b"x" * 200_000
            await (await connection.ping(b"still there?"))
            await answering.send(b"an answer")
            await raw.until(StreamReadable)
            assert session.read_message(stream) == b"an answer"


async def test_behind_a_trusted_proxy_the_session_has_its_clients_address() -> None:
    with anyio.fail_after(LIMIT):
        settings: dict[str, Any] = {"transport": "websocket", "trusted_proxies": ["127.0.0.1"]}
        async with (
            STTNode(b"node", shared_seed=SEED, bind_address="127.0.0.1", **settings) as node,
            connect(
                url_of(node), proxy=None, max_size=None, additional_headers={"X-Forwarded-For": "10.0.0.1, 203.0.113.9"}
            ) as connection,
        ):
            raw = RawPeer(connection.send, lambda: receive(connection))
            raw.endpoint.connect(PATH.address, now=time.monotonic(), transport="websocket")
            await raw.until(SessionEstablished)
            await raw.flush()
            session = await node.accept()
            assert isinstance(session.path.address, tuple)
            assert session.path.address[0] == "203.0.113.9"


async def test_as_a_server_it_carries_a_session_from_a_node() -> None:
    async def handle(connection: ServerConnection) -> None:
        raw = RawPeer(connection.send, lambda: receive(connection))
        opened = await raw.until(StreamOpened)
        session = raw.endpoint.session(opened.session_key)
        while (message := session.read_message(opened.stream_id)) is None:
            await raw.until(StreamReadable)
        await connection.ping(b"are you there?")
        session.send_message(opened.stream_id, message[::-1])
        await raw.flush()
        await connection.wait_closed()

    with anyio.fail_after(LIMIT):
        async with (
            serve(handle, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=None) as listening,
            STTNode(b"node", shared_seed=SEED, bind_address="127.0.0.1") as node,
        ):
            port = next(iter(listening.sockets)).getsockname()[1]
            session = await node.connect(f"ws://127.0.0.1:{port}/any/path?really", b"raw")
            stream = session.open_stream()
            await stream.send(b"to and fro")
            assert await stream.receive() == b"orf dna ot"
            await session.close()


async def test_it_is_told_what_is_wrong_with_what_it_asks_or_sends(server: STTNode) -> None:
    with anyio.fail_after(LIMIT):
        wrong: list[tuple[dict[str, Any], int]] = [
            ({"origin": "https://evil.example"}, 403),
            ({"subprotocols": ["chat"]}, 400),
        ]
        for options, status in wrong:
            with pytest.raises(InvalidStatus) as refused:
                await connect(url_of(server), proxy=None, **options)
            assert refused.value.response.status_code == status
        with pytest.raises(InvalidStatus) as missing:
            await connect(url_of(server) + "elsewhere", proxy=None)
        assert missing.value.response.status_code == 404
        async with connect(url_of(server), proxy=None) as connection:
            await connection.send("text")
            with pytest.raises(ConnectionClosedError) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1003, "a text message, expected binary ones")
