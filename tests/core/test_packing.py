"""Plaintexts in columns: full packets as runs, everything else sharing packets."""

from __future__ import annotations

import pytest

from stt_core.frames import Datagram, FrameType, parse_frames_untrusted
from stt_core.packing import Batch

ROOM = 100


def test_small_frames_share_a_packet() -> None:
    batch = Batch(ROOM, 3)
    assert batch.add(b"a" * 10, (1, 1))
    assert batch.add(b"b" * 10)
    assert batch.add(b"c" * 10, (2, 2))
    batch.end_packet(pad=False)
    assert batch.plains == [b"a" * 10 + b"b" * 10 + b"c" * 10]
    assert batch.records == [(1, [(1, 1), (2, 2)])]


def test_all_but_the_last_packet_are_filled_up() -> None:
    batch = Batch(ROOM, 3)
    for _ in range(5):
        assert batch.add(b"x" * 40)
    batch.end_packet(pad=False)
    assert [len(plain) for plain in batch.plains] == [ROOM, ROOM, 40]
    assert batch.plains[0] == b"x" * 80 + bytes(20)


def test_the_last_may_be_filled_up_too() -> None:
    batch = Batch(ROOM, 1)
    batch.add(b"x")
    batch.end_packet()
    assert batch.plains == [b"x" + bytes(99)]


def test_a_packet_holds_no_more_frames_than_its_reader_takes_the_padding_counted() -> None:
    batch = Batch(1168, 3)
    for _ in range(400):
        assert batch.add(Datagram(b"").encode(), (FrameType.DATAGRAM, 0))
    batch.end_packet(pad=True)
    assert [len(parse_frames_untrusted(plain)) for plain in batch.plains] == [255, 145]


def test_a_run_is_one_record_and_ends_the_open_packet() -> None:
    batch = Batch(ROOM, 5)
    batch.add(b"head", (9, 9))
    batch.add_run([b"r" * ROOM] * 3, (7, 1000, 85))
    batch.add(b"tail", (8, 8))
    batch.end_packet(pad=False)
    assert [len(plain) for plain in batch.plains] == [ROOM, ROOM, ROOM, ROOM, 4]
    assert batch.records == [(1, [(9, 9)]), (3, (7, 1000, 85)), (1, [(8, 8)])]


def test_there_are_never_more_packets_than_allowed() -> None:
    batch = Batch(ROOM, 2)
    added = 0
    while batch.add(b"x" * 60):
        added += 1
    batch.end_packet(pad=False)
    assert added == len(batch.plains) == 2
    assert batch.packets_left == 0


@pytest.mark.parametrize(("size", "fits"), [(1, True), (60, True), (61, True), (100, True), (101, False)])
def test_fits_says_what_add_would_do(size: int, fits: bool) -> None:
    batch, twin = Batch(ROOM, 2), Batch(ROOM, 2)
    for each in (batch, twin):
        each.add(b"x" * 40)
    assert batch.fits(size) is twin.add(b"y" * size) is fits


def test_only_tokens_and_runs_ask_to_be_acknowledged() -> None:
    quiet, token, run = Batch(ROOM, 2), Batch(ROOM, 2), Batch(ROOM, 2)
    quiet.add(b"ack")
    token.add(b"frame", (1, 2))
    run.add_run([bytes(ROOM)], (1, 0, 85))
    assert [quiet.eliciting, token.eliciting, run.eliciting] == [False, True, True]
    quiet.end_packet(pad=False)
    assert not quiet.eliciting
    assert quiet.records == [(1, [])]


def test_an_empty_batch_stays_empty() -> None:
    batch = Batch(ROOM, 2)
    batch.end_packet()
    assert not batch.plains
    assert not batch.records
    assert not batch.open_packet
    assert batch.packets_left == 2
