"""Attackers who want our time, our memory or our bandwidth, and forgers of what we gave away to remember."""

from __future__ import annotations

import tracemalloc

import pytest

from stt_core.handshake import Accepted
from stt_core.packet import HandshakeType, parse_auth_proof_untrusted, parse_header_untrusted
from stt_core.types import Path
from tests.handshake.pair import (
    BOB,
    PATH,
    START,
    alice,
    bob,
    config_of,
    flipped,
    hello_of,
    proof_of,
    reply_of,
    sent,
)

FLOOD = 10_000


def spoofed(number: int) -> Path:
    return Path("udp", (f"198.{18 + number // 65536}.{number // 256 % 256}.{number % 256}", 1024 + number % 5000))


@pytest.mark.parametrize("validate", [False, True], ids=["by default", "validating all"])
def test_a_spoofed_flood_of_hellos_leaves_no_state_and_gets_no_more_bytes_than_it_sent(validate: bool) -> None:
    responder = bob(config=config_of(BOB, validate_address=validate))
    hello = hello_of(alice())
    bytes_out = 0
    tracemalloc.start()
    try:
        # Warm: the epoch's key and whatever is remembered of the latest few. The dict behind a cache of 64 paths that
        # is full allocates its table anew every hundred addresses or so: that has to have happened, too.
        for number in range(1000):
            responder.receive_packet(hello, spoofed(FLOOD + number), START)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(FLOOD):
            # Nothing arrives twice from one address, so nobody ever answers what we send.
            reply = responder.receive_packet(hello, spoofed(number), START + number / FLOOD)
            assert isinstance(reply, bytes)
            assert len(reply) <= len(hello)
            bytes_out += len(reply)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 4096
    assert (responder.half_open, responder.remembered) == (0, 0)
    assert bytes_out <= FLOOD * len(hello)
    assert responder.counters.pake_maps <= (0 if validate else 64 + 200)
    assert responder.counters.pake_operations == 0


def test_the_smallest_hello_is_larger_than_any_answer_to_it() -> None:
    responder = bob(config=config_of(BOB, validate_address=True))
    for initiator in (alice(), alice(versions=(7,)), alice(address_token=b"x" * 64)):
        hello = hello_of(initiator)
        reply = responder.receive_packet(hello, PATH, START)
        assert isinstance(reply, bytes)
        assert len(reply) <= len(hello)


def test_replayed_address_tokens_leave_their_owner_a_way_in() -> None:
    """An address token is readable in a HELLO and bound to the host alone. Whoever read one on the path can send it
    from elsewhere under its owner's address, from any port, as often as it likes; but it can't read the answers.
    """
    responder = bob()
    home = Path("udp", ("192.0.2.1", 5000))
    token = responder.address_token(home, START)
    sent_so_far = 0

    def flood(datagrams: int) -> float:
        """A thousand a second; returns what time it is then."""
        nonlocal sent_so_far
        for _ in range(datagrams):
            sent_so_far += 1
            spoof = Path("udp", ("192.0.2.1", 1024 + sent_so_far))
            hello = hello_of(alice(f"attacker {sent_so_far}", address_token=token))
            responder.receive_packet(hello, spoof, START + sent_so_far / 1000)
        return START + sent_so_far / 1000

    owner = alice("owner", now=flood(200), address_token=token)
    kinds = []
    for _ in range(3):
        now = flood(100)
        (data,) = sent(owner, now)
        reply = reply_of(responder, data, home, now)
        kinds.append(parse_header_untrusted(reply).type)
        owner.receive_packet(reply, now)
    assert kinds == [HandshakeType.RETRY, HandshakeType.CHALLENGE, HandshakeType.FINAL]
    assert owner.result is not None
    assert responder.counters.pake_maps <= 20 + 20 + 1, "what was replayed still costs no more than one's share"


def test_a_flood_of_proofs_with_made_up_cookies_costs_no_pake_work() -> None:
    responder = bob()
    proof = proof_of(alice(), responder)
    for number in range(1, 1001):
        forged = proof[:90] + number.to_bytes(4, "big") + proof[94:]
        assert responder.receive_packet(forged, PATH, START) is None
    assert responder.counters.pake_operations == 0
    assert responder.remembered == 0
    assert isinstance(responder.receive_packet(proof, PATH, START), Accepted)


@pytest.mark.parametrize(
    "path",
    [Path("udp", ("203.0.113.8", 4433)), Path("udp", ("203.0.113.7", 4434)), Path("websocket", ("203.0.113.7", 4433))],
    ids=["another host", "another port", "another transport"],
)
def test_a_stolen_cookie_is_worth_nothing_elsewhere(path: Path) -> None:
    responder = bob()
    proof = proof_of(alice(), responder)
    assert responder.receive_packet(proof, path, START) is None
    assert responder.counters.pake_operations == 0


@pytest.mark.parametrize("age", [10.0, 10.001, 29.0, 45.0, 61.0, 3 * 30.0 * 128])
def test_an_old_cookie_is_worth_nothing(age: float) -> None:
    responder = bob()
    proof = proof_of(alice(), responder)
    hello = hello_of(alice("another"))
    responder.receive_packet(hello, PATH, START + age)
    assert responder.receive_packet(proof, PATH, START + age) is None
    assert responder.counters.pake_operations == 0


def test_a_cookie_lasts_long_enough_across_a_change_of_key() -> None:
    responder = bob()
    hello_of(alice("first"))
    responder.receive_packet(hello_of(alice("first")), PATH, START)
    initiator = alice(now=START + 29.9)
    proof = proof_of(initiator, responder, now=START + 29.9)
    responder.receive_packet(hello_of(alice("another")), PATH, START + 31)
    assert isinstance(responder.receive_packet(proof, PATH, START + 39.8), Accepted)


def test_every_bit_the_cookie_covers_is_checked_before_any_work() -> None:
    responder = bob()
    proof = proof_of(alice(), responder)
    # Everything but the share Ya, its tag and the sealed part: those cost one guess, and are checked by it.
    for bit in range(8 * 174):
        assert responder.receive_packet(flipped(proof, bit), PATH, START) is None, bit
    assert responder.counters.pake_operations == 0
    assert isinstance(responder.receive_packet(proof, PATH, START), Accepted)


def test_a_cookie_of_another_process_is_worth_nothing() -> None:
    proof = proof_of(alice(), bob())
    assert bob("restarted").receive_packet(proof, PATH, START) is None


def test_a_restarted_responder_is_met_by_a_fresh_attempt() -> None:
    initiator = alice()
    proof_of(initiator, bob())
    restarted = bob("restarted")
    now = START
    while not initiator.done:
        now = initiator.next_timer() or now
        initiator.handle_timer(now)
        while out := sent(initiator, now):
            for data in out:
                outcome = restarted.receive_packet(data, PATH, now)
                reply = outcome.final if isinstance(outcome, Accepted) else outcome
                if isinstance(reply, bytes):
                    initiator.receive_packet(reply, now)
    assert initiator.result is not None
    assert now - START < 2.0


def test_a_cookie_says_nothing_of_the_machines_uptime() -> None:
    young, old = bob(now=5.0), bob(now=5_000_000.0)
    cookies = [
        parse_auth_proof_untrusted(proof_of(alice(now=now), responder, now=now)).cookie
        for responder, now in ((young, 5.0), (old, 5_000_000.0))
    ]
    assert cookies[0][:5] == cookies[1][:5]
