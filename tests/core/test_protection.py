"""Protection: what is sealed opens at the other end, in any order and through any key update, and nothing else does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import inf

import pytest

from stt_core.errors import ErrorCode, Violation
from stt_core.keys import SessionSecrets
from stt_core.protection import KeyLimits, Protection
from stt_core.types import Role, Suite
from tests.core.attributes import names_of
from tests.core.protection_pair import MASTER, OVERHEAD, End, Pair, flip_phase
from tests.core.toy import ToyCrypto

SMALL = KeyLimits(packets=8, size=1 << 30, seconds=1000.0, forgeries=1 << 36)


def pair(limits: KeyLimits | None = None) -> Pair:
    return Pair(ToyCrypto(), limits=limits)


def bodies(count: int, size: int = 40) -> list[bytes]:
    return [b"%d " % i + bytes(size) for i in range(count)]


# --- packets


@pytest.mark.parametrize("count", [1, 2, 64])
def test_what_is_sealed_opens_in_order_with_its_number(count: int) -> None:
    ends = pair()
    plains = bodies(count)
    assert ends.responder.open(ends.initiator.seal(*plains)) == list(enumerate(plains))
    assert ends.responder.open_each(ends.initiator.seal(*plains)) == list(enumerate(plains, count))
    assert ends.initiator.protection.next_number == 2 * count
    assert ends.responder.protection.largest_opened == 2 * count - 1


def test_a_packet_is_the_same_sealed_alone_or_in_a_batch() -> None:
    plains = bodies(5)
    together = pair().initiator.seal(*plains)
    alone = pair().initiator
    assert [alone.seal(plain)[0] for plain in plains] == together


def test_the_header_hides_number_and_phase_behind_the_masks_of_the_cid() -> None:
    ends = pair()
    (datagram,) = ends.initiator.seal(b"body")
    mask = ends.initiator.sending
    assert len(datagram) == 4 + OVERHEAD
    assert datagram[0] == 0x40 | mask.phase << 2
    assert datagram[1:9] == mask.cid
    assert int.from_bytes(datagram[9:13], "big") == mask.mask


def test_plaintexts_need_not_be_equally_long() -> None:
    ends = pair()
    plains = [b"x" * 100, b"", b"y"]
    assert ends.responder.open_each(ends.initiator.seal(*plains)) == list(enumerate(plains))


def test_a_skipped_number_is_never_used() -> None:
    ends = pair()
    ends.initiator.seal(b"0")
    ends.initiator.protection.next_number += 1
    assert ends.responder.open(ends.initiator.seal(b"2", b"3")) == [(2, b"2"), (3, b"3")]


def test_a_side_does_not_open_its_own_packets() -> None:
    ends = pair()
    datagrams = ends.initiator.seal(b"reflected")
    assert ends.initiator.open(datagrams) == []
    assert ends.initiator.open_each(datagrams) == []


def test_numbers_wrap_on_the_wire_inside_a_batch() -> None:
    ends = pair()
    start = (1 << 32) - ends.initiator.sending.mask - 3  # the masked number is 2^32 - 3
    ends.initiator.protection.next_number = start
    ends.responder.protection.largest_opened = start - 1
    plains = bodies(8)
    assert ends.responder.open(ends.initiator.seal(*plains)) == list(enumerate(plains, start))


@pytest.mark.parametrize("start", [(1 << 32) - 2, (1 << 33) - 2, 1 << 40])
def test_numbers_go_on_above_32_bits(start: int) -> None:
    ends = pair()
    ends.initiator.protection.next_number = start
    ends.responder.protection.largest_opened = start - 1000
    plains = bodies(4)
    datagrams = ends.initiator.seal(*plains)
    assert ends.responder.open(datagrams[::-1]) == list(enumerate(plains, start))[::-1]
    assert ends.responder.open_each(datagrams) == list(enumerate(plains, start))


def test_reordered_and_replayed_packets_open_with_their_own_numbers() -> None:
    ends = pair()
    plains = bodies(200)
    sent = list(zip(range(200), plains, ends.initiator.seal(*plains), strict=True))
    sent += sent[:50]
    random.Random(1).shuffle(sent)
    datagrams = [datagram for _, _, datagram in sent]
    expected = [(number, plain) for number, plain, _ in sent]
    assert ends.responder.open(datagrams[:130]) == expected[:130]
    assert ends.responder.open_each(datagrams[130:]) == expected[130:]
    assert ends.responder.protection.failed == 0


@pytest.mark.parametrize("forged_at", [(0,), (3,), (9,), (0, 1, 2), (4, 5, 9), tuple(range(10))])
def test_forgeries_in_a_batch_cost_only_themselves(forged_at: tuple[int, ...]) -> None:
    ends = pair()
    plains = bodies(10)
    datagrams = ends.initiator.seal(*plains)
    for i in forged_at:
        datagrams[i] = datagrams[i][:-1] + bytes((datagrams[i][-1] ^ 1,))
    genuine = [(i, plain) for i, plain in enumerate(plains) if i not in forged_at]
    assert ends.responder.open(datagrams) == genuine
    assert ends.responder.protection.failed == len(forged_at)


def test_any_flipped_bit_fails_and_is_counted() -> None:
    ends = pair()
    (datagram,) = ends.initiator.seal(b"body")
    before = ends.responder.snapshot()
    for bit in range(8, 8 * len(datagram)):
        forged = (int.from_bytes(datagram, "big") ^ 1 << 8 * len(datagram) - 1 - bit).to_bytes(len(datagram), "big")
        if forged[1:9] == datagram[1:9]:  # another cid would not have been routed here
            assert ends.responder.open([forged]) == []
            assert ends.responder.open_each([forged]) == []
    for bit in range(8):
        forged = bytes((datagram[0] ^ 1 << bit,)) + datagram[1:]
        assert ends.responder.open([forged]) == []
        assert ends.responder.open_each([forged]) == []
    assert ends.responder.protection.failed == 2 * (8 * len(datagram) - 64)
    assert ends.responder.snapshot() == before
    assert ends.responder.open_each([datagram]) == [(0, b"body")]


def test_a_header_that_decodes_below_zero_is_a_forgery() -> None:
    ends = pair()
    genuine, other = ends.initiator.seal(b"0", b"1")
    below = (ends.initiator.sending.mask - 1) % (1 << 32)
    forged = genuine[:9] + below.to_bytes(4, "big") + genuine[13:]
    assert ends.responder.open([genuine, forged, other]) == [(0, b"0"), (1, b"1")]
    assert ends.responder.open_each([forged, flip_phase(forged)]) == []
    assert ends.responder.protection.failed == 3


def test_runts_are_forgeries() -> None:
    ends = pair()
    (datagram,) = ends.initiator.seal(b"body")
    assert ends.responder.open_each([datagram[:size] for size in range(1, OVERHEAD)]) == []
    assert ends.responder.protection.failed == OVERHEAD - 1
    assert ends.responder.open([datagram[:13], datagram[:20]]) == []


def test_too_many_forgeries_exhaust_the_keys() -> None:
    ends = pair(KeyLimits(forgeries=3))
    (datagram,) = ends.initiator.seal(b"body")
    for _ in range(3):
        assert not ends.responder.protection.exhausted
        ends.responder.open_each([datagram[:-1] + b"\0" if datagram[-1] else datagram[:-1] + b"\1"])
    assert ends.responder.protection.exhausted


def test_extending_a_list_from_a_map_keeps_what_came_before_the_exception_and_can_go_on() -> None:
    """What opening a batch with a forgery in it leans on, of CPython."""

    def half(number: int) -> int:
        if number % 2:
            raise ValueError
        return number // 2

    out: list[int] = []
    source: Iterator[int] = map(half, [0, 2, 3, 4, 5, 5, 6])
    failures = 0
    while True:
        try:
            out.extend(source)
            break
        except ValueError:
            out.append(-1)
            failures += 1
    assert out == [0, 1, -1, 2, -1, -1, 3]
    assert failures == 3


# --- key updates


def test_keys_update_after_so_many_packets_and_the_peer_follows() -> None:
    ends = pair(SMALL)
    ends.exchange()
    delivered = 0
    for round_number in range(100):
        now = round_number * 10.0  # longer than three PTO: no old key stands in the way of the next update
        plains = bodies(3)
        assert [plain for _, plain in ends.responder.open(ends.initiator.seal(*plains, now=now), now)] == plains
        assert ends.initiator.open(ends.responder.seal(b"ack", now=now), now)
        ends.initiator.protection.on_acked(ends.responder.protection.largest_opened, now)
        ends.responder.protection.on_acked(ends.initiator.protection.largest_opened, now)
        delivered += 3
    phase = ends.initiator.protection.phase
    assert phase == ends.responder.protection.phase
    assert delivered / SMALL.packets * 0.6 < phase <= delivered / SMALL.packets
    assert ends.initiator.protection.failed == ends.responder.protection.failed == 0


def test_keys_update_after_so_many_bytes() -> None:
    ends = pair(KeyLimits(size=1000))
    ends.exchange()
    ends.initiator.seal(bytes(1000))
    assert ends.initiator.protection.phase == 0
    ends.initiator.seal(b"next")
    assert ends.initiator.protection.phase == 1


def test_keys_update_after_so_long() -> None:
    ends = pair(KeyLimits(seconds=3600.0))
    ends.exchange(now=50.0)
    ends.initiator.seal(b"x", now=3649.9)
    assert ends.initiator.protection.phase == 0
    ends.initiator.seal(b"x", now=3650.0)
    assert ends.initiator.protection.phase == 1
    ends.initiator.seal(b"x", now=9000.0)
    assert ends.initiator.protection.phase == 1, "a second update needs the first acknowledged"


def test_keys_of_different_phases_share_nothing() -> None:
    ends = pair()
    ends.exchange()
    before = ends.initiator.protection.next_number
    (old,) = ends.initiator.seal(b"same")
    ends.initiator.protection.update_keys(0.0)
    ends.initiator.protection.next_number = before  # the same nonce under the same key would show here
    (new,) = ends.initiator.seal(b"same")
    assert new[0] == old[0] ^ 0x04
    assert new[9:13] == old[9:13]
    assert new[13:] != old[13:]


def test_an_update_waits_for_the_first_acknowledgement_of_the_phase() -> None:
    ends = pair()
    ends.initiator.seal(b"unacknowledged")
    ends.initiator.protection.update_keys(0.0)
    ends.initiator.seal(b"still the first keys")
    assert ends.initiator.protection.phase == 0
    ends.initiator.protection.on_acked(0, 0.0)
    ends.initiator.seal(b"now")
    assert ends.initiator.protection.phase == 1


def test_an_update_waits_until_the_last_ones_old_keys_are_gone() -> None:
    ends = pair()
    ends.exchange()
    ends.initiator.protection.pto = 0.1
    ends.initiator.protection.update_keys(0.0)
    ends.exchange()
    assert ends.initiator.protection.previous_until == pytest.approx(0.3)
    ends.initiator.protection.update_keys(0.2)
    ends.initiator.seal(b"x", now=0.29)
    assert ends.initiator.protection.phase == 1
    ends.initiator.seal(b"x", now=0.31)
    assert ends.initiator.protection.phase == 2


def test_both_sides_may_update_at_once() -> None:
    ends = pair()
    ends.exchange()
    ends.initiator.protection.update_keys(0.0)
    ends.responder.protection.update_keys(0.0)
    to_responder, to_initiator = ends.initiator.seal(b"i"), ends.responder.seal(b"r")
    assert ends.responder.open(to_responder) == [(1, b"i")]
    assert ends.initiator.open(to_initiator) == [(1, b"r")]
    assert ends.initiator.protection.phase == ends.responder.protection.phase == 1
    ends.exchange()


def spent_after(end: End, *batches: int) -> list[tuple[bool, int]]:
    """Whether the send key is spent, and its phase, after each of these batches."""
    seen = []
    for count in batches:
        end.seal(*bodies(count))
        seen.append((end.protection.spent, end.protection.phase))
    return seen


def test_a_send_key_is_spent_where_no_acknowledgement_lets_it_be_renewed() -> None:
    ends = pair(KeyLimits(packets=8, most=16))
    ends.exchange()
    assert spent_after(ends.initiator, 8, 8, 8, 1) == [(False, 0), (False, 1), (False, 1), (True, 1)]


def test_a_send_key_that_was_spent_may_be_renewed_still() -> None:
    ends = pair(KeyLimits(packets=8, most=16))
    assert spent_after(ends.initiator, 15, 1) == [(False, 0), (False, 0)]
    ends.responder.open(ends.initiator.seal(b"17th"))
    ends.initiator.open(ends.responder.seal(b"an ACK"))
    ends.initiator.protection.on_acked(16, 0.0)
    assert spent_after(ends.initiator, 1) == [(False, 1)]


def test_late_packets_of_the_phase_before_still_open_for_three_pto() -> None:
    ends = pair()
    ends.exchange()
    ends.responder.protection.pto = 0.5
    late, later, too_late = ends.initiator.seal(b"late", b"later", b"too late")
    ends.initiator.protection.update_keys(10.0)
    assert ends.responder.open(ends.initiator.seal(b"new", now=10.0), 10.0) == [(4, b"new")]
    assert ends.responder.protection.previous_until == 11.5
    assert ends.responder.open([late], 11.0) == [(1, b"late")]
    assert ends.responder.open_each([later], 11.49) == [(2, b"later")]
    assert ends.responder.open([too_late], 11.5) == []
    ends.responder.protection.handle_timer(11.5)
    assert ends.responder.protection.previous_until == inf
    assert ends.responder.protection.failed == 1


def test_the_timer_drops_the_previous_key_without_any_packet() -> None:
    ends = pair()
    ends.exchange()
    ends.responder.protection.pto = 0.5
    ends.initiator.protection.update_keys(10.0)
    ends.responder.open(ends.initiator.seal(b"new", now=10.0), 10.0)
    ends.responder.protection.handle_timer(11.4)
    assert ends.responder.protection.previous_until == 11.5
    ends.responder.protection.handle_timer(11.5)
    assert ends.responder.protection.previous_until == inf


def test_a_batch_may_hold_two_phases_in_any_order() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        ends = pair()
        ends.exchange()
        plains = bodies(40)
        datagrams = ends.initiator.seal(*plains[:20])
        ends.initiator.protection.update_keys(0.0)
        datagrams += ends.initiator.seal(*plains[20:])
        sent = list(zip(range(1, 41), plains, datagrams, strict=True))
        rng.shuffle(sent)
        opener = ends.responder.open if seed % 2 else ends.responder.open_each
        opened = opener([datagram for _, _, datagram in sent])
        assert opened == [(number, plain) for number, plain, _ in sent]
        assert ends.responder.protection.failed == 0
        assert ends.responder.protection.phase == 1


def test_a_forgery_beside_the_first_packets_of_a_phase_changes_nothing() -> None:
    ends = pair()
    ends.exchange()
    ends.initiator.protection.update_keys(0.0)
    datagrams = ends.initiator.seal(*bodies(6))
    for i in (0, 3):
        datagrams[i] = datagrams[i][:-1] + bytes((datagrams[i][-1] ^ 1,))
    assert [number for number, _ in ends.responder.open(datagrams)] == [2, 3, 5, 6]
    assert ends.responder.protection.phase == 1
    assert ends.responder.protection.failed == 2


def test_random_loss_reordering_and_updates_never_lose_a_genuine_packet_for_good() -> None:
    """Long run, both directions, updates by limits and by will; everything not lost opens exactly as sealed."""
    rng = random.Random(7)
    ends = pair(KeyLimits(packets=50))
    ends.exchange()
    for end in (ends.initiator, ends.responder):
        end.protection.pto = 0.01
    now = 0.0
    for _ in range(400):
        now += rng.random() * 0.05
        for sender, receiver in ((ends.initiator, ends.responder), (ends.responder, ends.initiator)):
            if rng.random() < 0.1:
                sender.protection.update_keys(now)
            first = sender.protection.next_number
            plains = [rng.randbytes(rng.randrange(30)) for _ in range(rng.randrange(1, 12))]
            sent = list(zip(range(first, first + 12), plains, sender.seal(*plains, now=now), strict=False))
            sent = [packet for packet in sent if rng.random() < 0.8]
            rng.shuffle(sent)
            opened = receiver.open([datagram for _, _, datagram in sent], now)
            assert opened == [(number, plain) for number, plain, _ in sent]
            if opened and rng.random() < 0.7:  # the ACK rides on a packet of the receiver's
                receiver_datagrams = receiver.seal(b"ack", now=now)
                if rng.random() < 0.8:
                    assert len(sender.open(receiver_datagrams, now)) == 1
                    sender.protection.on_acked(max(number for number, _ in opened), now)
    assert ends.initiator.protection.phase > 20
    assert ends.initiator.protection.failed == ends.responder.protection.failed == 0


# --- housekeeping


def test_repr_shows_no_key_material() -> None:
    ends = pair()
    shown = repr(ends.initiator.protection)
    assert shown == "<Protection next=0 largest=-1 phase=0>"
    for end in (ends.initiator, ends.responder):
        values = " ".join(repr(getattr(end.protection, name)) for name in names_of(end.protection) if name != "_iv")
        for role in Role:
            keys = SessionSecrets(MASTER).traffic(role)
            assert keys.key.hex() not in values
            assert str(keys.iv) not in values
            assert repr(keys.key) not in values
            assert repr(keys.secret) not in values


def test_the_suite_is_part_of_the_keys() -> None:
    crypto = ToyCrypto()
    chacha = Pair(crypto, Suite.CHACHA20_POLY1305)
    aes = Pair(crypto, Suite.AES_256_GCM)
    assert aes.responder.open(chacha.initiator.seal(b"x")) == []


def test_limits_default_to_those_of_the_protocol() -> None:
    assert KeyLimits() == (1 << 22, 1 << 35, 3600.0, 1 << 36, (1 << 23) - 1024)
    protection = Protection(ToyCrypto(), Suite.AES_256_GCM, SessionSecrets(MASTER), Role.INITIATOR)
    assert not protection.exhausted


def test_a_violation_names_key_update() -> None:
    ends = pair()
    ends.initiator.seal(b"0")
    ends.initiator.protection.on_acked(0, 0.0)
    ends.initiator.protection.update_keys(0.0)
    with pytest.raises(Violation) as caught:
        ends.responder.open(ends.initiator.seal(b"nobody acknowledged anything"))
    assert caught.value.code is ErrorCode.KEY_UPDATE
