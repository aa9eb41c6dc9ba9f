"""A browser at one end: a page in Chromium opens a WebSocket to a node, and a whole session goes through it.

The page knows nothing of STT: it puts into the WebSocket what the test gives it over HTTP, and gives back what comes.
"""

from __future__ import annotations

import queue
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import anyio
import anyio.to_thread
import pytest

from stt_anyio import STTNode
from stt_core.events import SessionEstablished, StreamReadable
from tests.interop.raw import PATH, SEED, RawPeer

LIMIT = 60.0
"""Seconds, a cold start of the browser included."""
END = b""
"""What ends the page's part."""
PAGE = """<!doctype html><script>
const give = (data) => fetch("/received", {method: "POST", body: data});
const socket = new WebSocket("ws://127.0.0.1:%d/stt", "stt1");
socket.binaryType = "arraybuffer";
socket.onmessage = (event) => give(event.data);
socket.onclose = (event) => give("closed " + event.code);
socket.onopen = async () => {
  for (;;) {
    const data = await (await fetch("/next")).arrayBuffer();
    if (!data.byteLength) return socket.close();
    socket.send(data);
  }
};
</script>"""

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """One event loop: the browser is the subject."""
    return "asyncio"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's command; where there is none, its tests are skipped, and say so."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium here: as root, `make test` installs Debian's, or `apt-get install chromium`")
    return found


class Relay(ThreadingHTTPServer):
    """Serves the page, and carries datagrams between it and the test."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        self.page = b""
        self.outgoing: queue.Queue[bytes] = queue.Queue()
        self.incoming: queue.Queue[bytes] = queue.Queue()

    async def send(self, data: bytes) -> None:
        self.outgoing.put(data)

    async def receive(self) -> bytes:
        return await anyio.to_thread.run_sync(partial(self.incoming.get, timeout=LIMIT))


class Handler(BaseHTTPRequestHandler):
    server: Relay

    def do_GET(self) -> None:
        if self.path == "/next":
            self._answer(self.server.outgoing.get(timeout=LIMIT))
        else:
            self._answer(self.server.page, "text/html")

    def do_POST(self) -> None:
        self.server.incoming.put(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"")

    def _answer(self, body: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def browsing(command: str, relay: Relay, profile: Path) -> Iterator[None]:
    """Chromium with the relay's page, until the end of the block."""
    serving = Thread(target=relay.serve_forever)
    serving.start()
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    browser = subprocess.Popen(
        [command, *options, f"--user-data-dir={profile}", f"http://127.0.0.1:{relay.port}/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        relay.outgoing.put(END)
        browser.terminate()
        browser.wait(LIMIT)
        relay.shutdown()
        serving.join()
        relay.server_close()


async def test_a_page_carries_a_session(chromium: str, tmp_path: Path) -> None:
    relay = Relay()
    with anyio.fail_after(LIMIT):
        async with STTNode(
            b"node",
            shared_seed=SEED,
            bind_address="127.0.0.1",
            transport="websocket",
            websocket_path="/stt",
            allowed_origins=[f"http://127.0.0.1:{relay.port}"],
        ) as node:
            relay.page = PAGE.encode() % node.port
            raw = RawPeer(relay.send, relay.receive)
            key = raw.endpoint.connect(PATH.address, now=time.monotonic(), transport="websocket", timeout=LIMIT)
            with browsing(chromium, relay, tmp_path):
                await raw.until(SessionEstablished)
                session = raw.endpoint.session(key)
                stream = session.open_stream(purpose="from a page")
                session.send_message(stream, b"x" * 100_000)
                await raw.flush()
                answering = await (await node.accept()).accept_stream()
                assert await answering.receive() == b"x" * 100_000
                await answering.send(b"an answer")
                await raw.until(StreamReadable)
                assert session.read_message(stream) == b"an answer"


async def test_a_page_of_another_origin_is_refused(chromium: str, tmp_path: Path) -> None:
    relay = Relay()
    with anyio.fail_after(LIMIT):
        async with STTNode(
            shared_seed=SEED,
            bind_address="127.0.0.1",
            transport="websocket",
            websocket_path="/stt",
            allowed_origins=["https://good.example"],
        ) as node:
            relay.page = PAGE.encode() % node.port
            with browsing(chromium, relay, tmp_path):
                assert await relay.receive() == b"closed 1006"
