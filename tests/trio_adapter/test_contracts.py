"""trio's own interfaces, held to trio's own checks, over real sessions."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio
import trio.testing

import stt_anyio
import stt_trio
from stt_core.errors import SendTimeoutError
from stt_trio import ByteStream, MessageStream, STTNode, STTSession
from tests.trio_adapter.net import address_of, on_trio, two_nodes, two_sessions

WINDOW = 16_384
BUFFER = 8192


async def byte_pair(here: STTSession, there: STTSession) -> tuple[ByteStream, ByteStream]:
    ours = here.open_byte_stream()
    await ours.send(b"!")
    theirs = await there.accept_stream()
    assert isinstance(theirs, ByteStream)
    assert await theirs.receive() == b"!"
    return ours, theirs


@on_trio
async def test_byte_streams_are_half_closeable_streams() -> None:
    narrow = {"stream_window": WINDOW, "send_buffer": BUFFER}
    async with two_sessions(narrow, narrow) as (here, there):

        async def make() -> tuple[ByteStream, ByteStream]:
            return await byte_pair(here, there)

        async def make_clogged() -> tuple[ByteStream, ByteStream]:
            ours, theirs = await byte_pair(here, there)
            for stream, window in ((ours, WINDOW - 1), (theirs, WINDOW)):
                await stream.send(bytes(window))
                await stream.wait_acknowledged()  # the peer's window is full
                await stream.send(bytes(BUFFER))  # and so is the buffer
            return ours, theirs

        await trio.testing.check_half_closeable_stream(make, make_clogged)


@on_trio
async def test_messages_and_datagrams_are_channels() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_stream()
        assert isinstance(ours, MessageStream)
        channel: trio.abc.Channel[bytes] = ours
        async with channel:
            await channel.send(b"one")
            await channel.send(b"")
        theirs: trio.abc.Channel[bytes] = await there.accept_stream()  # type: ignore[assignment]
        assert [message async for message in theirs] == [b"one", b""]
        with pytest.raises(trio.ClosedResourceError):
            await channel.send(b"late")
        with pytest.raises(trio.EndOfChannel):
            await theirs.receive()

        datagrams = there.datagrams()
        await here.datagrams().send(b"whole")
        assert await datagrams.receive() == b"whole"
        await here.close()
        with pytest.raises(trio.EndOfChannel):
            await datagrams.receive()
        await datagrams.aclose()
        for late in (datagrams.receive, lambda: datagrams.send(b"x")):
            with pytest.raises(trio.ClosedResourceError):
                await late()


@on_trio
async def test_a_second_task_is_told_that_the_stream_is_busy() -> None:
    async with two_sessions() as (here, there):
        ours = here.open_stream()
        await ours.send(b"x")
        theirs = await there.accept_stream()
        await theirs.receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.receive)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await theirs.receive()
            nursery.cancel_scope.cancel()


@on_trio
async def test_closing_under_a_receive_and_under_an_accept_ends_both() -> None:
    async def receive() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive()

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()

    async with two_sessions() as (here, there):
        ours, listener = here.open_stream(), there.listener()
        await there.accept_stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            nursery.start_soon(accept)
            await trio.testing.wait_all_tasks_blocked()
            await listener.aclose()
            await ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        await here.open_stream().send(b"x")
        assert await (await there.accept_stream()).receive() == b"x"


@on_trio
async def test_listeners_work_with_serve_listeners() -> None:
    async def handle(session: STTSession) -> None:
        await trio.serve_listeners(echo, [session.listener()])

    async def echo(stream: MessageStream | ByteStream) -> None:
        async for item in stream:
            await stream.send(item)

    async with two_nodes() as (client, server), trio.open_nursery() as nursery:
        listener = server.listener()
        assert await nursery.start(trio.serve_listeners, handle, [listener]) == [listener]
        session = await client.connect(address_of(server))
        for stream in (session.open_stream(), session.open_byte_stream()):
            await stream.send(b"back")
            assert await stream.receive() == b"back"
        nursery.cancel_scope.cancel()


@on_trio
async def test_serve_starts_in_a_nursery() -> None:
    async def handle(session: STTSession) -> None:
        stream = await session.accept_stream()
        await stream.send(await stream.receive())
        await session.wait_closed()

    async with two_nodes() as (client, server), trio.open_nursery() as nursery:
        await nursery.start(server.serve, handle)
        session = await client.connect(address_of(server))
        stream = session.open_stream()
        await stream.send(b"back")
        assert await stream.receive() == b"back"
        await session.close()
        await server.stop()


@on_trio
async def test_a_send_times_out_as_a_builtin_does() -> None:
    async with two_sessions({"send_buffer": BUFFER}, {"stream_window": WINDOW}) as (here, _):
        with pytest.raises(TimeoutError) as caught:
            await here.open_byte_stream().send(bytes(2 * WINDOW + BUFFER), timeout=0.01)
        assert isinstance(caught.value, SendTimeoutError)


@on_trio
async def test_awaiting_start_gives_the_node() -> None:
    node = STTNode(shared_seed=b"the seed of a lonely node", bind_address="127.0.0.1")
    assert await node.start() is node
    await node.stop()


def test_an_error_is_of_both_families() -> None:
    assert issubclass(stt_trio.SessionClosedError, trio.BrokenResourceError | ConnectionError)
    assert issubclass(stt_trio.StreamClosedError, trio.ClosedResourceError)
    assert issubclass(stt_trio.StreamResetError, trio.BrokenResourceError)


def test_both_adapters_have_the_same_names() -> None:
    own = {"DatagramChannel"}
    theirs = {"DatagramStream", "STTAttribute", "StreamConnectable", "MessageConnectable"}
    assert set(stt_trio.__all__) - own == set(stt_anyio.__all__) - theirs


def test_it_works_where_anyio_cannot_be_imported() -> None:
    program = """
        import sys

        class NoAnyio:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "anyio":
                    raise ImportError("anyio is not to be had here")

        sys.meta_path.insert(0, NoAnyio())
        import trio
        from stt_trio import STTNode

        async def main():
            settings = {"shared_seed": b"a seed for a world without anyio", "bind_address": "127.0.0.1"}
            with trio.fail_after(20):
                async with STTNode(**settings) as server, STTNode(**settings) as client:
                    session = await client.connect(("127.0.0.1", server.port))
                    await session.open_stream().send(b"hello")
                    stream = await (await server.accept()).accept_stream()
                    return await stream.receive()

        assert trio.run(main) == b"hello"
        assert "stt_trio.node" in sys.modules
        assert not [name for name in sys.modules if name.partition(".")[0] in ("anyio", "stt_anyio")]
    """
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
