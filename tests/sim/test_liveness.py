"""Peers that fall silent, cables that come out, sessions with nothing to say (chapter, "Keep-Alive Mechanism")."""

from __future__ import annotations

import pytest

from stt_core.errors import CloseReason, SessionClosedError
from stt_core.events import SessionClosed
from stt_core.state import SessionState
from tests.sim import Conditions, Host, Lab, Switch, Traffic
from tests.support.capture import is_protected

INTERVAL, TIMEOUT = 10.0, 30.0


def together(lab: Lab, cable: Switch | None = None) -> tuple[Host, Host]:
    """Two hosts with a session up, through ``cable`` both ways."""
    a, b = lab.endpoint("a"), lab.endpoint("b")
    conditions = Conditions(0.02, extra=[cable] if cable else [])
    lab.link(a, b, forth=conditions, back=conditions)
    a.connect(b)
    lab.run_until(lambda: a.established is not None and b.established is not None)
    lab.run_for(2.0)
    return a, b


def closed(host: Host) -> SessionClosed:
    event = host.closed
    assert event is not None
    return event


@pytest.mark.parametrize("died", ["initiator", "responder"])
def test_a_peer_that_dies_is_noticed_within_the_timeout(died: str) -> None:
    lab = Lab()
    a, b = together(lab)
    gone, left = (a, b) if died == "initiator" else (b, a)
    gone.kill()
    since = lab.now
    lab.run_until(lambda: left.closed is not None, timeout=TIMEOUT + 1.0)
    assert TIMEOUT - 2.0 <= lab.now - since <= TIMEOUT
    assert closed(left).reason is CloseReason.TIMEOUT
    session = left.session(closed(left).session_key)
    assert session.state is SessionState.CLOSED
    with pytest.raises(SessionClosedError):
        session.open_stream()
    sent = left.sent_datagrams
    lab.run_for(60.0)
    assert left.sent_datagrams == sent


def test_a_peer_that_dies_in_the_middle_of_a_transfer_is_noticed_too() -> None:
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, delay=0.02, loss=0.05, rate=200_000)
    traffic = Traffic(a, b)
    traffic.stream(a, 5_000_000)
    a.connect(b)
    lab.run_for(5.0)
    before = a.sent_datagrams
    b.kill()
    lab.run_until(lambda: a.closed is not None, timeout=TIMEOUT + 1.0)
    assert closed(a).reason is CloseReason.TIMEOUT
    assert a.sent_datagrams - before < 300  # what the window held and a few probes, not a stream into the void


def test_both_ends_of_a_cut_cable_give_up() -> None:
    lab = Lab()
    cable = Switch()
    a, b = together(lab, cable)
    cable.up = False
    lab.run_until(lambda: a.closed is not None and b.closed is not None, timeout=TIMEOUT + 1.0)
    assert closed(a).reason is closed(b).reason is CloseReason.TIMEOUT


@pytest.mark.parametrize("outage", [1.0, 5.0, 15.0, 19.0, 25.0])
def test_a_cable_that_comes_back_in_time_costs_nothing_but_time(outage: float) -> None:
    lab = Lab()
    cable = Switch()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    conditions = Conditions(0.02, rate=500_000, extra=[cable])
    lab.link(a, b, forth=conditions, back=conditions)
    traffic = Traffic(a, b)
    traffic.stream(a, 1_000_000)
    traffic.stream(b, 300_000)
    lab.at(1.0, lambda: setattr(cable, "up", False))
    lab.at(1.0 + outage, lambda: setattr(cable, "up", True))
    a.connect(b)
    lab.run_for(1.0 + outage)
    received = traffic.reader(b).received
    # Probes back off as the outage lasts, but to no more than an eighth of the timeout.
    lab.run_for(TIMEOUT / 8 + 0.5)
    assert traffic.reader(b).received > received
    lab.run_until(traffic.done, timeout=20.0)
    traffic.check()
    assert not a.saw(SessionClosed)
    assert not b.saw(SessionClosed)


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_an_idle_session_lives_on_with_next_to_no_traffic(loss: float) -> None:
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, delay=0.02, loss=loss)
    key = a.connect(b)
    lab.run_until(lambda: b.established is not None)
    lab.run_for(1.0)
    lab.transcript.clear()
    lab.run_for(3600.0)
    assert not a.saw(SessionClosed)
    assert not b.saw(SessionClosed)
    assert a.session(key).state is SessionState.ESTABLISHED
    asked = 3600.0 / INTERVAL
    assert asked * 1.9 < len(lab.transcript) < asked * (5 if loss else 3.1)
    assert all(is_protected(sent.data) for sent in lab.transcript)
    assert sum(len(sent.data) for sent in lab.transcript) / len(lab.transcript) < 60


def test_the_shorter_timeout_of_the_two_counts_for_both() -> None:
    lab = Lab()
    a = lab.endpoint("a", keep_alive_interval=1.0, keep_alive_timeout=3.0)
    b = lab.endpoint("b")
    lab.link(a, b, delay=0.02)
    a.connect(b)
    lab.run_until(lambda: b.established is not None)
    lab.run_for(60.0)
    assert not b.saw(SessionClosed)
    a.kill()
    lab.run_until(lambda: b.closed is not None, timeout=3.1)


def test_own_probes_into_silence_do_not_count_as_life() -> None:
    """Only what comes in pushes the deadline back, and what comes in has to be authentic."""
    lab = Lab()
    cable = Switch()
    a, b = together(lab, cable)
    recorded = [sent.data for sent in lab.transcript if sent.source == b.address and is_protected(sent.data)]
    cable.up = False
    since = lab.now
    for tick in range(1, 40):
        lab.clock.at(since + tick, lambda: lab.inject(recorded[-1], source=b.address, to=a))
        lab.clock.at(since + tick, lambda: lab.inject(bytes(recorded[-1][:13]) + bytes(40), source=b.address, to=a))
    lab.run_until(lambda: a.closed is not None, timeout=TIMEOUT + 1.0)
    assert lab.now - since <= TIMEOUT
    assert closed(a).reason is CloseReason.TIMEOUT
