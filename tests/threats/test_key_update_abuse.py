"""Threat: key updates abused, by somebody on the path who flips the phase bit, or by the peer itself.

Defence: an update counts only once a packet has opened under the next keys, and a genuine packet that breaks the rules
of RFC 9001 section 6 ends the session with KEY_UPDATE.
"""

from __future__ import annotations

import pytest

from stt_core.closing import MAX_WORDS
from stt_core.errors import ErrorCode, SessionClosedError, Violation
from stt_core.events import SessionClosed
from stt_core.frames import SessionClose
from stt_core.protection import KeyLimits
from tests.core import pair as endpoints
from tests.core.pair import channel_of, sealed
from tests.core.protection_pair import End, Pair, flip_phase
from tests.core.toy import ToyCrypto


@pytest.fixture
def ends() -> Pair:
    pair = Pair(ToyCrypto())
    pair.exchange()
    return pair


def update_against_the_rules(end: End) -> None:
    """What a peer with its own mind can do: move to the next send keys whenever it likes."""
    end.protection._update_send_keys(0.0)


def violates(end: End, datagrams: list[bytes]) -> str:
    with pytest.raises(Violation) as caught:
        end.open(datagrams)
    assert caught.value.code is ErrorCode.KEY_UPDATE
    return caught.value.reason


@pytest.mark.parametrize("single", [True, False], ids=["one by one", "in a batch"])
def test_a_flipped_phase_bit_is_ignored(ends: Pair, single: bool) -> None:
    datagrams = ends.initiator.seal(*(b"%d" % i for i in range(500)))
    flipped = [flip_phase(datagram) for datagram in datagrams]
    before = ends.responder.snapshot()
    assert (ends.responder.open_each if single else ends.responder.open)(flipped) == []
    assert ends.responder.snapshot() == before
    assert ends.responder.protection.failed == 500
    assert ends.responder.protection.phase == 0, "our own keys stay too"
    assert len(ends.responder.open(datagrams)) == 500


def test_a_flipped_phase_bit_is_ignored_while_an_update_is_under_way(ends: Pair) -> None:
    late, *_ = ends.initiator.seal(b"late")
    ends.initiator.protection.update_keys(0.0)
    first, second = ends.initiator.seal(b"first", b"second")
    assert len(ends.responder.open([first])) == 1
    before = ends.responder.snapshot()
    assert ends.responder.open([flip_phase(late), flip_phase(second), flip_phase(first)]) == []
    assert ends.responder.snapshot() == before
    assert [plain for _, plain in ends.responder.open([late, second])] == [b"late", b"second"]


def test_the_peer_may_not_update_before_it_heard_from_us() -> None:
    ends = Pair(ToyCrypto())
    update_against_the_rules(ends.initiator)
    assert violates(ends.responder, ends.initiator.seal(b"x")) == "a key update before the last one was acknowledged"


def test_the_peer_may_not_update_twice_in_a_row(ends: Pair) -> None:
    update_against_the_rules(ends.initiator)
    ends.responder.open(ends.initiator.seal(b"one update"))
    update_against_the_rules(ends.initiator)
    assert violates(ends.responder, ends.initiator.seal(b"x")) == "a key update before the last one was acknowledged"


def test_the_peer_may_not_go_back_to_old_keys(ends: Pair) -> None:
    old_keys = End.__new__(End)
    old_keys.protection = Pair(ToyCrypto()).initiator.protection
    old_keys.sending = ends.initiator.sending
    ends.initiator.protection.update_keys(0.0)
    ends.responder.open(ends.initiator.seal(b"new"))
    old_keys.protection.next_number = ends.initiator.protection.next_number
    datagrams = old_keys.seal(b"old keys, higher number")
    assert violates(ends.responder, datagrams) == "old keys under a number above that of newer ones"


def test_the_peer_may_not_use_new_keys_below_a_number_of_old_ones(ends: Pair) -> None:
    ends.responder.open(ends.initiator.seal(b"1", b"2", b"3"))
    update_against_the_rules(ends.initiator)
    ends.initiator.protection.next_number = 2
    datagrams = ends.initiator.seal(b"x")
    assert violates(ends.responder, datagrams) == "new keys under a number below that of older ones"


def test_the_peer_may_not_use_new_keys_below_a_number_of_old_ones_after_the_update_either(ends: Pair) -> None:
    ends.responder.open(ends.initiator.seal(b"1", b"2", b"3"))
    ends.initiator.protection.update_keys(0.0)
    ends.responder.open(ends.initiator.seal(b"4"))
    ends.initiator.protection.next_number = 2
    datagrams = ends.initiator.seal(b"x")
    assert violates(ends.responder, datagrams) == "new keys under a number below that of older ones"


def test_the_peer_may_not_acknowledge_new_keys_under_old_ones(ends: Pair) -> None:
    ends.initiator.protection.update_keys(0.0)
    ends.initiator.seal(b"under the new keys")
    ends.initiator.open(ends.responder.seal(b"an ACK of it, by a responder that didn't follow"))
    with pytest.raises(Violation, match="acknowledged new keys under its old ones"):
        ends.initiator.protection.on_acked(1, 0.0)


def test_a_peer_that_acknowledges_nothing_can_not_wear_our_key_out() -> None:
    """What it sends makes us acknowledge, and what we send so is never acknowledged: our key can't be renewed."""
    net = endpoints.Pair()
    ours, theirs = net.connect()
    net.rest()
    protection = channel_of(ours).protection
    protection._limits = KeyLimits(packets=100, most=200)

    def flood() -> bool:
        if theirs.error is None:
            theirs.send_datagram(bytes(1000))
        ours.read_datagram()
        return ours.error is not None and theirs.error is not None

    net.run_until(flood, 120.0)
    assert protection.phase == 1  # the first key was acknowledged, as the handshake's end is
    assert 200 <= protection._sealed <= 200 + 64 + 3
    for session in (ours, theirs):
        assert isinstance(session.error, SessionClosedError)
        assert session.error.code == ErrorCode.AEAD_LIMIT
    (told,) = net.alice.told(SessionClosed)
    assert "lets no new keys come" in told.message


def test_nor_by_saying_goodbye_again_and_again() -> None:
    net = endpoints.Pair()
    ours, theirs = net.connect()
    net.rest()
    channel_of(theirs).protection._limits = KeyLimits(packets=100, most=200)
    before = channel_of(ours).protection.next_number
    goodbye = SessionClose(0, "").encode()
    for _ in range(1000):
        (datagram,) = sealed(theirs, goodbye, now=net.now)
        net.alice.endpoint.receive_datagram(datagram, net.bob.path, net.now)
        net.settle()
    assert channel_of(ours).protection.next_number - before <= MAX_WORDS + 1
