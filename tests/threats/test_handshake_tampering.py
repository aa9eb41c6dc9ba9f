"""Attackers on the path: they replay, flip bits, forge, reflect and relay; and holders of the seed who lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import pytest

from stt_core.errors import AuthenticationError
from stt_core.handshake import Accepted, Identity, Initiator
from stt_core.packet import VERSION, FinalMessage, Reject, RejectCode, parse_header_untrusted, sealed_length
from stt_core.types import Path
from tests.handshake.pair import (
    ALICE,
    BOB,
    CRYPTO,
    PATH,
    START,
    Wire,
    alice,
    bob,
    config_of,
    entropy_of,
    flipped,
    hello_of,
    proof_of,
    reply_of,
    seed_of,
    sent,
    with_seed,
)

HELLO, CHALLENGE, PROOF, FINAL = 0xC1, 0xC2, 0xC3, 0xC4


class TestReplay:
    def test_a_replayed_auth_proof_is_one_session_and_one_final(self) -> None:
        responder = bob()
        proof = proof_of(alice(), responder)
        outcomes = [responder.receive_packet(proof, PATH, START + at / 10) for at in range(90)]
        accepted = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
        assert len(accepted) == 1
        assert {outcome for outcome in outcomes if isinstance(outcome, bytes)} == {accepted[0].final}
        assert responder.counters.pake_operations == 1

    def test_a_recorded_handshake_replayed_later_opens_nothing(self) -> None:
        responder = bob()
        wire = Wire(alice(), responder).run()
        for later in (1.0, 9.0, 20.0, 100.0):
            for data in wire.to_responder:
                assert not isinstance(responder.receive_packet(data, PATH, START + later), Accepted)

    def test_a_replayed_final_or_challenge_means_nothing_to_another_connect(self) -> None:
        wire = Wire(alice(), bob()).run()
        initiator = alice(entropy=entropy_of("another time"))
        hello_of(initiator)
        for data in wire.to_initiator:
            initiator.receive_packet(data, START)
        assert sent(initiator) == []
        assert initiator.dropped == 2


def one_bit_per_byte(size: int) -> Iterator[int]:
    return (8 * byte + byte % 8 for byte in range(size))


class TestAnyBitFlipped:
    def test_in_hello_or_challenge_and_no_proof_leaves(self) -> None:
        """But for the parts of the cookie that only its maker can check: those end at the responder."""
        responder, unlimited = bob(), Path("udp", ("127.0.0.1", 1))
        initiator = alice(timeout=1e6)
        hello = hello_of(initiator)
        for bit in one_bit_per_byte(len(hello)):
            reply = responder.receive_packet(flipped(hello, bit), unlimited, START)
            if isinstance(reply, bytes):
                initiator.receive_packet(reply, START)
            assert [data for data in sent(initiator) if data[0] == PROOF] == [], bit
        challenge = reply_of(responder, hello, unlimited)
        for bit in one_bit_per_byte(126):
            if not 89 <= bit // 8 < 94:
                initiator.receive_packet(flipped(challenge, bit), START)
                assert sent(initiator) == [], bit

    @pytest.mark.parametrize("byte", [89, 90, 93, 126, 141])
    def test_in_the_cookie_and_the_proof_is_dropped(self, byte: int) -> None:
        responder, initiator = bob(), alice()
        challenge = reply_of(responder, hello_of(initiator))
        initiator.receive_packet(flipped(challenge, 8 * byte), START)
        (proof,) = sent(initiator)
        assert responder.receive_packet(proof, PATH, START) is None

    def test_in_auth_proof_and_nobody_is_accepted(self) -> None:
        path = Path("udp", ("127.0.0.1", 1))
        for bit in one_bit_per_byte(1200):
            if bit % 3 and bit // 8 > 260:
                continue  # the sealed part is one text under one tag: a third of its bytes will do
            responder = bob()
            proof = proof_of(alice(), responder, path)
            assert not isinstance(responder.receive_packet(flipped(proof, bit), path, START), Accepted), bit
            assert responder.half_open == 0

    def test_in_final_and_it_is_not_believed(self) -> None:
        responder, initiator = bob(), alice()
        final = reply_of(responder, proof_of(initiator, responder))
        for bit in one_bit_per_byte(len(final)):
            initiator.receive_packet(flipped(final, bit), START)
            assert not initiator.done, bit
        initiator.receive_packet(final, START)
        assert initiator.result is not None


def damage(kind: int, bit: int) -> Callable[[bytes, int], bytes]:
    """Flip this bit in the first datagram of this kind only."""
    seen: list[bytes] = []

    def tamper(data: bytes, _index: int) -> bytes:
        if data[0] != kind or seen:
            return data
        seen.append(data)
        return flipped(data, bit)

    return tamper


class TestOneBadDatagram:
    @pytest.mark.parametrize(("kind", "size"), [(HELLO, 256), (CHALLENGE, 142), (PROOF, 1200), (FINAL, 1200)], ids=str)
    def test_corrupted_anywhere_does_not_end_a_connect(self, kind: int, size: int) -> None:
        fields = {0, 1, 5, 13, 21, 22, 53, 54, 55, 57, 85, 87, 89, 90, 94, 126, 141, 142, 174, 206, 238, 240, size - 1}
        for byte in sorted(position for position in fields if position < size):
            tamper = damage(kind, 8 * byte + 7)
            wire = Wire(alice(), bob(), forth=tamper, back=tamper).run()
            assert wire.initiator.result is not None, byte
            assert wire.now - START < 4.0

    def test_the_first_challenge_forged_does_not_end_a_connect(self) -> None:
        """By somebody who answers faster, with a share and a cookie of his own that fit our HELLO."""
        forger = bob("forger", config=with_seed(BOB, b"he does not know it"))

        def tamper(data: bytes, index: int) -> bytes:
            return reply_of(forger, wire.to_responder[0]) if index == 0 else data

        wire = Wire(alice(), bob(), back=tamper)
        assert wire.run().initiator.result is not None

    def test_a_forged_reject_and_then_the_real_final_is_established(self) -> None:
        for code in RejectCode:
            initiator, responder = alice(), bob()
            proof = proof_of(initiator, responder)
            final = reply_of(responder, proof)
            header = parse_header_untrusted(final)
            echo = hashlib.sha256(proof).digest()[:16]
            initiator.receive_packet(Reject(VERSION, header.dcid, header.scid, code, echo).encode(), START)
            assert not initiator.done
            initiator.receive_packet(final, START + 0.3)
            assert initiator.result is not None

    def test_a_forged_final_and_then_the_real_one_is_established(self) -> None:
        initiator, responder = alice(), bob()
        final = reply_of(responder, proof_of(initiator, responder))
        header = parse_header_untrusted(final)
        forged = FinalMessage(VERSION, header.dcid, header.scid).head() + bytes(32) + sealed_length(bytes(1144))
        initiator.receive_packet(forged, START)
        assert not initiator.done
        initiator.receive_packet(final, START)
        assert initiator.result is not None


def reject_for(proof: bytes, code: RejectCode) -> bytes:
    """A REJECT of this AUTH_PROOF, as anybody could write it who saw it pass."""
    header = parse_header_untrusted(proof)
    return Reject(VERSION, header.scid, header.dcid, code, hashlib.sha256(proof).digest()[:16]).encode()


class TestSeveralBadDatagrams:
    """On a noisy link, or beside somebody who injects for as long as the handshake lasts."""

    @pytest.mark.parametrize("byte", [22, 53, 60, 1199], ids=str)
    def test_four_finals_damaged_in_a_row_do_not_end_a_connect(self, byte: int) -> None:
        finals: list[bytes] = []

        def damage_four(data: bytes, _index: int) -> bytes:
            if data[0] != FINAL:
                return data
            finals.append(data)
            return flipped(data, 8 * byte + len(finals)) if len(finals) <= 4 else data

        wire = Wire(alice(), bob(), back=damage_four).run()
        assert wire.initiator.result is not None
        assert wire.responder.counters.pake_operations == 1
        assert wire.now - START < 1.5

    @pytest.mark.parametrize("code", list(RejectCode))
    def test_a_forged_reject_for_each_proof_beside_damaged_finals_does_not_either(self, code: RejectCode) -> None:
        """The forgery is there before the peer's own answer, of which the first three arrive damaged."""
        initiator, responder = alice(), bob()
        now = START
        proof = proof_of(initiator, responder)
        for attempt in range(4):
            initiator.receive_packet(reject_for(proof, code), now)
            final = reply_of(responder, proof, now=now)
            initiator.receive_packet(flipped(final, 8 * 30) if attempt < 3 else final, now + 0.19)
            if attempt < 3:
                assert not initiator.done
                now = initiator.next_timer() or now
                initiator.handle_timer(now)
                assert set(sent(initiator, now)) == {proof}
        assert initiator.result is not None

    def test_and_there_is_one_guess_in_all_these_repetitions(self) -> None:
        wire = Wire(alice(), bob(config=with_seed(BOB, b"he does not know it"))).run()
        assert isinstance(wire.initiator.failure, AuthenticationError)
        assert wire.responder.counters.pake_operations == 1
        assert len({data for data in wire.to_responder if data[0] == PROOF}) == 1


class TestStrippedSuites:
    @pytest.mark.parametrize("suites", [0, 1, 2])
    def test_no_session_comes_of_an_offer_that_was_changed(self, suites: int) -> None:
        def strip(data: bytes, _index: int) -> bytes:
            return data[:53] + suites.to_bytes(2, "big") + data[55:] if data[0] == HELLO else data

        wire = Wire(alice(timeout=3.0), bob(), forth=strip).run()
        assert wire.initiator.result is None
        assert not wire.accepted

    def test_nor_of_a_choice_that_was_changed(self) -> None:
        def swap(data: bytes, _index: int) -> bytes:
            return data[:85] + b"\0\x02" + data[87:] if data[0] == CHALLENGE else data

        wire = Wire(alice(timeout=3.0), bob(), back=swap).run()
        assert wire.initiator.result is None
        assert not wire.accepted


class TestReflectionAndRelay:
    def test_a_node_does_not_talk_to_itself(self) -> None:
        """Each message of the initiator goes back to the responder of the same node, and its answers too."""
        initiator = alice()
        own = bob(config=config_of(ALICE))
        wire = Wire(initiator, own).run()
        assert initiator.result is None
        assert not wire.accepted
        assert own.counters.refused == 1

    def test_a_hello_thrown_back_is_dropped_at_once(self) -> None:
        initiator = alice()
        own = bob(config=config_of(ALICE), owns_nonce=initiator.owns_nonce)
        assert own.receive_packet(hello_of(initiator), PATH, START) is None
        assert own.counters.pake_maps == 0

    def test_messages_of_one_direction_mean_nothing_in_the_other(self) -> None:
        initiator = alice()
        hello = hello_of(initiator)
        own_cid = parse_header_untrusted(hello).scid
        initiator.receive_packet(hello[:5] + own_cid + hello[13:], START)
        assert sent(initiator) == []
        responder = bob()
        challenge = reply_of(responder, hello)
        assert responder.receive_packet(challenge, PATH, START) is None

    def test_a_relay_to_another_holder_of_the_seed_is_refused(self) -> None:
        carol = bob("carol", config=config_of(b"Carol"))
        wire = Wire(alice(peer_node_id=BOB), carol).run()
        assert isinstance(wire.initiator.failure, AuthenticationError)
        assert not wire.accepted
        assert carol.counters.authentication_failures == 1

    def test_whoever_strips_the_name_from_a_hello_to_relay_it_gets_no_proof(self) -> None:
        def strip(data: bytes, _index: int) -> bytes:
            return data[:56] + bytes((data[56] & ~1,)) + data[57:] if data[0] == HELLO else data

        wire = Wire(alice(peer_node_id=BOB, timeout=3.0), bob("carol", config=config_of(b"Carol")), forth=strip).run()
        assert wire.initiator.result is None
        assert [data for data in wire.to_responder if data[0] == PROOF] == []


class TestHolderOfTheSeedWhoLies:
    def test_another_nodes_id_is_refused_where_its_key_is_pinned(self) -> None:
        pin = Identity(seed_of(BOB), CRYPTO, entropy_of("")).public
        mallory = bob("mallory", config=config_of(BOB, node_seed=b"mallory's own node seed"))
        wire = Wire(alice(peer_node_id=BOB, peer_key=pin), mallory).run()
        assert isinstance(wire.initiator.failure, AuthenticationError)
        assert "identity key" in str(wire.initiator.failure)
        # Without a pin the id is what the specification says it is: a label.
        assert Wire(alice(peer_node_id=BOB), mallory).run().initiator.result is not None

    def test_an_identity_proof_cannot_be_passed_on(self) -> None:
        """Mallory shows the key of Bob, whose proof she got in a handshake of her own."""

        class Borrowed(Identity):
            __slots__ = ()

            def __init__(self) -> None:
                super().__init__(b"mallory's own node seed", CRYPTO, entropy_of(""))
                self.public = Identity(seed_of(BOB), CRYPTO, entropy_of("")).public

        wire = Wire(alice(), bob(identity=Borrowed())).run()
        assert isinstance(wire.initiator.failure, AuthenticationError)
        wire = Wire(alice(identity=Borrowed()), bob()).run()
        assert wire.initiator.result is None
        assert not wire.accepted


def test_node_ids_and_identity_keys_are_in_no_byte_on_the_wire() -> None:
    for named in (None, BOB):
        wire = Wire(alice(peer_node_id=named), bob()).run()
        result: Initiator = wire.initiator
        assert result.result is not None
        seen = b"".join(wire.to_responder + wire.to_initiator)
        for node_id in (ALICE, BOB):
            key = Identity(seed_of(node_id), CRYPTO, entropy_of("")).public
            for secret in (node_id, key, hashlib.sha256(node_id).digest()[:8], key[:8]):
                assert secret not in seen


def test_a_wrong_seed_shows_its_holder_no_id_either() -> None:
    """What Bob can open of a proof he can't verify is nothing: there is no key to open it with."""
    wire = Wire(alice(config=with_seed(ALICE, b"not the seed of Bob")), bob()).run()
    assert isinstance(wire.initiator.failure, AuthenticationError)
    assert all(ALICE not in str(refused.error).encode() for refused in wire.refused)
    assert wire.responder.half_open == 0
