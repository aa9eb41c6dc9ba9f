"""What whoever connects says first leaves with what the protocol has to say itself."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest

from stt_core.errors import CloseReason
from stt_core.events import SessionClosed, SessionEstablished
from stt_core.types import StreamMode
from tests.backends.test_driver_refusals import WAIT, Side


@pytest.fixture
def sides() -> Iterator[tuple[Side, Side]]:
    """The first is told next that its session is established; what it sent up to then isn't counted."""
    one, other = Side(b"one"), Side(b"other")
    try:
        one.driver.endpoint.connect(other.socket.address, now=time.monotonic())
        one.driver.flush()
        for side in (other, one, other):
            turn(side)
        one.socket.sizes.clear()
        yield one, other
    finally:
        one.socket.close()
        other.socket.close()


def turn(side: Side) -> bool:
    """A turn, once there is something to read."""
    readable, _, _ = select.select([side.socket], [], [], WAIT)
    assert readable
    return side.driver.turn()


def test_a_new_session_waits_one_pass_for_its_first_words(sides: tuple[Side, Side]) -> None:
    one, other = sides
    assert turn(one)
    assert one.socket.sizes == []
    stream = one.session.open_stream(mode=StreamMode.BYTES)
    one.session.write(stream, b"first words")
    assert not one.driver.submit()
    assert not one.driver.settle()
    assert len(one.socket.sizes) == 1
    turn(other)
    assert other.session.read(stream) == b"first words"


def test_a_new_session_whose_owner_is_silent_speaks_by_itself(sides: tuple[Side, Side]) -> None:
    one, other = sides
    assert turn(one)
    assert not one.driver.settle()
    assert len(one.socket.sizes) == 1
    turn(other)
    assert [type(event) for event in other.events] == [SessionEstablished]


def test_a_session_that_is_closed_at_once_is_opened_and_closed_by_one_datagram(sides: tuple[Side, Side]) -> None:
    one, other = sides
    assert turn(one)
    one.session.close()
    assert not one.driver.submit()
    assert not one.driver.settle()
    assert len(one.socket.sizes) == 1
    turn(other)
    assert [type(event) for event in other.events] == [SessionEstablished, SessionClosed]
    closed = other.events[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.reason is CloseReason.GRACEFUL


def test_a_turn_sends_what_was_held_back(sides: tuple[Side, Side]) -> None:
    one, _ = sides
    assert turn(one)
    assert not one.driver.turn()
    assert len(one.socket.sizes) == 1
    assert not one.driver.settle()
    assert len(one.socket.sizes) == 1
