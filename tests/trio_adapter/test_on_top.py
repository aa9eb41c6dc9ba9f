"""Someone else's code runs on top unchanged: h11 and trio's own TLS, on real sockets."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from stt_trio import ByteStream
from tests.support import http
from tests.support.tls import HOST, contexts
from tests.trio_adapter.net import on_trio, two_sessions


@asynccontextmanager
async def two_streams() -> AsyncIterator[tuple[ByteStream, ByteStream]]:
    """Both ends of one stream of bytes."""
    async with two_sessions() as (here, there):
        ours = here.open_byte_stream()
        theirs = await there.accept_stream()
        assert isinstance(theirs, ByteStream)
        yield ours, theirs


def receiver(stream: trio.abc.Stream) -> http.Receive:
    async def receive() -> bytes:
        return bytes(await stream.receive_some())

    return receive


@on_trio
async def test_h11_serves_and_asks_over_a_stream() -> None:
    served: list[int] = []

    async def serve(stream: ByteStream) -> None:
        served.append(await http.serve(stream.send_all, receiver(stream)))
        await stream.aclose()

    async with two_streams() as (ours, theirs):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, theirs)
            await http.talk(ours.send_all, receiver(ours))
            await ours.send_eof()
        assert served == [3]
        assert await ours.receive_some() == b""


@on_trio
async def test_tls_and_http_in_it_run_inside_a_stream(tmp_path: Path) -> None:
    server_context, client_context = contexts(tmp_path)

    async def serve(stream: ByteStream) -> None:
        wrapped = trio.SSLStream(stream, server_context, server_side=True)
        await http.serve(wrapped.send_all, receiver(wrapped))
        await wrapped.aclose()

    async with two_streams() as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        async with trio.SSLStream(ours, client_context, server_hostname=HOST) as wrapped:
            await http.talk(wrapped.send_all, receiver(wrapped))


@on_trio
async def test_trios_tls_listener_wraps_ours(tmp_path: Path) -> None:
    server_context, client_context = contexts(tmp_path)

    async def shout(stream: trio.SSLStream[ByteStream]) -> None:
        await stream.send_all((await stream.receive_some()).upper())
        await stream.aclose()

    async with two_sessions() as (here, there), trio.open_nursery() as nursery:
        listener = trio.SSLListener(there.listener(), server_context)  # type: ignore[type-var] # bytes is all we open
        await nursery.start(trio.serve_listeners, shout, [listener])
        async with trio.SSLStream(here.open_byte_stream(), client_context, server_hostname=HOST) as stream:
            await stream.send_all(b"hear me")
            assert await stream.receive_some() == b"HEAR ME"
        nursery.cancel_scope.cancel()


@on_trio
async def test_tls_refuses_a_server_that_nobody_vouches_for(tmp_path: Path) -> None:
    server_context, _ = contexts(tmp_path)
    refused: list[BaseException | None] = []

    async def serve(stream: ByteStream) -> None:
        try:
            await trio.SSLStream(stream, server_context, server_side=True).do_handshake()
        except trio.BrokenResourceError as error:
            refused.append(error.__cause__)

    async with two_streams() as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs)
        wrapped = trio.SSLStream(ours, ssl.create_default_context(), server_hostname=HOST)
        try:
            await wrapped.do_handshake()
        except trio.BrokenResourceError as error:
            refused.append(error.__cause__)
        await ours.aclose()
    assert [cause for cause in refused if isinstance(cause, ssl.SSLCertVerificationError)]
