"""Loss, delay, disorder, copies, marks, and a NAT that forgets: a relay on the router does it all to real sessions."""

from __future__ import annotations

from tests.netns.network import A4, B4, Network
from tests.netns.peer import ends, transfer

ROUND_TRIP = 0.02


def test_a_transfer_survives_loss_delay_disorder_and_copies(jumbo: Network) -> None:
    climate = {"loss": 0.02, "reorder": 0.01, "duplicate": 0.01, "delay": ROUND_TRIP / 2, "seed": 6}
    with ends(jumbo, A4, B4, mib=20, climate=climate) as (giver, taker, relay):
        report = giver.report()
        taker.report()
        assert relay is not None
        counts = relay.stop()
    assert report["rtt_minimum"] >= ROUND_TRIP
    assert report["datagram_size"] == 8900
    assert min(counts[event] for event in ("lost", "reordered", "duplicated")) > 0
    assert report["ecn"] == "capable", "losses and copies say nothing about marks"


def test_a_narrow_relay_is_measured(network: Network) -> None:
    done = transfer(network, A4, B4, mib=5, climate={"largest": 1300})
    assert 1200 < done.giver["datagram_size"] <= 1300


def test_marks_are_set_counted_and_believed_without_a_loss(network: Network) -> None:
    climate = {"mark": 0.01, "delay": 0.002}
    with ends(network, A4, B4, mib=5, climate=climate) as (giver, taker, relay):
        report, taken = giver.report(), taker.report()
        assert relay is not None
        counts = relay.stop()
    assert report["ecn"] == "capable"
    # Not all: marks on the answers count at the other end, and marks on the farewell nowhere.
    assert counts["marked"] / 2 < taken["ecn_counted"][2] <= counts["marked"]
    assert report["packets_lost"] == 0
    assert report["cwnd"] < 200_000, "on this path without marks it is a megabyte"


def test_a_download_goes_on_when_the_nat_forgets(network: Network) -> None:
    with ends(network, A4, B4, mib=5, more=10, download=True, climate={}) as (giver, taker, relay):
        assert relay is not None
        before = giver.report()
        relay.rebind()
        giver.go_on()
        report = giver.report()
        taker.report()
        assert relay.stop()["rebound"] == 1
    assert report["path"] != before["path"], "the giver found the client behind its new port"
    assert report["path"][0] == before["path"][0]
