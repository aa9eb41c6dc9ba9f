"""Ten processes, one file: a publisher that is throttled, and nine that fetch from it and from each other.

``STT_TEST_SWARM_MIB`` is how large the file is, 20 where it isn't set; docs/content.md tells what 100 came to.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from tests.cli.command import PATIENCE, environment, outcome, running
from tests.cli.test_content import publishing

MIB = 1 << 20
SIZE = int(os.environ.get("STT_TEST_SWARM_MIB", "20")) * MIB
LIMIT = 4 * MIB
"""Bytes a second that the publisher sends."""
HONEST = 8
KILLED = 2

LIAR = """
import sys
import anyio
from stt_anyio import ContentDistribution, KademliaDHT, STTNode
from stt_backends.content_store import ContentStore
from stt_core.content.tree import PIECE

class Lying(ContentStore):
    "Tells the truth about pieces, of which the hashes are made, and lies about the blocks that others ask for."

    def read(self, content_id, offset, length):
        data = super().read(content_id, offset, length)
        return data if length == PIECE else data[:-1] + bytes((data[-1] ^ 1,))

async def main():
    content_id, port = bytes.fromhex(sys.argv[1]), int(sys.argv[2])
    friends = [("127.0.0.1", port)]
    async with (
        STTNode(bind_address="127.0.0.1") as node,
        KademliaDHT(node.endpoint.config.node_id, node=node, private=False, bootstrap=friends) as dht,
        ContentDistribution(dht, node=node, store=Lying(sys.argv[3])) as content,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(node.serve, content.serve)
        await content.fetch(content_id).wait_complete()
        print(node.port, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()

anyio.run(main)
"""


class Fetcher:
    """``stt fetch`` that can be killed and begun again."""

    def __init__(self, number: int, directory: Path, told: dict[str, Any]) -> None:
        self.target = directory / f"out{number}"
        self._arguments = (
            "fetch", told["content_id"], "-o", str(self.target), "--bind", "127.0.0.1",
            "--bootstrap", f"127.0.0.1:{told['port']}", "--json", "--debug",
        )  # fmt: skip
        self._stack = ExitStack()
        self.stored_one = threading.Event()
        self.begin()

    def begin(self) -> None:
        self.process = self._stack.enter_context(running(*self._arguments))
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, args=(self.process,))
        self._reader.start()

    def _read(self, process: Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._lines.append(line)
            if " is stored" in line:
                self.stored_one.set()

    def kill(self) -> None:
        """As a power cut does, once some of it is there."""
        assert self.stored_one.wait(PATIENCE)
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join()

    def finish(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        record: dict[str, Any] = json.loads(self.process.stdout.read())
        assert self.process.wait(PATIENCE) == 0, "".join(self._lines[-20:])
        self._reader.join()
        return record

    def close(self) -> None:
        self._stack.close()
        self._reader.join()


@contextmanager
def lying(directory: Path, told: dict[str, Any]) -> Iterator[Popen[str]]:
    arguments = [told["content_id"], str(told["port"]), str(directory / "liar")]
    command = [sys.executable, "-c", LIAR, *arguments]
    with Popen(command, stdin=PIPE, stdout=PIPE, env=environment(), text=True) as process:
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            if process.wait(PATIENCE) != 0:
                process.kill()


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_ten_processes_share_what_one_of_them_publishes_slowly(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(os.urandom(SIZE))
    with ExitStack() as stack:
        publisher, told = stack.enter_context(publishing(source, "--upload-limit", str(LIMIT)))
        liar = stack.enter_context(lying(tmp_path, told))
        fetchers = [Fetcher(number, tmp_path, told) for number in range(HONEST)]
        for fetcher in fetchers:
            stack.callback(fetcher.close)
        for fetcher in fetchers[:KILLED]:
            fetcher.kill()
            fetcher.begin()
        records = [fetcher.finish() for fetcher in fetchers]
        assert liar.stdout is not None
        liars_port = int(liar.stdout.readline())  # it has all of it, too
        publisher.send_signal(signal.SIGINT)
        sent = json.loads(outcome(publisher)[1])["sent"]
    assert {digest(fetcher.target) for fetcher in fetchers} == {digest(source)}
    assert all(record["resumed_bytes"] > 0 for record in records[:KILLED])
    fetched = sum(record["bytes"] - record["resumed_bytes"] for record in records)
    together = sum(record["mb_s"] for record in records) * 1e6
    figures = f"{together / 1e6:.1f} MB/s together, {LIMIT / 1e6:.1f} published; {sent} of {fetched} bytes"
    assert together > LIMIT, figures
    assert sent < 0.75 * fetched, figures
    dropped = [each for record in records for each in record["dropped"] if each["lied"]]
    assert {each["port"] for each in dropped} == {liars_port}
    assert all("is not what its hash says" in each["reason"] for each in dropped)
    (tmp_path / "figures").write_text(figures)
