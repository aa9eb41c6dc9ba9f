"""``stt dht``: ask a DHT. Nothing secret is needed for it, nor given away; nothing is stored."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

from stt_anyio import DHTNode, KademliaDHT
from stt_anyio.cli.addresses import Address, parse_address, resolve, spelled
from stt_anyio.cli.failure import Exit, Failure
from stt_anyio.cli.interrupts import signals
from stt_anyio.cli.names import for_display
from stt_anyio.cli.output import emit
from stt_anyio.cli.summary import Summary
from stt_core.dht import Outcome

ID_DIGITS = 64
ACTIONS = ("ping", "find", "providers")


def dht(arguments: argparse.Namespace, summary: Summary) -> None:
    """``stt dht ping HOST:PORT``, ``stt dht find ID`` and ``stt dht providers ID``."""
    if arguments.action == "ping":
        if arguments.bootstrap:
            raise Failure(Exit.USAGE, "--bootstrap goes with find and providers; ping asks HOST:PORT itself")
        friends, target = [arguments.what], b""
    else:
        friends, target = arguments.bootstrap, parse_id(arguments.what)
        if not friends:
            raise Failure(Exit.USAGE, f"'stt dht {arguments.action}' needs --bootstrap HOST:PORT, a node to begin with")
    addresses = [resolve(*parse_address(friend))[0] for friend in friends]
    say_line: Callable[[str], None] = (lambda _: None) if arguments.json else (lambda line: emit(f"{line}\n"))
    signals.run(lambda: _ask(arguments.action, target, addresses, say_line, summary))


def parse_id(text: str) -> bytes:
    """An id of a node or a content, as hex digits.

    :raises Failure: if it is none.
    """
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(text) != ID_DIGITS or len(found) != ID_DIGITS // 2:
        raise Failure(Exit.USAGE, f"the id is '{text}', expected {ID_DIGITS} hex digits")
    return found


async def _ask(
    action: str, target: bytes, addresses: Sequence[Address], say_line: Callable[[str], None], summary: Summary
) -> None:
    bind = "::" if any(":" in address[0] for address in addresses) else "0.0.0.0"
    async with KademliaDHT(port=0, bind_address=bind) as node:
        begun = time.monotonic()
        outcomes = await node.bootstrap([(str(host), int(port)) for host, port, *_ in addresses])
        seconds = time.monotonic() - begun
        if Outcome.ANSWERED not in outcomes.values():
            raise Failure(Exit.UNREACHABLE, f"nobody answered at {', '.join(spelled(*each) for each in outcomes)}")
        if action == "ping":
            # Its neighbours answered too by now: show the one that was asked.
            nodes = [contact.node for contact in node.core.table if contact.node.address in outcomes]
            summary.details = {"nodes": as_json(nodes), "seconds": round(seconds, 6)}
        else:
            search = node.find_node if action == "find" else node.find_providers
            nodes = await search(target)
            summary.details = {"nodes": as_json(nodes)}
    for each in nodes:
        say_line(f"{_name(each)} {spelled(each.host, each.port)}")
    if not nodes and action == "providers":
        raise Failure(Exit.UNREACHABLE, "nobody provides this")


def _name(node: DHTNode) -> str:
    """A DHT id in hex digits; a name that a provider gave itself as it is, as far as a terminal can take it."""
    text = node.node_id.decode("utf-8", "replace")
    if len(node.node_id) == ID_DIGITS // 2 and not text.isprintable():
        return node.node_id.hex()
    return for_display(text)


def as_json(nodes: Sequence[DHTNode]) -> list[dict[str, Any]]:
    """Nodes, for ``--json``."""
    return [{"node_id": node.node_id.hex(), "host": node.host, "port": node.port} for node in nodes]
