"""The answering side: what it remembers, what it rations, and what it lets go of."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from stt_core.handshake import PENDING_LIFETIME, Accepted, Refused
from stt_core.handshake.cookie import BOUND_SCALARS
from stt_core.handshake.responder import Outcome
from stt_core.packet import (
    VERSION,
    HandshakeType,
    RejectCode,
    parse_header_untrusted,
    parse_hello_untrusted,
    parse_reject_untrusted,
    parse_retry_untrusted,
    parse_versions_untrusted,
)
from stt_core.types import Path, RateLimits
from tests.handshake.pair import (
    ALICE,
    BOB,
    PATH,
    START,
    Wire,
    alice,
    bob,
    config_of,
    hello_of,
    proof_of,
    reply_of,
    sent,
    with_seed,
)

LOOPBACK = Path("udp", ("127.0.0.1", 4433))
WEBSOCKET = Path("websocket", ("203.0.113.7", 80))


def kind(data: Outcome) -> HandshakeType:
    assert isinstance(data, bytes)
    return parse_header_untrusted(data).type


def limited(**limits: Any) -> Any:
    return config_of(BOB, rate_limits=RateLimits(**limits))


def path(host: int, port: int = 1) -> Path:
    return Path("udp", (f"198.51.{host // 256}.{host % 256}", port))


def test_nothing_is_remembered_of_a_hello_but_the_scalars_of_the_last_few() -> None:
    responder = bob()
    hello = hello_of(alice())
    tracemalloc.start()
    try:
        for _ in range(2 * BOUND_SCALARS):
            reply_of(responder, hello, Path("udp", ("127.0.0.1", 1)))
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            reply_of(responder, hello, Path("udp", ("127.0.0.1", 1)))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 2000
    assert (responder.half_open, responder.remembered) == (0, 0)


def test_an_idle_responder_has_no_timer_and_a_used_one_comes_to_rest() -> None:
    responder = bob()
    assert responder.next_timer() is None
    Wire(alice(), responder).run()
    timers = []
    while (at := responder.next_timer()) is not None:
        timers.append(at - START)
        responder.handle_timer(at)
    assert timers == pytest.approx([10.15, 30.05, 60.05], abs=0.01)
    assert (responder.half_open, responder.remembered) == (0, 0)


def test_the_same_proof_gets_the_same_final_until_the_session_speaks() -> None:
    responder = bob()
    proof = proof_of(alice(), responder)
    outcome = responder.receive_packet(proof, PATH, START)
    assert isinstance(outcome, Accepted)
    assert responder.receive_packet(proof, PATH, START + 9) == outcome.final
    responder.established(outcome.result.local_cid, START + 9)
    assert responder.half_open == 0
    assert responder.receive_packet(proof, PATH, START + 9.5) is None
    assert responder.counters.pake_operations == 1


def test_a_session_that_never_speaks_is_forgotten_and_its_nonce_is_not_reopened() -> None:
    responder = bob()
    initiator = alice()
    challenge = reply_of(responder, hello_of(initiator))
    initiator.receive_packet(challenge, START)
    (proof,) = sent(initiator)
    late = START + 9.9
    assert isinstance(responder.receive_packet(proof, PATH, late), Accepted)
    assert responder.receive_packet(proof, PATH, START + 10.1) is None, "the cookie is too old"
    responder.handle_timer(late + PENDING_LIFETIME)
    assert responder.half_open == 0


def test_a_forgotten_session_is_not_accepted_again_by_the_same_proof() -> None:
    responder = bob()
    proof = proof_of(alice(), responder)
    outcome = responder.receive_packet(proof, PATH, START)
    assert isinstance(outcome, Accepted)
    responder.forget(outcome.result.local_cid, START)
    responder.forget(outcome.result.local_cid, START)
    assert responder.receive_packet(proof, PATH, START) is None
    assert responder.counters.accepted == 1


def test_at_the_cookies_last_instant_its_nonce_is_still_remembered() -> None:
    """The two lifetimes meet exactly: neither leaves the other a moment for a second guess."""
    responder = bob()
    proof = proof_of(alice(), responder)
    assert isinstance(responder.receive_packet(proof, PATH, START), Accepted)
    for at in (9.999, 10.0, 10.001):
        responder.receive_packet(proof, PATH, START + at)
    assert responder.counters.pake_operations == 1


def test_without_room_for_a_session_it_says_busy_and_does_no_work() -> None:
    room = False
    responder = bob(admit=lambda: room)
    initiator = alice()
    proof = proof_of(initiator, responder)
    reply = reply_of(responder, proof)
    assert parse_reject_untrusted(reply).code is RejectCode.BUSY
    assert responder.counters.pake_operations == 0
    room = True
    initiator.receive_packet(reply, START)
    (again,) = sent(initiator)
    initiator.receive_packet(reply_of(responder, again), START)
    assert initiator.result is not None, "the retransmission found room"


def test_half_open_sessions_are_bounded() -> None:
    responder = bob(config=limited(half_open=3))
    outcomes = [responder.receive_packet(proof_of(alice(f"a{n}"), responder), PATH, START) for n in range(5)]
    assert [isinstance(outcome, Accepted) for outcome in outcomes] == [True] * 3 + [False] * 2
    assert kind(outcomes[-1]) is HandshakeType.REJECT
    assert responder.half_open == 3
    accepted = outcomes[0]
    assert isinstance(accepted, Accepted)
    responder.established(accepted.result.local_cid, START)
    assert isinstance(responder.receive_packet(proof_of(alice("b"), responder), PATH, START), Accepted)


def test_a_full_table_of_nonces_drops_rather_than_forgets() -> None:
    responder = bob(config=limited(used_nonces=2))
    proofs = [proof_of(alice(f"a{n}"), responder) for n in range(3)]
    assert [isinstance(responder.receive_packet(proof, PATH, START), Accepted) for proof in proofs] == [
        True,
        True,
        False,
    ]
    assert responder.receive_packet(proofs[2], PATH, START) is None
    assert responder.counters.pake_operations == 2


def test_unvalidated_hellos_beyond_the_burst_get_a_retry_and_then_their_challenge() -> None:
    responder = bob(config=limited(hello_burst=3))
    kinds = [kind(responder.receive_packet(hello_of(alice(f"a{n}")), path(n), START)) for n in range(4)]
    assert kinds == [HandshakeType.CHALLENGE] * 3 + [HandshakeType.RETRY]
    wire = Wire(alice(), bob(config=limited(hello_burst=0))).run()
    assert [data[0] & 15 for data in wire.to_responder] == [1, 1, 3]
    assert wire.initiator.result is not None


def test_validation_may_be_asked_of_everybody() -> None:
    responder = bob(config=config_of(BOB, validate_address=True))
    hello = hello_of(alice())
    retry = parse_retry_untrusted(reply_of(responder, hello))
    assert retry.nonce_i == parse_hello_untrusted(hello).nonce_i
    assert kind(responder.receive_packet(hello, LOOPBACK, START)) is HandshakeType.CHALLENGE
    assert kind(responder.receive_packet(hello, WEBSOCKET, START)) is HandshakeType.CHALLENGE
    token = responder.address_token(Path("udp", ("203.0.113.7", 1)), START)
    returning = hello_of(alice(address_token=token))
    assert kind(responder.receive_packet(returning, PATH, START)) is HandshakeType.CHALLENGE
    assert kind(responder.receive_packet(returning, path(1), START)) is HandshakeType.RETRY
    assert kind(responder.receive_packet(hello_of(alice(address_token=b"junk")), PATH, START)) is HandshakeType.RETRY


def test_validated_hellos_are_rationed_by_prefix() -> None:
    responder = bob()
    token = responder.address_token(PATH, START)
    hello = hello_of(alice(address_token=token))
    replies = [responder.receive_packet(hello, PATH, START) for _ in range(25)]
    assert [kind(reply) for reply in replies] == [HandshakeType.CHALLENGE] * 20 + [HandshakeType.RETRY] * 5
    assert kind(responder.receive_packet(hello_of(alice()), PATH, START)) is HandshakeType.CHALLENGE


def test_hellos_that_answer_a_retry_have_a_ration_of_their_own() -> None:
    responder = bob(config=limited(hello_burst=0))
    addressed = hello_of(alice(address_token=responder.address_token(PATH, START)))
    initiator = alice("retried")
    initiator.receive_packet(reply_of(responder, hello_of(initiator)), START)
    retried = hello_of(initiator)
    replies = [responder.receive_packet(addressed, PATH, START) for _ in range(25)]
    assert [kind(reply) for reply in replies[20:]] == [HandshakeType.RETRY] * 5
    replies = [responder.receive_packet(retried, PATH, START) for _ in range(25)]
    assert [kind(reply) for reply in replies[:20]] == [HandshakeType.CHALLENGE] * 20
    assert replies[20:] == [None] * 5


def test_proofs_are_rationed_by_prefix_except_from_loopback() -> None:
    for where, evaluated in ((PATH, 10), (LOOPBACK, 14)):
        responder = bob()
        proofs = [proof_of(alice(f"a{n}"), responder, where) for n in range(14)]
        for proof in proofs:
            responder.receive_packet(proof, where, START)
        assert responder.counters.pake_operations == evaluated


def test_without_rate_limits_the_guess_budget_remains() -> None:
    responder = bob(config=config_of(BOB, rate_limits=None))
    wrong = with_seed(ALICE, b"a guess at the seed")
    for number in range(300):
        reply_of(responder, hello_of(alice(f"h{number}")), path(number))
    assert responder.counters.challenges_sent == 300
    for number in range(10):
        responder.receive_packet(proof_of(alice(f"a{number}", config=wrong), responder), PATH, START)
    assert responder.counters.pake_operations == 5


def test_an_unknown_version_gets_the_list_of_ours() -> None:
    responder = bob()
    hello = hello_of(alice(versions=(7, 8)))
    versions = parse_versions_untrusted(reply_of(responder, hello))
    assert versions.versions == (VERSION,)
    assert versions.nonce_i == parse_hello_untrusted(hello).nonce_i
    assert len(versions.encode()) <= len(hello)
    assert responder.receive_packet(hello[:255], PATH, START) is None


def test_a_hello_talked_down_from_a_better_version_is_dropped() -> None:
    newer = VERSION + 1
    responder = bob(versions=(newer, VERSION))
    initiator = alice(versions=(VERSION, newer))
    assert responder.receive_packet(hello_of(initiator), PATH, START) is None
    assert kind(responder.receive_packet(hello_of(alice(versions=(newer, VERSION))), PATH, START)) is (
        HandshakeType.CHALLENGE
    )


def test_a_hello_that_is_not_padded_is_dropped_on_udp() -> None:
    responder = bob()
    short = hello_of(alice(padded=False))
    assert responder.receive_packet(short, PATH, START) is None
    assert kind(responder.receive_packet(short, WEBSOCKET, START)) is HandshakeType.CHALLENGE


def test_a_proof_that_is_not_padded_is_dropped_on_udp() -> None:
    responder = bob()
    proof = proof_of(alice(padded=False), responder, WEBSOCKET)
    assert responder.receive_packet(proof, PATH, START) is None
    assert isinstance(responder.receive_packet(proof, WEBSOCKET, START), Accepted)


def test_no_suite_in_common_gets_no_answer() -> None:
    hello = hello_of(alice())
    assert bob().receive_packet(hello[:53] + b"\0\x04" + hello[55:], PATH, START) is None


def test_a_node_that_does_not_accept_is_silent() -> None:
    responder = bob(config=config_of(BOB, accept=False))
    assert responder.receive_packet(hello_of(alice()), PATH, START) is None


def test_its_own_hello_thrown_back_gets_no_answer() -> None:
    initiator = alice()
    hello = hello_of(initiator)
    responder = bob(owns_nonce=initiator.owns_nonce)
    assert responder.receive_packet(hello, PATH, START) is None
    assert kind(responder.receive_packet(hello_of(alice("other")), PATH, START)) is HandshakeType.CHALLENGE


def test_a_peer_with_our_node_id_is_refused_and_not_charged_as_a_guess() -> None:
    responder = bob()
    for number in range(8):
        proof = proof_of(alice(f"a{number}", config=config_of(BOB)), responder)
        outcome = responder.receive_packet(proof, PATH, START)
        assert isinstance(outcome, Refused)
        assert outcome.reply is not None
        assert parse_reject_untrusted(outcome.reply).code is RejectCode.REFUSED
        assert responder.receive_packet(proof, PATH, START) == outcome.reply
    assert responder.counters.authentication_failures == 0


def test_datagrams_of_any_kind_are_survived_and_counted() -> None:
    responder = bob()
    wire = Wire(alice(), bob("other")).run()
    junk = [*wire.to_initiator, wire.to_responder[1], b"", b"\xc1", b"\xc3" + bytes(1199), bytes(1200)]
    for data in junk:
        assert responder.receive_packet(data, PATH, START) is None
    assert responder.statistics()["dropped"] == len(junk)


def test_statistics_name_what_happened() -> None:
    wire = Wire(alice(), bob()).run()
    statistics = wire.responder.statistics()
    assert statistics["challenges_sent"] == statistics["accepted"] == statistics["pake_operations"] == 1
    assert statistics["half_open"] == statistics["used_nonces"] == 1


@pytest.mark.parametrize("address", ["node-a", ("node-a", 1), 7])
def test_addresses_of_a_simulator_do(address: Any) -> None:
    assert Wire(alice(), bob(), path=Path("udp", address)).run().initiator.result is not None
