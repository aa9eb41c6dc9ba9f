"""A client process that is stopped for longer than the keep-alive timeout, and goes on where it was."""

from __future__ import annotations

import os
import signal
import sys

import anyio
import pytest
from anyio.streams.text import TextReceiveStream

from stt_core.state import SessionState
from tests.anyio_adapter.net import LIMIT, SEED, make_node
from tests.anyio_adapter.test_resuming import SETTINGS, until

pytestmark = pytest.mark.anyio

CLIENT = """
import sys
from LIBRARY import STTNode
from EVENT_LOOP import run

async def main():
    address = ("127.0.0.1", int(sys.argv[1]))
    async with STTNode(shared_seed=sys.argv[2].encode(), bind_address="127.0.0.1", resumable=True,
                       keep_alive_interval=0.1, keep_alive_timeout=0.3) as node:
        async def again(session):
            resumed = await node.resume(session.resumption_token, address)
            print("resumed", resumed.resumed, resumed is session, flush=True)
        node.on_session_detached(again)
        session = await node.connect(address)
        stream = session.open_stream(stream_id=1)
        await stream.send(b"hello")
        while True:
            print("got", (await stream.receive()).decode(), flush=True)

run(main)
"""
LIBRARIES = {"stt_anyio": "anyio", "stt_trio": "trio"}


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_stopped_client_goes_on_with_its_streams(library: str) -> None:
    program = CLIENT.replace("LIBRARY", library).replace("EVENT_LOOP", LIBRARIES[library])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with anyio.fail_after(LIMIT):
        async with make_node(**SETTINGS) as server:
            command = [sys.executable, "-c", program, str(server.port), SEED.decode()]
            async with await anyio.open_process(command, env=environment, stderr=None) as client:
                assert client.stdout is not None
                said = TextReceiveStream(client.stdout)
                text = ""
                try:
                    session = await server.accept()
                    stream = await session.accept_stream()
                    assert await stream.receive() == b"hello"
                    await stream.send(b"one")
                    while "got one\n" not in text:
                        text += await said.receive()
                    client.send_signal(signal.SIGSTOP)
                    await until(session, SessionState.DETACHED)
                    client.send_signal(signal.SIGCONT)
                    await stream.send(b"two")
                    while "got two\n" not in text or "resumed" not in text:
                        text += await said.receive()
                finally:
                    client.kill()
    assert "resumed full True" in text
