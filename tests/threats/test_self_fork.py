"""Self: a fork. A child that went on with its parent's sessions would use their nonces a second time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
import anyio
from stt_anyio import STTNode, SessionClosedError

async def main():
    seed = b"a seed for parent and child"
    async with (
        STTNode(b"one", shared_seed=seed, bind_address="127.0.0.1") as one,
        STTNode(b"two", shared_seed=seed, bind_address="127.0.0.1") as two,
    ):
        session = await one.connect(("127.0.0.1", two.port))
        stream = session.open_stream(stream_id=1)
        await stream.send(b"before", timeout=5)
        sent = session.statistics().packets_sent
        child = os.fork()
        if not child:
            try:
                session.core.send_message(1, b"from the child")
            except ConnectionError as error:
                silent = session.core.statistics().packets_sent == sent and one.endpoint.poll_transmit(0.0) is None
                os._exit(0 if "forked" in str(error) and silent else 3)
            os._exit(4)
        _, status = os.waitpid(child, 0)
        await stream.send(b"after", timeout=5)
        sys.exit(os.waitstatus_to_exitcode(status))

anyio.run(main)
"""


def test_a_childs_send_raises_and_the_parent_goes_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
