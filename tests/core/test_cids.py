"""Connection ids in stock (RFC 9000 section 5.1), and what a peer that plays with them gets."""

from __future__ import annotations

import pytest

from stt_core import frames
from stt_core.cids import MOST_APART, STOCK, LocalCids, PeerCid, PeerCids
from stt_core.control import MAX_OUTSTANDING
from stt_core.errors import CloseReason, ErrorCode, Violation
from stt_core.events import SessionClosed
from stt_core.frames import NewCid
from stt_core.session import Session
from tests.core.pair import Pair, channel_of, sealed


def given(sequence: int, retire_before: int = 0, cid: bytes | None = None) -> NewCid:
    return NewCid(sequence, retire_before, cid or sequence.to_bytes(8, "big"), sequence.to_bytes(16, "big"))


def made() -> PeerCids:
    return PeerCids(b"first id", b"f" * 16)


class TestThePeers:
    def test_those_in_stock_are_used_in_their_order_and_once(self) -> None:
        cids = made()
        assert cids.take() is None
        for sequence in (1, 2, 3):
            assert cids.receive(given(sequence)) == []
        assert [cids.take() for _ in range(4)] == [PeerCid(*_fields(given(n))) for n in (1, 2, 3)] + [None]
        assert [cid.sequence for cid in cids.used] == [0, 1, 2, 3]

    def test_a_frame_that_comes_twice_brings_back_nothing(self) -> None:
        cids = made()
        cids.receive(given(1))
        cids.receive(given(1))
        taken = cids.take()
        assert taken is not None
        cids.release(taken)
        assert cids.receive(given(1)) == []
        assert cids.take() is None

    def test_more_than_the_stock_is_a_violation(self) -> None:
        cids = made()
        for sequence in range(1, STOCK):
            cids.receive(given(sequence))
        with pytest.raises(Violation) as caught:
            cids.receive(given(STOCK))
        assert caught.value.code is ErrorCode.CID_LIMIT

    def test_each_that_is_released_makes_room(self) -> None:
        cids = made()
        for sequence in range(1, 100):
            cids.receive(given(sequence))
            taken = cids.take()
            assert taken is not None
            cids.release(cids.used[0])
        assert len(cids.used) == 1

    @pytest.mark.parametrize(
        "second", [given(1, cid=b"another!"), given(2, cid=(1).to_bytes(8, "big")), given(5, cid=b"first id")]
    )
    def test_a_contradiction_is_a_violation(self, second: NewCid) -> None:
        cids = made()
        cids.receive(given(1))
        with pytest.raises(Violation) as caught:
            cids.receive(second)
        assert caught.value.code is ErrorCode.PROTOCOL_VIOLATION

    def test_one_that_retires_itself_is_a_violation(self) -> None:
        with pytest.raises(Violation):
            made().receive(given(1, retire_before=2))

    def test_numbers_far_ahead_are_a_violation(self) -> None:
        cids = made()
        cids.receive(given(2 * STOCK, retire_before=2 * STOCK))
        with pytest.raises(Violation) as caught:
            cids.receive(given(2 * STOCK + 1, retire_before=2 * STOCK + 1))
        assert caught.value.code is ErrorCode.CID_LIMIT

    def test_what_the_peer_calls_back_is_given_back(self) -> None:
        cids = made()
        for sequence in (1, 2, 3):
            cids.receive(given(sequence))
        assert [cid.sequence for cid in cids.receive(given(4, retire_before=3))] == [1, 2]
        assert cids.retire_before == 3
        assert cids.spare == 2


class TestOurs:
    def test_the_peer_is_kept_in_stock(self) -> None:
        cids = LocalCids(b"cid zero")
        assert cids.missing == STOCK - 1
        assert [cids.add(bytes((n,)) * 8) for n in (1, 2, 3)] == [1, 2, 3]
        assert cids.missing == 0
        assert cids.retire(0) is None
        assert cids.missing == 1

    def test_packets_to_a_retired_one_may_be_late(self) -> None:
        cids = LocalCids(b"cid zero")
        gone = []
        for number in range(1, 20):
            cids.add(bytes((number,)) * 8)
            gone.append(cids.retire(number - 1))
        assert gone[:STOCK] == [None] * STOCK
        assert gone[STOCK] == b"cid zero"
        assert len(list(cids)) == STOCK + 1

    def test_retiring_what_was_never_given_is_a_violation(self) -> None:
        with pytest.raises(Violation):
            LocalCids(b"cid zero").retire(1)

    def test_one_who_keeps_one_and_uses_up_many_is_stopped(self) -> None:
        cids = LocalCids(b"cid zero")
        for number in range(1, MOST_APART):
            cids.retire(cids.add(number.to_bytes(8, "big")))
        last = cids.add(b"one more")
        with pytest.raises(Violation) as caught:
            cids.retire(last)
        assert caught.value.code is ErrorCode.CID_LIMIT

    def test_retiring_twice_is_harmless(self) -> None:
        cids = LocalCids(b"cid zero")
        assert cids.retire(0) is None
        assert cids.retire(0) is None
        assert list(cids) == [b"cid zero"]


class TestInASession:
    def test_each_side_soon_has_some_in_stock(self) -> None:
        pair = Pair()
        sessions = pair.connect()
        assert [channel_of(session).migration.local.missing for session in sessions] == [STOCK - 1] * 2
        pair.rest()
        assert [channel_of(session).migration.local.missing for session in sessions] == [0, 0]
        for end in (pair.alice, pair.bob):
            assert len(end.endpoint._routes.sessions) == STOCK

    def test_those_the_peer_calls_back_are_replaced_and_retired(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        before = pair.bob.endpoint._routes.sessions.keys()
        cid, token = pair.bob.endpoint._routes.issue(theirs.key, pair.now)
        sequence = channel_of(theirs).migration.local.add(cid)
        frame = frames.NewCid(sequence, sequence, cid, token).encode()
        self.hear(pair, theirs, frame)
        pair.rest()
        assert channel_of(ours).outbound.peer_mask.cid == cid
        assert ours.reset_tokens == [token]
        assert set(before) > {cid}
        ours.send_datagram(b"under the new one")
        pair.rest()
        assert theirs.read_datagram() == b"under the new one"

    def test_one_who_retires_for_ever_and_acknowledges_nothing_is_stopped(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        for sequence in range(1, 2 * MAX_OUTSTANDING):
            self.hear(pair, theirs, frames.RetireCid(sequence).encode())
            if ours.error is not None:
                break
        pair.settle()
        (closed,) = pair.alice.told(SessionClosed)
        assert (closed.reason, closed.code) == (CloseReason.ERROR, ErrorCode.CID_LIMIT)
        assert len(pair.alice.endpoint._routes.sessions) < 3 * STOCK

    def test_one_who_calls_back_for_ever_and_acknowledges_nothing_is_stopped(self) -> None:
        pair = Pair()
        ours, theirs = pair.connect()
        pair.rest()
        for sequence in range(STOCK, 2 * MAX_OUTSTANDING):
            self.hear(pair, theirs, frames.NewCid(sequence, sequence, sequence.to_bytes(8, "big"), bytes(16)).encode())
            if ours.error is not None:
                break
        pair.settle()
        (closed,) = pair.alice.told(SessionClosed)
        assert closed.code == ErrorCode.CID_LIMIT

    def test_nothing_is_kept_of_a_session_that_is_over(self) -> None:
        pair = Pair()
        ours, _ = pair.connect()
        pair.rest()
        ours.close()
        pair.run(30.0)
        assert len(pair.alice.endpoint._routes) == len(pair.bob.endpoint._routes) == 0

    @staticmethod
    def hear(pair: Pair, theirs: Session, frame: bytes) -> None:
        """Alice gets a genuine packet of Bob's, and nothing she says arrives."""
        (packet,) = sealed(theirs, frame, now=pair.now)
        pair.alice.endpoint.receive_datagram(packet, pair.bob.path, pair.now)


def _fields(frame: NewCid) -> tuple[int, bytes, bytes]:
    return frame.sequence, frame.cid, frame.reset_token
