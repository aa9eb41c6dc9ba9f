"""``python -m tests.dht.many N``: N processes with a DHT node each, all found through one; prints what came of it.
With ``private`` after it, they speak inside sessions.

They are forked from one that has everything imported, or half a minute would go into imports. Each announces content of
its own, and when all have done so each looks for its neighbour's.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import blake2b

import anyio
import anyio.to_thread

from stt_anyio import KademliaDHT, STTNode

PRIVATE = "private" in sys.argv


def content(number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=32).digest()


@asynccontextmanager
async def joined(name: bytes, friends: list[tuple[str, int]]) -> AsyncIterator[KademliaDHT]:
    """A DHT node of its own, or on a node of that name."""
    # Nobody here is dead, so a late answer is a busy machine's: it is worth waiting for.
    if PRIVATE:
        async with (
            STTNode(name, 0, shared_seed=b"the seed of fifty processes", bind_address="127.0.0.1") as node,
            KademliaDHT(node=node, bootstrap=friends, rpc_timeout=20.0) as dht,
        ):
            yield dht
    else:
        async with KademliaDHT(name, 0, friends, bind_address="127.0.0.1", rpc_timeout=20.0) as dht:
            yield dht


async def peer(number: int, count: int, friend: int, orders: int, reports: int) -> None:
    """One node: it joins, announces and searches, reports each, and waits for an order before it goes on."""
    async with joined(b"peer %d" % number, [("127.0.0.1", friend)]) as dht:
        os.write(reports, json.dumps({"port": dht.port}).encode() + b"\n")
        await anyio.to_thread.run_sync(os.read, orders, 1)
        os.write(reports, json.dumps({"stored": await dht.announce(content(number))}).encode() + b"\n")
        await anyio.to_thread.run_sync(os.read, orders, 1)
        found = await dht.find_providers(content((number + 1) % (count - 1)))
        os.write(reports, json.dumps({"found": [each.node_id.decode() for each in found]}).encode() + b"\n")
        await anyio.to_thread.run_sync(os.read, orders, 1)


def start(number: int, count: int, friend: int) -> tuple[int, int]:
    """Fork one; where to send orders, and where to read reports."""
    orders, order = os.pipe()
    report, reports = os.pipe()
    if os.fork() == 0:
        code = 1
        try:
            anyio.run(peer, number, count, friend, orders, reports)
            code = 0
        except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
            traceback.print_exc()
        os._exit(code)
    os.close(orders)
    os.close(reports)
    return order, report


def main() -> None:
    count = int(sys.argv[1])
    friend_port, friend = os.pipe()
    goodbye, say_goodbye = os.pipe()
    if os.fork() == 0:
        anyio.run(_friend, friend, goodbye)
        os._exit(0)
    port = int(os.read(friend_port, 16))
    peers = [start(number, count, port) for number in range(count - 1)]
    told = {}
    for phase in ("joined", "announced", "searched"):
        told[phase] = [json.loads(os.read(report, 4096)) for _, report in peers]
        for order, _ in peers:
            os.write(order, b"!")
    os.write(say_goodbye, b"!")
    codes = [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(count)]
    sys.stdout.write(json.dumps({**told, "codes": codes}))


async def _friend(tell: int, goodbye: int) -> None:
    async with joined(b"friend", []) as dht:
        os.write(tell, b"%d" % dht.port)
        await anyio.to_thread.run_sync(os.read, goodbye, 1)


if __name__ == "__main__":
    main()
