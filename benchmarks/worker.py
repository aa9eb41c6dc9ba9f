"""One of the two processes of a measurement: ``python -m benchmarks.worker server|client TASK [PORT]``.

A server prints its port; then it answers each line on its standard input with what it has used so far, and ends when
that does. A client prints each stage it has finished, with what it has used so far, and goes on at the next line.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from benchmarks.peers import module_of
from benchmarks.peers.interface import Task
from benchmarks.workloads import WORKLOADS

WARM_BLOCK = 16 << 20


def usage() -> dict[str, Any]:
    """CPU seconds, kernel's included, and proportional set size in bytes (Linux) of this process."""
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    pss = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
    return {"cpu": time.process_time(), "memory": int(pss.split()[1]) * 1024}


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def answer_until_the_end() -> None:
    """In a thread of its own, so that the event loop has nothing to do with it."""
    for _ in sys.stdin:
        say(usage())
    # Whatever the stack would still do in peace is no part of the measurement, and must not delay the next one.
    os._exit(0)


async def serve(task: Task) -> None:
    async with module_of(task.library).serve(task) as port:
        say({"port": port})
        threading.Thread(target=answer_until_the_end, daemon=True).start()
        await anyio.sleep_forever()


async def run_client(task: Task, port: int) -> None:
    async with module_of(task.library).client(task, port) as connect:
        async for found in WORKLOADS[task.kind](task, connect):
            say({**usage(), **found})
            await anyio.to_thread.run_sync(sys.stdin.readline)


def warm_heap() -> None:
    """glibc maps blocks above a threshold anew each time; freeing one this large raises it (up to 32 MiB)."""
    block = bytearray(WARM_BLOCK)
    del block


def main() -> None:
    role, task = sys.argv[1], Task.from_json(sys.argv[2])
    if task.warm:
        warm_heap()
    backend = "trio" if task.loop == "trio" else "asyncio"
    options = {"use_uvloop": True} if task.loop == "uvloop" else {}
    if role == "server":
        anyio.run(serve, task, backend=backend, backend_options=options)
    else:
        anyio.run(run_client, task, int(sys.argv[3]), backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
