"""Threat "token thief" and its neighbours: stolen, edited, expired and spent tokens, lost FINALs and two devices."""

from __future__ import annotations

import pytest

from stt_core.errors import AuthenticationError, CloseReason, ConfigurationError
from stt_core.events import HandshakeFailed, PeerRejected, SessionClosed
from stt_core.resumption import MemoryTicketStore, TokenContent
from stt_core.state import SessionState
from stt_core.types import Resumed
from tests.core.pair import End, Flight, entropy_of, straight
from tests.core.test_resuming import ALICES, Resumable, outcome, restarted, token_of, with_store


def resumable_story(**alice: object) -> tuple[Resumable, bytes]:
    pair = Resumable(alice=alice)
    ours, _ = pair.connect()
    pair.rest()
    token = token_of(ours)
    pair.cut()
    return pair, token


def edited(token: bytes, **changes: object) -> bytes:
    """A token whose holder knows how they are made."""
    content = TokenContent.of(token)
    fields = {name: getattr(content, name) for name in TokenContent.__slots__}
    return bytes(TokenContent(**{**fields, **changes}).seal())


class TestTokenThief:
    def test_without_the_seed_it_is_refused_as_any_stranger_is(self) -> None:
        pair, token = resumable_story()
        thief = restarted(pair, "thief", shared_seed=b"not the seed of these two")
        attempt = pair.ask(token, thief)
        pair.run_until(lambda: bool(thief.told(HandshakeFailed)))
        assert isinstance(thief.told(HandshakeFailed)[0].error, AuthenticationError)
        assert thief.told(HandshakeFailed)[0].session_key == attempt
        assert any(isinstance(event, PeerRejected) for event in pair.bob.events)
        assert pair.bob.endpoint.statistics()["detached"] == 1

    def test_without_the_identity_it_was_given_to_it_is_worth_nothing(self) -> None:
        pair, token = resumable_story(node_seed=ALICES)
        thief = restarted(pair, "alice", node_seed=b"the thief's own seed of an identity")
        assert pair.resume(token, thief).resumed is Resumed.NO
        assert pair.bob.endpoint.statistics()["detached"] == 1
        alice = pair.alice.endpoint.resume(token, pair.bob.address, now=pair.now)
        pair.run_until(lambda: outcome(pair.alice, alice) is not None)
        assert pair.bob.endpoint.statistics()["detached"] == 0

    def test_a_ticket_without_its_secret_is_worth_nothing(self) -> None:
        pair, token = resumable_story()
        thief = restarted(pair, "alice")
        assert pair.resume(edited(token, rpsk=bytes(32)), thief).resumed is Resumed.NO
        assert pair.bob.endpoint.statistics()["detached"] == 1

    def test_a_recorded_proof_sent_again_spends_and_changes_nothing(self) -> None:
        pair, token = resumable_story()
        proofs: list[Flight] = []

        def recording(flight: Flight) -> tuple[Flight, ...]:
            if flight.data[0] == 0xC3:
                proofs.append(flight)
                return (flight,)
            return () if flight.data[0] & 0xC0 == 0x40 or flight.data[0] == 0xC4 else (flight,)

        pair.wire = recording
        pair.ask(token)
        pair.run_until(lambda: bool(proofs))
        pair.run(0.1)
        for _ in range(10):
            pair.put(proofs[0])
            pair.run(0.1)
        assert pair.bob.endpoint.statistics()["detached"] == 1
        pair.wire = straight
        assert pair.resume(token, restarted(pair, "alice")).resumed is Resumed.IDENTITY


class TestEditedTokens:
    @pytest.mark.parametrize("at", [0, 4, 5, 17, 40, 100, 177])
    def test_a_changed_ticket_begins_a_fresh_session(self, at: int) -> None:
        pair, token = resumable_story()
        ticket = bytearray(TokenContent.of(token).ticket)
        ticket[at] ^= 1
        assert pair.resume(edited(token, ticket=bytes(ticket)), restarted(pair, "alice")).resumed is Resumed.NO

    def test_bytes_that_are_damaged_or_something_else_are_the_callers_mistake(self) -> None:
        pair, token = resumable_story()
        for at in range(0, len(token), 7):
            damaged = token[:at] + bytes((token[at] ^ 1,)) + token[at + 1 :]
            with pytest.raises(ConfigurationError):
                pair.ask(damaged)
        for other in (b"", b"STTR", token[:-1], token + b"x"):
            with pytest.raises(ConfigurationError):
                pair.ask(other)

    def test_nothing_of_it_shows(self) -> None:
        pair = Resumable()
        ours, _ = pair.connect()
        pair.rest()
        token = ours.resumption_token
        assert token is not None
        secret = TokenContent.of(token).rpsk
        for shown in (repr(token), f"{token}", repr(TokenContent.of(token)), repr(ours.ticket), repr(ours.record)):
            assert secret.hex() not in shown
            assert repr(secret)[2:12] not in shown


class TestOldTokens:
    @pytest.mark.parametrize(("seconds", "extent"), [(86400 - 1.0, Resumed.IDENTITY), (86400 + 1.0, Resumed.NO)])
    def test_a_ticket_is_good_for_a_day_whatever_its_token_says(self, seconds: float, extent: Resumed) -> None:
        pair = Resumable()
        ours, _ = pair.connect()
        pair.run_until(lambda: ours.ticket is not None)
        content = TokenContent.of(token_of(ours))
        ours.close()
        pair.run(10.0)
        pair.now = content.issued + seconds
        assert pair.resume(edited(content.seal(), lifetime=10 * 86400, issued=pair.now)).resumed is extent

    @pytest.mark.parametrize(
        ("rotations", "extent"),
        [(1, Resumed.FULL), (2, Resumed.FULL), (3, Resumed.NO), (4, Resumed.NO)],
    )
    def test_a_ticket_ends_with_its_key_however_young_it_is(self, rotations: int, extent: Resumed) -> None:
        class Rotated(MemoryTicketStore):
            def rotate(self, wall: float) -> None:
                self._ring = self._ring.rotated(wall, entropy_of(f"{len(self._ring.keys)} {wall}"))

        store = Rotated(entropy_of("store"))
        pair = Resumable()
        pair.bob.endpoint = with_store("bob", store, resumable=True)
        ours, _ = pair.connect()
        pair.rest()
        token = token_of(ours)
        pair.cut()
        for number in range(rotations):
            store.rotate(pair.now + number)
        assert pair.resume(token).resumed is extent


class TestTwoDevices:
    def test_a_lost_final_costs_nothing_but_time(self) -> None:
        pair, token = resumable_story()
        lost: list[Flight] = []

        def without_finals(flight: Flight) -> tuple[Flight, ...]:
            if flight.data[0] == 0xC4 and len(lost) < 2:
                lost.append(flight)
                return ()
            return (flight,)

        pair.wire = without_finals
        assert pair.resume(token).resumed is Resumed.FULL
        assert len(lost) == 2

    def test_the_newest_wins_and_the_old_one_is_superseded(self) -> None:
        pair = Resumable(alice={"node_seed": ALICES})
        ours, _ = pair.connect()
        pair.rest()
        phone = restarted(pair, "alice", node_seed=ALICES)
        assert pair.resume(token_of(ours), phone).resumed is Resumed.IDENTITY
        pair.rest()
        assert [event.reason for event in pair.alice.told(SessionClosed)] == [CloseReason.SUPERSEDED]
        assert ours.state in (SessionState.CLOSING, SessionState.CLOSED)

    def test_a_server_without_the_identity_of_the_first_is_not_taken_for_it(self) -> None:
        pair = Resumable(bob={"node_seed": b"the seed of bob alone, his"})
        ours, _ = pair.connect()
        pair.rest()
        token = token_of(ours)
        impostor = End("bob", pair.bob.address, entropy=entropy_of("impostor"), node_seed=b"another one's own seed")
        pair.bob.endpoint = impostor.endpoint
        pair.ask(token)
        pair.run_until(lambda: bool(pair.alice.told(HandshakeFailed)))
        assert isinstance(pair.alice.told(HandshakeFailed)[0].error, AuthenticationError)
