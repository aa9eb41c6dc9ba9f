"""The native pump's part of WebSocket: many connections, each waited for by tasks of its own."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio

from stt_core.errors import ConnectError, ConnectionRefusedError
from stt_trio import MessageStream, STTSession
from tests.backends.websocket_net import contexts
from tests.trio_adapter.net import LIMIT, make_node


async def echo(session: STTSession) -> None:
    stream = await session.accept_stream()
    while isinstance(stream, MessageStream):
        await stream.send(await stream.receive())
    await trio.sleep_forever()


def test_sessions_over_ws_and_udp_at_one_port_and_a_slow_one_among_them() -> None:
    async def main() -> None:
        with trio.fail_after(LIMIT):
            async with make_node(transport="both") as server, make_node() as client, trio.open_nursery() as nursery:
                nursery.start_soon(server.serve, echo)
                url = f"ws://localhost:{server.port}/"
                stuck = await client.connect(url)
                nursery.start_soon(stuck.open_byte_stream().send_all, bytes(64 << 20))
                for address in (url, ("127.0.0.1", server.port)) * 10:
                    session = await client.connect(address)
                    stream = session.open_stream()
                    await stream.send(b"x" * 300_000)
                    assert await stream.receive() == b"x" * 300_000
                    await session.close()
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_wss_alone_and_refusals(tmp_path: Path) -> None:
    inside, outside = contexts(tmp_path)

    async def main() -> None:
        with trio.fail_after(LIMIT):
            async with make_node(transport="websocket", ssl_context=inside) as server, make_node() as client:
                url = f"wss://localhost:{server.port}/"
                session = await client.connect(url, ssl_context=outside)
                assert (await server.accept()).path.transport == session.path.transport == "websocket"
                with pytest.raises(ConnectError, match="certificate"):
                    await client.connect(url)
            with socket.create_server(("127.0.0.1", 0)) as gone:
                address = f"ws://127.0.0.1:{gone.getsockname()[1]}/"
            async with make_node() as client:
                with pytest.raises(ConnectionRefusedError):
                    await client.connect(address)

    trio.run(main)


def test_a_cancelled_connect_leaves_no_connection_and_no_task() -> None:
    async def main() -> None:
        with trio.fail_after(LIMIT), socket.create_server(("127.0.0.1", 0)) as silent:
            async with make_node() as client:
                with trio.move_on_after(0.001):
                    await client.connect(f"ws://127.0.0.1:{silent.getsockname()[1]}/")
                assert client._driver is not None
                assert client._driver.hub.sources == []

    trio.run(main)
