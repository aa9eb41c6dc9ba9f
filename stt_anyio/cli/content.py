"""``stt publish`` and ``stt fetch``.

Rule: as for files: what can be wrong on this machine is told first, and nothing stands under its name before it is
whole. Who fetches serves the others with what is here already, until it has all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from stt_anyio import ContentDistribution, Fetching, FetchProgress, KademliaDHT
from stt_anyio.cli.addresses import parse_address, resolve, spelled
from stt_anyio.cli.dht import as_json, parse_id
from stt_anyio.cli.disk import Source
from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.interrupts import signals
from stt_anyio.cli.output import emit, say
from stt_anyio.cli.progress import Progress
from stt_anyio.cli.seed import shared_seed
from stt_anyio.cli.sessions import running_node
from stt_anyio.cli.summary import Summary
from stt_core.dht import Outcome
from stt_core.errors import StoreError

GLANCE = 0.25
"""Seconds between two looks at how far a fetch is."""
Friends = Sequence[tuple[str, int]]


def _friends(arguments: argparse.Namespace) -> Friends:
    found = [resolve(*parse_address(text))[0] for text in arguments.bootstrap]
    return [(str(host), int(port)) for host, port, *_ in found]


@asynccontextmanager
async def _distribution(
    arguments: argparse.Namespace,
    seed: bytes,
    port: int,
    friends: Friends,
    store: str | os.PathLike[str] | None,
    limit: float | None,
) -> AsyncIterator[ContentDistribution]:
    """A node that serves what it has, and finds and is found by a DHT on the same port.

    :raises Failure: if the port or the store can't be had.
    """
    async with running_node(seed, bind_address=arguments.bind, port=port) as node:
        dht = KademliaDHT(node.endpoint.config.node_id, node=node, private=arguments.private)
        try:
            content = ContentDistribution(dht, node=node, store=store, upload_limit=limit)
        except StoreError as error:
            raise Failure(Exit.USAGE, str(error)) from error
        async with content, dht, anyio.create_task_group() as tasks:
            tasks.start_soon(node.serve, content.serve)
            await _join(dht, friends)
            yield content
            tasks.cancel_scope.cancel()


async def _join(dht: KademliaDHT, friends: Friends) -> None:
    if not friends:
        return
    outcomes = await dht.bootstrap(friends)
    for address, outcome in outcomes.items():
        if outcome is not Outcome.ANSWERED:
            say(f"stt: warning: no node of a DHT answered at {spelled(*address)}")


# --- publishing


def publish(arguments: argparse.Namespace, summary: Summary) -> None:
    """``stt publish``: take a file into the store, say its id, and serve it until interrupted."""
    path = Path(arguments.file)
    Source(path).close()
    friends = _friends(arguments)
    seed = shared_seed()
    signals.run(lambda: _publish(seed, path, friends, arguments, summary))


async def _publish(seed: bytes, path: Path, friends: Friends, arguments: argparse.Namespace, summary: Summary) -> None:
    settings = (arguments.port, friends, arguments.store, arguments.upload_limit)
    async with _distribution(arguments, seed, *settings) as content:
        content_id = await content.publish_content(path)
        told = {"content_id": content_id.hex(), "port": content.node.port}
        summary.details = {"content_id": content_id.hex(), "sent": 0}
        emit(json.dumps(told) + "\n" if arguments.json else f"{content_id.hex()}\n")
        say(f"serving {path} at {spelled(arguments.bind, content.node.port)}")
        try:
            await anyio.sleep_forever()
        finally:
            summary.details["sent"] = content.statistics()["sent"]


# --- fetching


def fetch(arguments: argparse.Namespace, summary: Summary) -> None:
    """``stt fetch``: bring a file here from all who have some of it."""
    content_id = parse_id(arguments.content)
    path = Path(arguments.output)
    if not arguments.bootstrap:
        raise Failure(Exit.USAGE, "'stt fetch' needs --bootstrap HOST:PORT, a node to begin with")
    if os.path.lexists(path):
        raise Failure(Exit.USAGE, f"{path} exists already; move it, or choose another name")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise Failure(Exit.USAGE, f"can't write to {path.parent}")
    store = Path(arguments.store) if arguments.store else path.with_name(f"{path.name}.stt")
    friends = _friends(arguments)
    seed = shared_seed()
    existed = store.exists()
    try:
        signals.run(lambda: _fetch(seed, content_id, path, store, friends, arguments, summary))
    finally:
        # What is there of it helps the next try; nothing helps nobody.
        nothing = summary.details is None or not summary.details["bytes"]
        if not arguments.store and (path.exists() or (nothing and not existed)):
            shutil.rmtree(store, ignore_errors=True)


async def _fetch(
    seed: bytes,
    content_id: bytes,
    path: Path,
    store: Path,
    friends: Friends,
    arguments: argparse.Namespace,
    summary: Summary,
) -> None:
    begun = time.monotonic()
    async with _distribution(arguments, seed, 0, friends, store, None) as content:
        fetching = content.fetch(content_id, timeout=arguments.timeout)
        try:
            with Progress(wanted=not arguments.json) as progress, progress.content(path.name) as show:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_watch, fetching, show)
                    try:
                        await fetching.save(path, replace=False)
                    finally:
                        tasks.cancel_scope.cancel()
        finally:
            summary.details = _told(content_id, fetching.progress, time.monotonic() - begun)
    if not arguments.json:
        peers = [peer for peer in fetching.progress.peers if peer.received]
        size = fetching.size or 0
        say(f"fetched {path}, {size:,} bytes from {len(peers)} peers in {time.monotonic() - begun:.2f} s")


async def _watch(fetching: Fetching, show: Callable[[FetchProgress], None]) -> None:
    told = 0

    def look() -> None:
        nonlocal told
        progress = fetching.progress
        show(progress)
        for dropped in progress.dropped[told:]:
            say(f"dropped {spelled(dropped.node.host, dropped.node.port)}: {dropped.reason}")
        told = len(progress.dropped)

    try:
        while True:
            look()
            await anyio.sleep(GLANCE)
    finally:
        look()


def _told(content_id: bytes, progress: FetchProgress, seconds: float) -> dict[str, Any]:
    fetched = progress.done - progress.resumed
    return {
        "content_id": content_id.hex(),
        "bytes": progress.done,
        "resumed_bytes": progress.resumed,
        "seconds": round(seconds, 6),
        "mb_s": round(fetched / seconds / 1e6, 3),
        "peers": [{**as_json([peer.node])[0], "bytes": peer.received} for peer in progress.peers],
        "dropped": [{**as_json([each.node])[0], "reason": each.reason, "lied": each.lied} for each in progress.dropped],
    }
