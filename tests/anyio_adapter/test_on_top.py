"""Someone else's code runs on top unchanged: h11, TLS, and anyio's own wrappers, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream as AnyByteStream
from anyio.abc import SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream, BufferedByteStream
from anyio.streams.text import TextStream
from anyio.streams.tls import TLSAttribute, TLSConnectable, TLSListener, TLSStream

from stt_anyio import ByteStream, STTAttribute
from tests.anyio_adapter.net import two_sessions
from tests.support import http
from tests.support.tls import HOST, contexts

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def two_streams() -> AsyncIterator[tuple[ByteStream, ByteStream]]:
    """Both ends of one stream of bytes."""
    async with two_sessions() as (here, there):
        ours = here.open_byte_stream()
        theirs = await there.accept_stream()
        assert isinstance(theirs, ByteStream)
        yield ours, theirs


def receiver(stream: AnyByteStream) -> http.Receive:
    """``stream.receive``, with ``b""`` at the end."""

    async def receive() -> bytes:
        try:
            return await stream.receive()
        except anyio.EndOfStream:
            return b""

    return receive


async def test_h11_serves_and_asks_over_a_stream() -> None:
    served: list[int] = []

    async def serve(stream: ByteStream) -> None:
        served.append(await http.serve(stream.send, receiver(stream)))
        await stream.aclose()

    async with two_streams() as (ours, theirs):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, theirs)
            await http.talk(ours.send, receiver(ours))
            await ours.send_eof()
        assert served == [3]
        assert await receiver(ours)() == b""


async def test_tls_and_http_in_it_run_inside_a_stream(tmp_path: Path) -> None:
    server_context, client_context = contexts(tmp_path)

    async def serve(stream: ByteStream) -> None:
        wrapped = await TLSStream.wrap(stream, ssl_context=server_context, server_side=True)
        await http.serve(wrapped.send, receiver(wrapped))
        await wrapped.aclose()

    async with two_streams() as (ours, theirs), anyio.create_task_group() as tasks:
        tasks.start_soon(serve, theirs)
        async with await TLSStream.wrap(ours, hostname=HOST, ssl_context=client_context) as wrapped:
            await http.talk(wrapped.send, receiver(wrapped))
            assert wrapped.extra(TLSAttribute.server_side) is False
            assert wrapped.extra(STTAttribute.stream_id) == ours.stream_id
            assert wrapped.extra(SocketAttribute.remote_port) == theirs.extra(SocketAttribute.local_port)


async def test_anyios_tls_listener_and_connectable_wrap_ours(tmp_path: Path) -> None:
    server_context, client_context = contexts(tmp_path)

    async def shout(stream: TLSStream) -> None:
        async with stream:
            await stream.send((await stream.receive()).upper())

    async with two_sessions() as (here, there), anyio.create_task_group() as tasks:
        listener = TLSListener(there.listener(), server_context)
        tasks.start_soon(listener.serve, shout)
        connectable = TLSConnectable(here.connectable(), hostname=HOST, ssl_context=client_context)
        async with await connectable.connect() as stream:
            await stream.send(b"hear me")
            assert await stream.receive() == b"HEAR ME"
        tasks.cancel_scope.cancel()


async def test_anyios_buffered_streams_find_what_they_look_for() -> None:
    async with two_streams() as (ours, theirs):
        buffered = BufferedByteStream(ours)
        await buffered.send(b"a line\nand")
        await buffered.send(b" a rest")
        await buffered.send_eof()
        reader = BufferedByteReceiveStream(theirs)
        assert await reader.receive_until(b"\n", 100) == b"a line"
        assert await reader.receive_exactly(3) == b"and"
        assert await reader.receive(100) == b" a rest"
        with pytest.raises(anyio.IncompleteRead):
            await reader.receive_exactly(1)
        await theirs.send(b"back")
        assert await buffered.receive_exactly(4) == b"back"


@pytest.mark.parametrize("mode", ["messages", "bytes"])
async def test_anyios_text_stream_carries_text_over_both_kinds(mode: str) -> None:
    text = "grüße, мир, 世界 " * 1000
    async with two_sessions() as (here, there):
        ours = TextStream(here.open_byte_stream() if mode == "bytes" else here.open_stream())
        await ours.send(text)
        await ours.send_eof()
        theirs = TextStream(await there.accept_stream())
        received = ""
        async for part in theirs:
            received += part
        assert received == text
        assert theirs.extra(STTAttribute.session_id) == here.session_id
