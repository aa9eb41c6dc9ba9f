"""The connecting side: what it repeats and when, what it believes, and how it ends."""

from __future__ import annotations

import hashlib

import pytest

from stt_core.errors import (
    AuthenticationError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    PeerBusyError,
    VersionError,
)
from stt_core.handshake import Identity, Initiator
from stt_core.packet import (
    VERSION,
    HandshakeType,
    Reject,
    RejectCode,
    Retry,
    Versions,
    parse_header_untrusted,
    parse_hello_untrusted,
)
from stt_core.types import Path, Role, Suite
from tests.handshake.pair import (
    ALICE,
    BOB,
    CRYPTO,
    DELAY,
    SEED,
    START,
    Wire,
    alice,
    bob,
    config_of,
    entropy_of,
    hello_of,
    proof_of,
    reply_of,
    seed_of,
    sent,
    with_seed,
)


def run_timers(initiator: Initiator, until: float) -> list[tuple[float, bytes]]:
    """All datagrams up to ``until`` seconds after the start, with their times since the start."""
    out = [(0.0, data) for data in sent(initiator)]
    while (at := initiator.next_timer()) is not None and at <= START + until:
        initiator.handle_timer(at)
        out += [(at - START, data) for data in sent(initiator, at)]
    return out


def fail(initiator: Initiator, until: float = 30.0) -> Exception:
    run_timers(initiator, until)
    assert initiator.failure is not None
    return initiator.failure


def test_two_holders_of_one_seed_get_the_same_session() -> None:
    wire = Wire(alice(), bob()).run()
    mine, (accepted,) = wire.initiator.result, wire.accepted
    theirs = accepted.result
    assert mine is not None
    assert (mine.role, theirs.role) == (Role.INITIATOR, Role.RESPONDER)
    assert (mine.master, mine.session_id, mine.suite) == (theirs.master, theirs.session_id, theirs.suite)
    assert (mine.local_cid, mine.peer_cid) == (theirs.peer_cid, theirs.local_cid)
    assert (mine.peer_node_id, theirs.peer_node_id) == (BOB, ALICE)
    assert mine.peer_parameters.initial_max_data == 222
    assert mine.peer_parameters.reset_token == theirs.local_cid * 2
    assert theirs.peer_parameters.initial_max_data == 111
    assert mine.peer_identity_key == Identity(seed_of(BOB), CRYPTO, entropy_of("")).public
    assert theirs.peer_identity_key == Identity(seed_of(ALICE), CRYPTO, entropy_of("")).public
    assert mine.master.hex() not in repr(mine)
    assert len(wire.to_responder) == len(wire.to_initiator) == 2
    assert wire.now == pytest.approx(START + 4 * DELAY)


def test_the_same_entropy_and_times_give_the_same_bytes() -> None:
    one, two = (Wire(alice(), bob()).run() for _ in range(2))
    assert one.to_responder == two.to_responder
    assert one.to_initiator == two.to_initiator


def test_datagram_sizes_do_not_depend_on_what_is_said() -> None:
    long = Wire(alice(config=config_of(b"x" * 255)), bob(config=config_of(b"y" * 255))).run()
    short = Wire(alice(config=config_of(b"x")), bob(config=config_of(b"y"))).run()
    for wire in (long, short):
        assert [len(data) for data in wire.to_responder] == [256, 1200]
        assert [len(data) for data in wire.to_initiator] == [142, 1200]


def test_on_websocket_nothing_is_padded() -> None:
    wire = Wire(alice(padded=False), bob(), path=Path("websocket", ("203.0.113.7", 80))).run()
    assert wire.initiator.result is not None
    assert max(len(data) for data in wire.to_responder + wire.to_initiator) < 600


def test_hello_is_repeated_with_doubling_waits_until_the_timeout() -> None:
    initiator = alice(timeout=10.0)
    hellos = run_timers(initiator, 30.0)
    assert [round(at, 6) for at, _ in hellos] == [0.0, 0.4, 1.2, 2.8, 6.0, 9.2]
    assert len({data for _, data in hellos}) == 1
    assert isinstance(initiator.failure, ConnectionTimeoutError)
    assert not initiator.failure.challenged


@pytest.mark.parametrize(("round_trip", "expected"), [(0.1, [0.4, 1.2, 2.8]), (0.35, [0.7, 2.1, 4.9])])
def test_auth_proof_is_repeated_unchanged_by_the_measured_round_trip(round_trip: float, expected: list[float]) -> None:
    initiator, responder = alice(timeout=9.0), bob()
    challenge = reply_of(responder, hello_of(initiator))
    initiator.receive_packet(challenge, START + round_trip)
    proofs = [
        (at, data)
        for at, data in run_timers(initiator, 6.0)
        if parse_header_untrusted(data).type is HandshakeType.AUTH_PROOF
    ]
    first = [at for at, data in proofs if data == proofs[0][1]]
    assert [round(at - round_trip, 6) for at in first[1:]] == expected


def test_the_wait_after_a_challenge_exceeds_a_round_trip_whichever_hello_it_answers() -> None:
    """With a round trip of 1.3 s the CHALLENGE comes just after the third HELLO; it answers the first."""
    wire = Wire(alice(timeout=30.0), bob(), delay=0.65).run()
    assert wire.initiator.result is not None
    types = [parse_header_untrusted(data).type for data in wire.to_responder]
    assert types.count(HandshakeType.AUTH_PROOF) == 1
    assert wire.initiator.result.rtt == pytest.approx(1.3)


def test_the_round_trip_is_reported_only_when_nothing_was_repeated() -> None:
    clean = Wire(alice(), bob()).run().initiator.result
    lost = Wire(alice(), bob(), back=lambda data, index: None if index < 2 else data).run().initiator.result
    assert clean is not None
    assert clean.rtt == pytest.approx(2 * DELAY)
    assert lost is not None
    assert lost.rtt is None or lost.rtt == pytest.approx(2 * DELAY)


@pytest.mark.parametrize("lost", range(2 * 2))
def test_any_one_lost_datagram_costs_one_wait(lost: int) -> None:
    forth, back = (lambda data, index, way=way: None if lost == 2 * index + way else data for way in (0, 1))
    wire = Wire(alice(), bob(), forth=forth, back=back).run()
    assert wire.initiator.result is not None
    assert len(wire.accepted) == 1
    assert wire.now - START == pytest.approx(4 * DELAY + 0.4)


def test_a_quarter_of_all_datagrams_may_be_lost() -> None:
    for number in range(40):

        def drop(data: bytes, index: int, number: int = number) -> bytes | None:
            return None if hashlib.sha256(data + b"%d,%d" % (index, number)).digest()[0] < 64 else data

        wire = Wire(alice(f"alice{number}", timeout=20.0), bob(), forth=drop, back=drop).run()
        assert wire.initiator.result is not None, number
        assert len({data for data in wire.to_responder if data[0] == 0xC3}) <= 2


def test_a_silent_peer_after_challenge_is_told_apart_from_nobody() -> None:
    initiator, responder = alice(timeout=3.0), bob()
    proof_of(initiator, responder)
    failure = fail(initiator)
    assert isinstance(failure, ConnectionTimeoutError)
    assert failure.challenged
    assert "never proved" in str(failure)


def test_icmp_ends_a_connect_only_before_a_challenge() -> None:
    initiator = alice()
    initiator.receive_unreachable(START)
    assert isinstance(initiator.failure, ConnectionRefusedError)

    initiator = alice()
    initiator.receive_packet(reply_of(bob(), hello_of(initiator)), START)
    initiator.receive_unreachable(START)
    assert not initiator.done


def test_a_wrong_seed_is_told_after_four_more_transmissions_within_a_second_or_so() -> None:
    wire = Wire(alice(), bob(config=with_seed(BOB, b"another seed than hers"))).run()
    assert isinstance(wire.initiator.failure, AuthenticationError)
    assert wire.now - START == pytest.approx(4 * DELAY + 3 * 0.2 + 0.4)
    proofs = [data for data in wire.to_responder if data[0] == 0xC3]
    assert len(proofs) == 1 + 4
    assert len(set(proofs)) == 1
    assert wire.responder.counters.pake_operations == 1
    assert [type(refused.error) for refused in wire.refused] == [AuthenticationError]


def test_another_peer_than_the_one_named_is_as_a_wrong_seed() -> None:
    wire = Wire(alice(peer_node_id=b"Carol"), bob()).run()
    assert isinstance(wire.initiator.failure, AuthenticationError)
    assert "named" in str(wire.initiator.failure)
    assert not wire.accepted
    assert Wire(alice(peer_node_id=BOB), bob()).run().initiator.result is not None


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (RejectCode.AUTHENTICATION, AuthenticationError),
        (RejectCode.BUSY, PeerBusyError),
        (RejectCode.REFUSED, ConnectionRefusedError),
    ],
)
def test_each_reject_has_its_error_and_all_wait(code: RejectCode, error: type[Exception]) -> None:
    initiator = alice()
    proof = proof_of(initiator, bob())
    header = parse_header_untrusted(proof)
    echo = hashlib.sha256(proof).digest()[:16]
    initiator.receive_packet(Reject(VERSION, header.scid, header.dcid, code, echo).encode(), START)
    assert not initiator.done
    assert run_timers(initiator, 0.99) == [(0.0, proof), *((pytest.approx(at), proof) for at in (0.2, 0.4, 0.6))]
    assert not initiator.done
    assert isinstance(fail(initiator), error)


def test_an_error_is_not_believed_by_who_was_asleep_while_it_could_have_been_refuted() -> None:
    initiator, responder = alice(), bob()
    proof = proof_of(initiator, responder)
    header = parse_header_untrusted(proof)
    echo = hashlib.sha256(proof).digest()[:16]
    forged = Reject(VERSION, header.scid, header.dcid, RejectCode.AUTHENTICATION, echo)
    initiator.receive_packet(forged.encode(), START)
    assert sent(initiator) == [proof]
    late = START + 8.0
    initiator.handle_timer(late)
    assert sent(initiator, late) == [proof]
    initiator.receive_packet(reply_of(responder, proof, now=late), late + 0.1)
    assert initiator.result is not None


def test_a_reject_of_something_else_means_nothing() -> None:
    initiator = alice()
    proof = proof_of(initiator, bob())
    header = parse_header_untrusted(proof)
    initiator.receive_packet(Reject(VERSION, header.scid, header.dcid, RejectCode.BUSY, bytes(16)).encode(), START)
    assert sent(initiator) == []
    assert initiator.dropped == 1


def test_a_remembered_error_is_not_believed_because_time_ran_out() -> None:
    wire = Wire(alice(timeout=0.3), bob(config=with_seed(BOB, b"another seed than hers"))).run()
    failure = wire.initiator.failure
    assert isinstance(failure, ConnectionTimeoutError)
    assert failure.challenged
    assert "turned down" in str(failure)


def test_after_two_proofs_without_an_answer_a_fresh_attempt_joins_and_either_final_counts() -> None:
    for old in (True, False):
        initiator, responder = alice(), bob()
        first = proof_of(initiator, responder)
        out = run_timers(initiator, 1.3)
        assert [data for _, data in out[:2]] == [first, first]
        fresh = out[2][1]
        assert parse_header_untrusted(fresh).type is HandshakeType.HELLO
        now = START + 1.3
        initiator.receive_packet(reply_of(responder, fresh, now=now), now)
        (second,) = sent(initiator, now)
        assert second[0] == 0xC3
        assert second != first
        initiator.receive_packet(reply_of(responder, first if old else second, now=now), now)
        assert initiator.result is not None


def test_there_is_no_third_attempt() -> None:
    initiator, responder = alice(timeout=60.0), bob()
    hellos, proofs = set(), set()
    pending = sent(initiator)
    while not initiator.done:
        at = initiator.next_timer()
        assert at is not None
        for data in pending:
            if data[0] == 0xC1:
                hellos.add(data)
                initiator.receive_packet(reply_of(responder, data, now=at), at)
            else:
                proofs.add(data)
        initiator.handle_timer(at)
        pending = sent(initiator, at)
    assert len(hellos) == len(proofs) == 2


def test_an_allowance_refused_delays_the_proof_and_nothing_else() -> None:
    allowed = START + 1.0
    asked: list[float] = []

    def allow(now: float) -> bool:
        asked.append(now)
        return now >= allowed

    initiator, responder = alice(allow_proof=allow), bob()
    initiator.receive_packet(reply_of(responder, hello_of(initiator)), START)
    assert initiator.waiting_for_budget
    out = run_timers(initiator, 1.03)
    assert [data[0] for _, data in out] == [0xC3]
    assert len(asked) < 50
    initiator.receive_packet(reply_of(responder, out[0][1], now=allowed + 0.1), allowed + 0.1)
    assert initiator.result is not None


def test_a_proof_whose_cookie_expired_while_it_waited_is_made_anew() -> None:
    initiator, responder = alice(timeout=30.0, allow_proof=lambda now: now >= START + 15), bob()
    initiator.receive_packet(reply_of(responder, hello_of(initiator)), START)
    (at, hello), *_ = run_timers(initiator, 10.1)
    assert hello[0] == 0xC1
    assert 10.0 <= at <= 10.1
    now = START + at
    initiator.receive_packet(reply_of(responder, hello, now=now), now)
    (proof, *_) = [data for _, data in run_timers(initiator, 15.1) if data[0] == 0xC3]
    initiator.receive_packet(reply_of(responder, proof, now=START + 15.1), START + 15.1)
    assert initiator.result is not None


def test_an_allowance_never_given_times_out_and_says_so() -> None:
    initiator = alice(allow_proof=lambda _now: False)
    initiator.receive_packet(reply_of(bob(), hello_of(initiator)), START)
    failure = fail(initiator)
    assert isinstance(failure, ConnectionTimeoutError)
    assert failure.challenged
    assert "no more proofs" in str(failure)


def test_a_retry_is_answered_once_with_its_token_and_the_same_nonce() -> None:
    initiator = alice()
    first = parse_hello_untrusted(hello_of(initiator))
    retry = Retry(VERSION, first.scid, first.nonce_i, bytes(range(21)))
    initiator.receive_packet(retry.encode(), START)
    second = parse_hello_untrusted(hello_of(initiator))
    assert second == first._replace(token=bytes(range(21)))
    initiator.receive_packet(retry.encode(), START)
    assert sent(initiator) == []


def test_a_retry_with_another_nonce_or_after_a_challenge_means_nothing() -> None:
    initiator = alice()
    hello = hello_of(initiator)
    parsed = parse_hello_untrusted(hello)
    initiator.receive_packet(Retry(VERSION, parsed.scid, bytes(32), bytes(21)).encode(), START)
    assert sent(initiator) == []
    initiator.receive_packet(reply_of(bob(), hello), START)
    assert len(sent(initiator)) == 1
    initiator.receive_packet(Retry(VERSION, parsed.scid, parsed.nonce_i, bytes(21)).encode(), START)
    assert sent(initiator) == []


def test_a_challenge_to_the_hello_before_a_forged_retry_still_counts() -> None:
    initiator, responder = alice(), bob()
    hello = hello_of(initiator)
    parsed = parse_hello_untrusted(hello)
    challenge = reply_of(responder, hello)
    initiator.receive_packet(Retry(VERSION, parsed.scid, parsed.nonce_i, bytes(21)).encode(), START)
    sent(initiator)
    initiator.receive_packet(challenge, START)
    (proof,) = sent(initiator)
    initiator.receive_packet(reply_of(responder, proof), START)
    assert initiator.result is not None


def test_a_forged_retry_does_not_keep_out_the_peers_own() -> None:
    """The forgery used up the one RETRY of this attempt; a fresh attempt has one of its own."""

    def forge(data: bytes, index: int) -> bytes:
        return data[:-1] + bytes((data[-1] ^ 1,)) if index == 0 else data

    wire = Wire(alice(), bob(config=config_of(BOB, validate_address=True)), back=forge).run()
    assert wire.initiator.result is not None


def test_versions_that_share_none_are_remembered_and_then_believed() -> None:
    initiator = alice()
    hello = parse_hello_untrusted(hello_of(initiator))
    initiator.receive_packet(Versions(VERSION, hello.scid, hello.nonce_i, (9, 10)).encode(), START)
    assert not initiator.done
    assert len(sent(initiator)) == 1
    assert len(run_timers(initiator, 0.99)) == 3
    assert isinstance(fail(initiator), VersionError)


def test_a_challenge_after_a_forged_versions_counts() -> None:
    initiator = alice()
    hello = hello_of(initiator)
    parsed = parse_hello_untrusted(hello)
    initiator.receive_packet(Versions(VERSION, parsed.scid, parsed.nonce_i, (9,)).encode(), START)
    sent(initiator)
    responder = bob()
    initiator.receive_packet(reply_of(responder, hello), START)
    (proof,) = sent(initiator)
    initiator.receive_packet(reply_of(responder, proof), START)
    assert initiator.result is not None


def test_versions_naming_the_one_in_use_was_not_written_by_the_peer() -> None:
    initiator = alice()
    hello = parse_hello_untrusted(hello_of(initiator))
    initiator.receive_packet(Versions(VERSION, hello.scid, hello.nonce_i, (VERSION,)).encode(), START)
    assert sent(initiator) == []
    assert initiator.dropped == 1


def test_an_older_peer_is_met_in_its_version() -> None:
    newer = VERSION + 1
    wire = Wire(alice(versions=(newer, VERSION)), bob()).run()
    assert wire.initiator.result is not None
    assert [parse_header_untrusted(data).version for data in wire.to_responder] == [newer, VERSION, VERSION]
    assert parse_hello_untrusted(wire.to_responder[1]).versions == (newer, VERSION)


@pytest.mark.parametrize("offered", [0, 3, 4])
def test_a_suite_that_is_not_one_of_ours_is_no_answer(offered: int) -> None:
    initiator = alice()
    challenge = reply_of(bob(), hello_of(initiator))
    initiator.receive_packet(challenge[:85] + offered.to_bytes(2, "big") + challenge[87:], START)
    assert sent(initiator) == []


@pytest.mark.parametrize(
    ("hers", "his", "suite"),
    [
        (True, True, Suite.CHACHA20_POLY1305),
        (True, False, Suite.AES_256_GCM),
        (False, True, Suite.AES_256_GCM),
        (False, False, Suite.AES_256_GCM),
    ],
)
def test_chacha_is_used_where_both_prefer_it(hers: bool, his: bool, suite: Suite) -> None:
    wire = Wire(alice(config=config_of(ALICE, prefer_chacha=hers)), bob(config=config_of(BOB, prefer_chacha=his))).run()
    assert wire.initiator.result is not None
    assert wire.initiator.result.suite is wire.accepted[0].result.suite is suite


def test_a_pinned_key_must_be_proved() -> None:
    right = Identity(seed_of(BOB), CRYPTO, entropy_of("")).public
    assert Wire(alice(peer_key=right), bob()).run().initiator.result is not None
    wire = Wire(alice(peer_key=b"k" * 32), bob()).run()
    assert isinstance(wire.initiator.failure, AuthenticationError)
    assert wire.initiator.peer_verified


def test_once_done_it_keeps_nothing_and_does_nothing() -> None:
    wire = Wire(alice(), bob()).run()
    initiator = wire.initiator
    result = initiator.result
    assert initiator.next_timer() is None
    for data in wire.to_initiator:
        initiator.receive_packet(data, wire.now)
    initiator.receive_unreachable(wire.now)
    initiator.handle_timer(wire.now + 100)
    assert sent(initiator, wire.now) == []
    assert initiator.result is result
    assert initiator.failure is None
    assert initiator._attempts == []


def test_datagrams_of_any_kind_are_survived() -> None:
    initiator = alice()
    wire = Wire(alice("another"), bob()).run()
    cid = parse_header_untrusted(hello_of(initiator)).scid
    for data in [*wire.to_initiator, *wire.to_responder, b"", b"\xc4", bytes(1200)]:
        for kind in range(8):
            initiator.receive_packet(data, START)
            initiator.receive_packet(bytes((0xC0 | kind,)) + data[1:5] + cid + data[13:], START)
    assert not initiator.done
    assert sent(initiator) == []


def test_a_low_order_share_is_dropped_and_the_true_challenge_still_counts() -> None:
    initiator, responder = alice(), bob()
    hello = hello_of(initiator)
    true = reply_of(responder, hello)
    head = true[:53] + bytes(32) + true[85:89]
    th1 = hashlib.sha256(b"\x08STT1 th1" + b"\x80\x02" + hello + b"\x59" + head).digest()
    initiator.receive_packet(head + true[89:94] + th1 + true[126:], START)
    assert sent(initiator) == []
    assert not initiator.challenged
    initiator.receive_packet(true, START)
    assert len(sent(initiator)) == 1


def test_two_nodes_of_one_name_do_not_connect() -> None:
    wire = Wire(alice(config=config_of(BOB)), bob()).run()
    assert isinstance(wire.initiator.failure, ConnectionRefusedError)
    assert "own node id" in str(wire.refused[0].error)


def test_seeds_are_not_shown() -> None:
    initiator = alice()
    assert SEED.decode() not in repr(initiator._setup)
