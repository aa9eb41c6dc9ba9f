"""Transfers between real processes that move, on purpose or because they must, on hosts with several addresses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.netns.network import A4, B4, Network
from tests.netns.peer import MIB, Peer

SIZE = int(os.environ.get("STT_MIGRATION_MIB", "20"))
"""MiB; see CONTRIBUTING.md."""
WIFI, CABLE = "10.77.1.2", "10.77.1.3"
"""Addresses that host A has besides its first."""
NO_UDP = "ipproto udp priority 10"
"""What the router's rule against UDP is known by."""


@contextmanager
def roaming(network: Network, *moves: dict[str, Any], steady: bool = False) -> Iterator[tuple[Peer, Peer]]:
    """Both ends of a transfer from host A to host B, the giver first. ``PORT`` in a move is that of the taker."""
    with ExitStack() as stack:
        taker = stack.enter_context(Peer(network, "b", "take", "--bind", B4, module="tests.netns.roamer"))
        arguments: list[str | int] = ["--mib", 1 if steady else SIZE, *(["--steady"] if steady else [])]
        for move in moves:
            arguments += ["--move", json.dumps(move).replace("PORT", str(taker.port))]
        giver = stack.enter_context(
            Peer(network, "a", "give", "--bind", A4, "--to", B4, taker.port, *arguments, module="tests.netns.roamer")
        )
        yield giver, taker


def end_of(peer: Peer, on_left: Callable[[str], object] = str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """What a process said last, and the transports and hosts it sent to before that. ``on_left`` is told each host that
    it has left, at once."""
    seen: list[tuple[str, str]] = []
    while "path" in (said := peer.report()):
        transport, (host, *_) = said["path"]
        if seen and seen[-1][1] != host:
            on_left(seen[-1][1])
        seen.append((transport, host))
    return said, seen


def test_a_transfer_whose_address_changes_three_times_and_its_transport_twice_arrives_whole(network: Network) -> None:
    for address in (WIFI, CABLE):
        network.ip("a", f"addr add {address}/32 dev eth0")
    url, by_udp = f"ws://{B4}:PORT/", f"{B4}:PORT"
    moves: list[dict[str, Any]] = [
        {"local": WIFI},
        {"peer_address": url, "local": WIFI},
        {"local": CABLE},
        {"peer_address": by_udp, "local": CABLE},
        {"local": A4},
    ]

    def remove(address: str) -> None:
        if address != A4:  # which the routes hang on
            network.ip("a", f"addr del {address}/32 dev eth0")

    with roaming(network, *moves) as (giver, taker):
        taken, seen = end_of(taker, remove)
        given, _ = end_of(giver)
    assert given == taken
    assert given["size"] >= SIZE * MIB
    assert seen == [("udp", A4), ("udp", WIFI), ("websocket", WIFI), ("websocket", CABLE), ("udp", CABLE), ("udp", A4)]


def test_a_transfer_goes_round_udp_that_is_dropped_in_silence_and_comes_back(network: Network) -> None:
    with roaming(network, steady=True) as (giver, taker):
        paths = [giver.report()["path"][0]]
        network.ip("router", f"rule add {NO_UDP} blackhole")
        paths.append(giver.report()["path"][0])
        network.ip("router", f"rule del {NO_UDP}")
        paths.append(giver.report()["path"][0])
        giver.go_on()
        given, rest = end_of(giver)
        taken, seen = end_of(taker)
    assert paths == ["udp", "websocket", "udp"]
    assert rest == []
    assert given == taken
    assert [transport for transport, _ in seen] == ["udp", "websocket", "udp"]
