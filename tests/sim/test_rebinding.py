"""A NAT that changes its mind: the session goes on from the new address, and nobody's claim alone moves it."""

from __future__ import annotations

import pytest

from stt_core.events import PathChanged, SessionClosed
from tests.sim import Lab, Reader, Traffic
from tests.support.capture import is_protected


@pytest.mark.parametrize("change", ["port", "address"])
@pytest.mark.parametrize("direction", ["upload", "download", "both"])
def test_a_transfer_goes_on_through_rebindings(change: str, direction: str) -> None:
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, delay=0.02, rate=500_000)
    traffic = Traffic(a, b)
    if direction != "download":
        traffic.stream(a, 1_500_000)
    if direction != "upload":
        traffic.stream(b, 1_500_000)
    a.connect(b)
    lab.run_until(lambda: b.established is not None)
    lab.rebind_every(a, 2.0, change=change)
    lab.run_until(traffic.done, timeout=60.0)
    traffic.check()
    assert b.saw(PathChanged)
    assert not b.saw(SessionClosed)


@pytest.mark.parametrize("at", [0.3, 1.0, 1.71])
def test_a_downloader_that_says_nothing_is_found_again_by_its_next_keep_alive(at: float) -> None:
    """It doesn't know of the rebinding, so what was sent to the old address is gone until it speaks."""
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, delay=0.02, rate=500_000)
    traffic = Traffic(a, b)
    traffic.stream(b, 1_500_000)
    lab.at(at, lambda: lab.rebind(a))
    a.connect(b)
    lab.run_until(traffic.done, timeout=4.0 + 10.0 + 1.0)
    traffic.check()


def test_an_idle_session_survives_a_rebinding_by_its_next_keep_alive() -> None:
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, delay=0.02)
    a.connect(b)
    lab.run_until(lambda: b.established is not None)
    lab.run_for(1.0)
    lab.rebind(a)
    lab.run_for(60.0)
    assert not a.saw(SessionClosed)
    assert not b.saw(SessionClosed)
    (moved,) = b.all(PathChanged)
    assert moved.path.address == a.address


def test_a_copied_packet_from_elsewhere_moves_nothing() -> None:
    """An attacker who forwards a copy of each packet first, from an own address, gets challenged and no traffic."""
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, delay=0.02)
    thief = ("203.0.113.6", 666)
    reader = Reader()
    a.add(reader)
    traffic = Traffic(b)
    traffic.stream(b, 500_000)
    lab.observers.append(
        lambda sent: (
            lab.inject(sent.data, source=thief, to=b) if sent.source == a.address and is_protected(sent.data) else None
        )
    )
    a.connect(b)
    lab.run_until(lambda: bool(reader.ended), timeout=30.0)
    taken = sum(len(sent.data) for sent in lab.transcript if sent.destination == thief)
    given = sum(len(sent.data) for sent in lab.transcript if sent.source == a.address)
    assert taken <= 3 * given
    assert taken < 20_000
    assert not b.saw(PathChanged)
