"""Attackers who want the seed: by dictionary on a recording, or one guess at a time against somebody live."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stt_core import cpace
from stt_core.errors import AuthenticationError, ConnectionTimeoutError
from stt_core.handshake import Accepted, Identity, Initiator, Responder, TargetBudget
from stt_core.handshake.transcript import Transcript, channel_id, first_hash
from stt_core.packet import (
    RejectCode,
    parse_auth_proof_untrusted,
    parse_challenge_untrusted,
    parse_hello_untrusted,
    parse_reject_untrusted,
)
from stt_core.types import Path as NetPath
from stt_core.types import RateLimits, Suite
from tests.handshake.pair import (
    ALICE,
    BOB,
    CRYPTO,
    PATH,
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
    sent,
    with_seed,
)

DICTIONARY = [b"letmein", b"hunter2", SEED, b"correct horse battery", b"swordfish"]
SOMEBODY = Identity(b"x" * 16, CRYPTO, entropy_of("identity"))
Capture = tuple[bytes, bytes, bytes, bytes]
"""The four datagrams of one handshake."""


def breaks(dictionary: list[bytes], confirms: Callable[[bytes], Iterator[bool]]) -> list[bytes]:
    """The attack: every guess whose consequences are found in the recording."""
    return [guess for guess in dictionary if any(confirms(guess))]


class TestDictionaryOnARecording:
    def test_a_handshake_keyed_by_the_seed_falls_to_it(self) -> None:
        nonces = hashlib.sha256(b"both nonces, in the clear").digest()
        recorded_tag = hmac.digest(SEED, nonces, "sha256")

        def confirms(guess: bytes) -> Iterator[bool]:
            yield hmac.digest(guess, nonces, "sha256") == recorded_tag

        assert breaks(DICTIONARY, confirms) == [SEED]

    def test_this_one_does_not(self) -> None:
        wire = Wire(alice(), bob()).run()
        hello, proof = wire.to_responder
        challenge, final = wire.to_initiator
        capture = (hello, challenge, proof, final)
        assert wire.initiator.result is not None
        assert breaks(DICTIONARY, lambda guess: tags_from_guess(capture, guess)) == []

    def test_what_can_be_computed_from_a_guess_looks_alike_for_right_and_wrong(self) -> None:
        wire = Wire(alice(), bob()).run()
        capture = (wire.to_responder[0], wire.to_initiator[0], wire.to_responder[1], wire.to_initiator[1])
        answers = {tuple(tags_from_guess(capture, guess)) for guess in DICTIONARY}
        assert len(answers) == 1

    def test_the_check_would_find_the_key_if_it_were_there(self) -> None:
        """Given one scalar the same check succeeds, so its failure above is not a mistake in it."""
        wire = Wire(alice(), bob()).run()
        capture = (wire.to_responder[0], wire.to_initiator[0], wire.to_responder[1], wire.to_initiator[1])
        drawn = entropy_of("alice")
        drawn(32)
        scalar = drawn(32)
        point = CRYPTO.x25519(scalar)(parse_challenge_untrusted(capture[1]).yb)
        assert True in set(tags_from_points(capture, [point]))


def tags_from_guess(capture: Capture, guess: bytes) -> Iterator[bool]:
    """Tries what an eavesdropper can form: the guess's generator, both shares, and multiples by scalars of its own."""
    hello = parse_hello_untrusted(capture[0])
    challenge = parse_challenge_untrusted(capture[1])
    proof = parse_auth_proof_untrusted(capture[2])
    sid = hello.nonce_i + challenge.nonce_r
    base = cpace.generator(guess, channel_id(None), sid, entropy_of("attacker"))
    points = [base, proof.ya, proof.yb]
    for scalar in (guess, b"attacker"):
        own = hashlib.sha256(scalar).digest()
        points += [CRYPTO.x25519(own)(point) for point in (base, proof.ya, proof.yb)]
    yield from tags_from_points(capture, points)


def tags_from_points(capture: Capture, points: list[bytes]) -> Iterator[bool]:
    hello, challenge, proof, final = capture
    fields = parse_auth_proof_untrusted(proof)
    sid = fields.nonce_i + fields.nonce_r
    shares = cpace.transcript_ir(fields.ya, b"i", fields.yb, b"r")
    for point in points:
        isk = cpace.intermediate_key(sid, point, shares)
        transcript = Transcript(CRYPTO, Suite(fields.suite), isk, first_hash(hello, challenge))
        yield transcript.verify_proof(proof)
        yield transcript.verify_final(final)


def guesser(name: str, **settings: Any) -> Initiator:
    return alice(name, config=with_seed(ALICE, f"guess {name}".encode()), **settings)


class TestManyGuessesForOneCookie:
    def test_the_second_proof_is_dropped_without_work(self) -> None:
        responder = bob()
        challenge = b""
        evaluated = []
        for number in range(20):
            # The same HELLO each time, and so the same CHALLENGE serves; the guess and the scalar are new.
            initiator = alice(
                config=with_seed(ALICE, f"guess {number}".encode()),
                identity=SOMEBODY,
                entropy=draw_first([b"n" * 32], f"own scalar {number}"),
            )
            hello = hello_of(initiator)
            challenge = challenge or reply_of(responder, hello)
            initiator.receive_packet(challenge, START)
            (proof,) = sent(initiator)
            outcome = responder.receive_packet(proof, PATH, START)
            evaluated.append(responder.counters.pake_operations)
            assert (outcome is None) == (number > 0)
        assert evaluated == [1] * 20

    def test_a_right_guess_comes_too_late_after_a_wrong_one(self) -> None:
        responder = bob()
        honest = alice(identity=SOMEBODY, entropy=draw_first([b"n" * 32], "honest"))
        challenge = reply_of(responder, hello_of(honest))
        wrong = alice(
            config=with_seed(ALICE, b"a wrong guess first"),
            identity=SOMEBODY,
            entropy=draw_first([b"n" * 32], "wrong"),
        )
        hello_of(wrong)
        wrong.receive_packet(challenge, START)
        honest.receive_packet(challenge, START)
        assert parse_reject_untrusted(reply_of(responder, sent(wrong)[0])).code is RejectCode.AUTHENTICATION
        assert responder.receive_packet(sent(honest)[0], PATH, START) is None


def draw_first(queue: list[bytes], name: str) -> Callable[[int], bytes]:
    fresh = entropy_of(name)
    return lambda n: queue.pop() if queue else fresh(n)


class TestImpostorServer:
    def test_a_loud_one_ends_a_retry_loop_at_the_first_attempt(self) -> None:
        """The chapter's loop retries timeouts, and an impostor that answers is none."""
        attempts = 0
        error: Exception | None = None
        for attempt in range(5):
            attempts += 1
            impostor = bob(config=with_seed(BOB, f"guess {attempt}".encode()))
            error = Wire(alice(f"alice{attempt}"), impostor).run().initiator.failure
            if not isinstance(error, ConnectionTimeoutError):
                break
        assert attempts == 1
        assert isinstance(error, AuthenticationError)

    def test_a_silent_one_gets_two_proofs_a_connect(self) -> None:
        wire = Wire(alice(timeout=30.0), bob(config=with_seed(BOB, b"a silent guess")), back=only_challenges).run()
        assert isinstance(wire.initiator.failure, ConnectionTimeoutError)
        assert wire.initiator.failure.challenged
        assert len(proofs_in(wire)) == 2

    def test_a_silent_one_gets_ten_and_then_one_in_thirty_seconds(self) -> None:
        budget = TargetBudget(RateLimits())
        proofs: set[bytes] = set()
        now = START
        for number in range(60):
            initiator = alice(f"a{number}", now, timeout=10.0, allow_proof=lambda at: budget.allow(PATH, at))
            proofs |= silently(initiator, bob(f"b{number}", now, config=with_seed(BOB, b"guess")), now)
            now += 10.0
        assert len(proofs) <= 10 + 600 / 30
        assert len(proofs) >= 10

    def test_the_budget_opens_again_to_a_host_that_proved_itself(self) -> None:
        budget = TargetBudget(RateLimits(target_burst=2, target_interval=1e9))
        for number in range(10):
            wire = Wire(alice(f"a{number}", allow_proof=lambda at: budget.allow(PATH, at)), bob(f"b{number}")).run()
            assert wire.initiator.result is not None
            assert wire.initiator.peer_verified
            budget.clear(PATH)


def only_challenges(data: bytes, _index: int) -> bytes | None:
    return data if data[0] == 0xC2 else None


def proofs_in(wire: Wire) -> set[bytes]:
    return {data for data in wire.to_responder if data[0] == 0xC3}


def silently(initiator: Initiator, impostor: Responder, now: float) -> set[bytes]:
    """All distinct proofs a silent impostor gets from this connect."""
    proofs = set()
    while not initiator.done:
        for data in sent(initiator, now):
            if data[0] == 0xC3:
                proofs.add(data)
            else:
                initiator.receive_packet(reply_of(impostor, data, now=now), now)
        proofs |= {data for data in sent(initiator, now) if data[0] == 0xC3}
        now = initiator.next_timer() or now
        initiator.handle_timer(now)
    return proofs


class TestClientFarm:
    @pytest.mark.parametrize(
        "addresses",
        [
            [f"2001:db8:1:2::{n:x}" for n in range(1000)],
            [f"2001:db8:1:{n % 500:x}::1" for n in range(1000)],
            ["198.51.100.7"] * 1000,
            ["127.0.0.1"] * 1000,
        ],
        ids=["one /64", "one /48", "one IPv4 address", "through a proxy's loopback"],
    )
    def test_a_thousand_guesses_in_a_minute_are_at_most_seven(self, addresses: list[str]) -> None:
        responder = bob(config=config_of(BOB, rate_limits=RateLimits(hello_rate=1e6, hello_burst=10**6)))
        for number, host in enumerate(addresses):
            now = START + number * 60 / len(addresses)
            path = NetPath("udp", (host, 1024 + number))
            responder.receive_packet(proof_of(guesser(str(number), now=now), responder, path, now), path, now)
        assert 5 <= responder.counters.pake_operations <= 7

    def test_from_everywhere_the_overall_budget_holds(self) -> None:
        responder = bob(config=config_of(BOB, rate_limits=RateLimits(hello_rate=1e6, hello_burst=10**6)))
        for number in range(600):
            now = START + number / 10
            path = NetPath("udp", (f"198.51.{number // 200}.{number % 200}", 1))
            responder.receive_packet(proof_of(guesser(str(number), now=now), responder, path, now), path, now)
        assert responder.counters.pake_operations <= 50 + 30

    def test_guesses_over_budget_are_told_busy_so_that_honest_ones_come_again(self) -> None:
        responder = bob()
        for number in range(5):
            responder.receive_packet(proof_of(guesser(str(number)), responder), PATH, START)
        honest = alice("honest")
        proof = proof_of(honest, responder)
        assert parse_reject_untrusted(reply_of(responder, proof)).code is RejectCode.BUSY


class TestAttackerOfTheBudget:
    def test_a_returning_client_connects_while_newcomers_cannot(self) -> None:
        responder = bob()
        home = NetPath("udp", ("192.0.2.1", 5000))
        token = responder.address_token(home, START)
        for number in range(60):
            path = NetPath("udp", (f"198.51.100.{number}", 1))
            responder.receive_packet(proof_of(guesser(str(number)), responder, path), path, START)
        assert responder.counters.pake_operations == 50

        newcomer = NetPath("udp", ("192.0.2.2", 5000))
        reply = reply_of(responder, proof_of(alice("new"), responder, newcomer), newcomer)
        assert parse_reject_untrusted(reply).code is RejectCode.BUSY

        returning = proof_of(alice("back", address_token=token), responder, home)
        assert isinstance(responder.receive_packet(returning, home, START), Accepted)

    def test_a_token_does_not_raise_its_bearers_own_budget(self) -> None:
        responder = bob()
        token = responder.address_token(PATH, START)
        for number in range(20):
            responder.receive_packet(proof_of(guesser(str(number), address_token=token), responder), PATH, START)
        assert responder.counters.pake_operations == 5

    def test_a_retry_token_is_not_taken_for_an_address_token(self) -> None:
        responder = bob(config=config_of(BOB, rate_limits=RateLimits(hello_burst=0, global_failure_burst=0)))
        wire = Wire(alice(), responder).run()
        assert responder.counters.retries_sent >= 1
        assert responder.counters.busy >= 1
        assert wire.initiator.result is None


_PUBLISHED = json.loads((Path(__file__).parent.parent / "vectors" / "cpace_x25519_sha512.json").read_text())
# draft-irtf-cfrg-cpace, appendix B.1.10. With bit 255 set they decode to other points, which are in order.
LOW_ORDER = [point for point in map(bytes.fromhex, _PUBLISHED["X25519_points"].values()) if not point[31] & 0x80]


@pytest.mark.parametrize("point", LOW_ORDER, ids=bytes.hex)
class TestLowOrderShares:
    """With such a share the shared point is zero whatever the seed: who needs no seed could prove to hold it."""

    def test_from_an_initiator_they_are_refused_and_count_as_a_guess(self, point: bytes) -> None:
        responder = bob()
        initiator = alice(config=with_seed(ALICE, b"does not matter"))
        hello = hello_of(initiator)
        challenge = reply_of(responder, hello)
        initiator.receive_packet(challenge, START)
        fields = parse_auth_proof_untrusted(sent(initiator)[0])._replace(ya=point)
        shares = cpace.transcript_ir(point, b"i", fields.yb, b"r")
        isk = cpace.intermediate_key(fields.nonce_i + fields.nonce_r, bytes(32), shares)
        forged = Transcript(CRYPTO, Suite(fields.suite), isk, first_hash(hello, challenge)).make_proof(
            fields.head(), bytes(944)
        )
        assert parse_reject_untrusted(reply_of(responder, forged)).code is RejectCode.AUTHENTICATION
        assert responder.counters.authentication_failures == 1

    def test_from_a_responder_they_bring_no_proof(self, point: bytes) -> None:
        initiator = alice()
        hello = hello_of(initiator)
        challenge = reply_of(bob(), hello)
        head = challenge[:53] + point + challenge[85:89]
        forged = head + challenge[89:94] + first_hash(hello, head) + challenge[126:]
        initiator.receive_packet(forged, START)
        assert sent(initiator) == []
        assert not initiator.challenged
