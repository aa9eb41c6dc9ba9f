"""How sessions end: acknowledged, bounded, with the same reason at both ends, and with nothing left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from stt_core.errors import CloseReason, ErrorCode
from stt_core.events import SessionClosed
from stt_core.state import SessionState
from tests.sim import Conditions, Host, Lab, Meddler, Traffic, drop
from tests.support.capture import is_protected

ROUND_TRIP = 0.04


class Pair:
    """Two hosts that know each other's round-trip time, all quiet between them; bad luck begins after that."""

    def __init__(
        self, lab: Lab, *, forth: Sequence[Meddler] = (), back: Sequence[Meddler] = (), loss: float = 0.0
    ) -> None:
        self.a, self.b = lab.endpoint("a"), lab.endpoint("b")
        lab.link(self.a, self.b, delay=ROUND_TRIP / 2)
        self.traffic = Traffic(self.a, self.b)
        self.traffic.stream(self.a, 20_000)
        self.traffic.stream(self.b, 20_000)
        self.key = self.a.connect(self.b)
        lab.run_until(self.traffic.done)
        lab.run_for(1.0)
        conditions = Conditions(ROUND_TRIP / 2, loss=loss)
        lab.link(self.a, self.b, forth=replace(conditions, extra=forth), back=replace(conditions, extra=back))

    def over(self) -> bool:
        return self.a.saw(SessionClosed) and self.b.saw(SessionClosed)


def anything(times: int) -> Meddler:
    return drop(lambda datagram: is_protected(datagram.data), times)


def assert_both_closed(lab: Lab, a: Host, b: Host, reason: CloseReason = CloseReason.GRACEFUL) -> None:
    for host in (a, b):
        (event,) = host.all(SessionClosed)
        assert event.reason is reason
    lab.run_for(10.0)
    for host in (a, b):
        assert host.endpoint.sessions() == []
        assert len(host.all(SessionClosed)) == 1
        assert host.session(host.all(SessionClosed)[0].session_key).state is SessionState.CLOSED
    sent = a.sent_datagrams, b.sent_datagrams
    lab.run_for(100.0)
    assert (a.sent_datagrams, b.sent_datagrams) == sent


def test_a_close_is_over_after_one_round_trip() -> None:
    lab = Lab()
    pair = Pair(lab)
    a, b, key = pair.a, pair.b, pair.key
    since = lab.now
    a.session(key).close(code=ErrorCode.APPLICATION, reason="done for today")
    lab.run_until(lambda: a.saw(SessionClosed))
    assert lab.now - since <= ROUND_TRIP + 0.001
    (there,) = b.all(SessionClosed)
    assert (there.code, there.message) == (ErrorCode.APPLICATION, "done for today")
    assert_both_closed(lab, a, b)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("lost", ["the close", "its acknowledgement"])
def test_a_close_survives_loss(lost: str, times: int) -> None:
    lab = Lab()
    meddler = anything(times)
    pair = Pair(lab, forth=[meddler]) if lost == "the close" else Pair(lab, back=[meddler])
    a, b, key = pair.a, pair.b, pair.key
    a.session(key).close()
    since = lab.now
    lab.run_until(pair.over, timeout=1.0)
    assert len(meddler.caught) >= 1
    assert lab.now - since < 4 * (ROUND_TRIP + 0.1)
    assert_both_closed(lab, a, b)


def test_a_close_that_nobody_hears_is_given_up_within_three_probe_timeouts() -> None:
    lab = Lab()
    pair = Pair(lab)
    a, b, key = pair.a, pair.b, pair.key
    b.kill()
    a.session(key).close()
    since = lab.now
    lab.run_until(lambda: a.saw(SessionClosed), timeout=1.0)
    # PTO = srtt + max(4 var, 1 ms) + max_ack_delay 25 ms; the path is steady, so the variance has shrunk.
    assert ROUND_TRIP < lab.now - since < 3 * (ROUND_TRIP + 4 * ROUND_TRIP / 2 + 0.025)
    assert a.all(SessionClosed)[0].reason is CloseReason.GRACEFUL
    lab.run_for(5.0)
    assert a.endpoint.sessions() == []


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_two_that_close_at_once_both_end_gracefully(loss: float) -> None:
    lab = Lab()
    pair = Pair(lab, loss=loss)
    a, b, key = pair.a, pair.b, pair.key
    other = b.established
    assert other is not None
    a.session(key).close()
    b.session(other.session_key).close()
    lab.run_until(pair.over, timeout=2.0)
    assert_both_closed(lab, a, b)


def test_a_close_right_after_sending_with_time_to_linger_delivers_it_all() -> None:
    lab = Lab()
    pair = Pair(lab, loss=0.2)
    a, b, key = pair.a, pair.b, pair.key
    stream = a.open_stream(key)
    session = a.session(key)
    for number in range(50):
        assert session.send_message(stream, b"%03d" % number * 300)
    session.finish(stream)
    session.close(linger=30.0)
    lab.run_until(pair.over, timeout=31.0)
    (got,) = pair.traffic.reader(b).messages.values()
    assert got == [b"%03d" % number * 300 for number in range(50)]
    assert b.all(SessionClosed)[0].reason is CloseReason.GRACEFUL


def test_what_arrived_before_the_close_can_still_be_read() -> None:
    lab = Lab()
    pair = Pair(lab)
    a, b, key = pair.a, pair.b, pair.key
    b.apps.clear()
    stream = a.open_stream(key)
    a.session(key).send_message(stream, b"last words")
    a.session(key).finish(stream)
    lab.run_for(1.0)
    a.session(key).close()
    lab.run_for(5.0)
    (event,) = b.all(SessionClosed)
    assert b.session(event.session_key).read_message(stream) == b"last words"


def test_a_close_with_an_error_code_is_an_error_at_the_peer() -> None:
    lab = Lab()
    pair = Pair(lab)
    a, b, key = pair.a, pair.b, pair.key
    a.session(key).close(code=ErrorCode.INTERNAL, reason="the disk is full")
    lab.run_until(lambda: b.saw(SessionClosed))
    (event,) = b.all(SessionClosed)
    assert (event.reason, event.code, event.message) == (CloseReason.ERROR, ErrorCode.INTERNAL, "the disk is full")


def test_closing_while_still_connecting_ends_it_quietly() -> None:
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, delay=ROUND_TRIP / 2)
    key = a.connect(b)
    lab.run_for(ROUND_TRIP * 0.75)
    a.session(key).close()
    lab.run_for(30.0)
    assert a.endpoint.sessions() == b.endpoint.sessions() == []
    assert not b.saw(SessionClosed)
