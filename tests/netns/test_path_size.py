"""Paths of all sizes: what a session finds, and what it does when the path changes under it.

Links are changed on a running transfer, see ``--more`` in :mod:`tests.netns.peer`. An interface drops what arrives and
is larger than its own MTU, and tells nobody: that is how a path here becomes a black hole.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import last_json, listening_port, outcome, running
from tests.cli.files import MIB, make_file
from tests.netns.network import A4, A6, B4, B6, Network
from tests.netns.peer import transfer

BLACK_HOLE = 15.0
"""Seconds in which a session must be out of a black hole and have sent what was left. It takes three."""
AT_ONCE = 5.0
"""Seconds: a probe timeout or two and a transfer's rest, and half of what a keep-alive would take to save it."""
CLOSE_TO = 64
"""Bytes of a path's size that a search may leave unused, below Ethernet's."""


@pytest.mark.parametrize(("bind", "target"), [("::", B4), ("::", f"[{B6}]")])
def test_a_file_crosses_a_router(network: Network, tmp_path: Path, bind: str, target: str) -> None:
    source = make_file(tmp_path, "picture.raw", 5 * MIB + 17)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    receive = ("recv", str(inbox), "--bind", bind, "--once", "--json")
    with running(*receive, prefix=network.prefix("b")) as receiver:
        port = listening_port(receiver)
        with running("send", str(source), f"{target}:{port}", "--json", prefix=network.prefix("a")) as sender:
            for code, stdout, stderr in (outcome(sender), outcome(receiver)):
                assert code == 0, stderr
                assert last_json(stdout)["bytes"] == 5 * MIB + 17
    assert (inbox / source.name).read_bytes() == source.read_bytes()


@pytest.mark.parametrize(("ours", "theirs"), [(A4, B4), (A6, B6)])
def test_ethernet_is_used_in_full_and_the_interface_is_asked_once(network: Network, ours: str, theirs: str) -> None:
    done = transfer(network, ours, theirs, mib=5)
    assert done.giver["datagram_size"] == 1452
    # The probe of 8800 bytes that the interface refused. It told at once, so there was no other, and none was lost.
    assert done.giver["losses"] == {"EMSGSIZE": 1}
    assert done.giver["packets_lost"] == 0
    assert done.giver["ecn"] == "capable"
    assert done.giver["segment_limit"] > 1452


def test_jumbo_frames_are_found(jumbo: Network) -> None:
    done = transfer(jumbo, A4, B4, mib=10)
    assert done.giver["datagram_size"] == 8900
    assert done.giver["losses"] == {"EMSGSIZE": 1}


def test_a_path_that_swallows_large_datagrams_is_measured(network: Network) -> None:
    network.segment_late()
    network.set_mtu("b", "eth0", 1300)
    done = transfer(network, A4, B4, mib=5)
    # An interface lets four bytes more in, for a VLAN tag.
    assert 1300 - 28 - CLOSE_TO <= done.giver["datagram_size"] <= 1300 - 28 + 4
    assert done.giver["losses"] == {}


def test_a_router_that_says_so_is_measured_the_same_way(network: Network) -> None:
    network.set_mtu("router", "right", 1300)
    done = transfer(network, A4, B4, mib=5)
    assert 1300 - 28 - CLOSE_TO <= done.giver["datagram_size"] <= 1300 - 28
    assert done.giver["segment_limit"] > 1452, "an ICMP message about one datagram is no fault of segmentation"


def test_a_black_hole_in_mid_transfer_is_left_behind(jumbo: Network) -> None:
    jumbo.segment_late()
    done = transfer(jumbo, A4, B4, mib=10, more=10, meanwhile=lambda: jumbo.set_mtu("b", "eth0", 1300))
    assert done.before["datagram_size"] == 8900
    assert done.giver["datagram_size"] <= 1300 - 28 + 4
    assert done.giver["packets_lost"] > 0
    assert done.giver["seconds"] - done.before["seconds"] < BLACK_HOLE


def test_a_router_that_narrows_in_mid_transfer_is_followed(jumbo: Network) -> None:
    done = transfer(jumbo, A4, B4, mib=10, more=10, meanwhile=lambda: jumbo.set_mtu("router", "right", 1500))
    assert done.before["datagram_size"] == 8900
    assert done.giver["datagram_size"] <= 1472
    assert done.giver["segment_limit"] > 1452


def test_an_interface_that_shrinks_in_mid_transfer_is_followed_at_once(jumbo: Network) -> None:
    done = transfer(jumbo, A4, B4, mib=10, more=10, meanwhile=lambda: jumbo.set_mtu("a", "eth0", 1500))
    assert done.before["datagram_size"] == 8900
    assert done.giver["datagram_size"] == 1452
    assert done.giver["segment_limit"] > 1452


def test_an_interface_that_shrank_while_nothing_was_sent_costs_no_wait(jumbo: Network) -> None:
    done = transfer(jumbo, A4, B4, mib=10, more=1, rest=True, meanwhile=lambda: jumbo.set_mtu("a", "eth0", 1500))
    assert done.before["bytes_in_flight"] == 0
    assert done.before["datagram_size"] == 8900
    assert done.giver["datagram_size"] in {1200, 1452}
    assert done.giver["seconds"] - done.before["seconds"] < AT_ONCE
