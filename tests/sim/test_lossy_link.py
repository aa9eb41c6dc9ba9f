"""Data over links that lose, reorder, duplicate and damage: every byte arrives, in order, once, and ends its stream."""

from __future__ import annotations

from typing import Any

import pytest

from stt_core.events import SessionClosed
from stt_core.types import StreamMode
from tests.sim import Conditions, Echo, Host, Lab, LabFailure, Reader, Sender, Traffic, payload

WEATHER: dict[str, dict[str, Any]] = {
    "clear": {"delay": 0.01},
    "lossy": {"delay": 0.02, "loss": 0.1},
    "shuffled": {"delay": 0.02, "jitter": 0.01, "reorder": 0.3, "reorder_hold": 0.05},
    "echoing": {"delay": 0.005, "duplicate": 0.3},
    "damaging": {"delay": 0.01, "corrupt": 0.03},
    "everything": {
        "delay": 0.02, "jitter": 0.005, "loss": 0.1, "reorder": 0.05, "duplicate": 0.02, "corrupt": 0.01,
    },
    "far away": {"delay": 0.3, "jitter": 0.05, "loss": 0.05},
}  # fmt: skip

MESSAGES = [b"", b"x", b"", payload(70_000, "large"), *(payload(n * 37 % 3000, n) for n in range(120)), b""]


@pytest.mark.parametrize("weather", WEATHER)
@pytest.mark.parametrize("coalesce", [True, False], ids=["batches", "singles"])
def test_streams_both_ways_arrive_whole(weather: str, coalesce: bool) -> None:
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    a.coalesce = b.coalesce = coalesce
    lab.link(a, b, **WEATHER[weather])
    traffic = Traffic(a, b)
    traffic.stream(a, 200_000)
    traffic.stream(b, 150_000)
    traffic.messages(a, MESSAGES)
    traffic.messages(b, MESSAGES[::-1])
    traffic.stream(a, 0)
    traffic.messages(b, [])
    traffic.stream(b, 3000, stream_id=7)
    a.connect(b)
    lab.run_until(traffic.done, timeout=120)
    traffic.check()
    assert not a.saw(SessionClosed)
    assert not b.saw(SessionClosed)


@pytest.mark.parametrize("tight", ["sender", "receiver", "both"])
def test_the_smallest_buffers_and_windows_only_make_it_slower(tight: str) -> None:
    small: dict[str, Any] = {"stream_window": 4096, "session_window": 8192, "max_window": 8192, "send_buffer": 4096}
    lab = Lab()
    a = lab.endpoint("a", **(small if tight != "receiver" else {}))
    b = lab.endpoint("b", **(small if tight != "sender" else {}))
    lab.link(a, b, **WEATHER["everything"])
    traffic = Traffic(a, b)
    for host in (a, b):
        traffic.stream(host, 40_000)
        traffic.messages(host, [payload(9000, "larger than any window here"), b"", payload(2000, "then")])
    a.connect(b)
    lab.run_until(traffic.done, timeout=300)
    traffic.check()


@pytest.mark.parametrize("mode", StreamMode)
def test_an_echo_over_a_bad_link_gives_back_what_was_said(mode: StreamMode) -> None:
    lab = Lab()
    reader = Reader()
    said = payload(120_000, "echo") if mode is StreamMode.BYTES else MESSAGES
    a, b = lab.endpoint("a", Sender(said), reader), lab.endpoint("b", Echo())
    lab.link(a, b, **WEATHER["everything"])
    key = a.connect(b)
    lab.run_until(lambda: bool(reader.ended), timeout=120)
    (name,) = reader.ended
    assert name[0] == key
    assert (bytes(reader.data[name]) if mode is StreamMode.BYTES else reader.messages[name]) == said


def test_each_side_may_send_over_the_same_chosen_id() -> None:
    lab = Lab()
    readers = {name: Reader() for name in "ab"}
    texts = {name: [name.encode() * 500, b"", payload(5000, name)] for name in "ab"}
    hosts: dict[str, Host] = {}
    for name in "ab":
        hosts[name] = lab.endpoint(name, Sender(texts[name], stream_id=1), readers[name])
    lab.link(hosts["a"], hosts["b"], **WEATHER["everything"])
    hosts["a"].connect(hosts["b"])
    lab.run_until(lambda: all(reader.ended for reader in readers.values()), timeout=60)
    assert list(readers["a"].messages.values()) == [texts["b"]]
    assert list(readers["b"].messages.values()) == [texts["a"]]


def test_loss_one_way_only_is_enough_to_need_and_get_recovery() -> None:
    for bad in ("forth", "back"):
        lab = Lab()
        a, b = lab.endpoint("a"), lab.endpoint("b")
        lab.link(a, b, **{bad: Conditions(delay=0.02, loss=0.3)})
        traffic = Traffic(a, b)
        traffic.stream(a, 100_000)
        a.connect(b)
        lab.run_until(traffic.done, timeout=120)
        traffic.check()


def test_a_slow_reader_holds_the_sender_back_and_loses_nothing() -> None:
    """Credit grows on what the application read, never on what arrived: the sender's buffer fills, then waits."""
    lab = Lab()
    sender = Sender(payload(2_000_000, "much"))
    a, b = lab.endpoint("a", sender), lab.endpoint("b")
    lab.link(a, b, delay=0.01)
    a.connect(b)
    lab.run_for(20.0)
    assert sender.turned_down
    assert sender.acknowledged == 0
    delivered = sum(len(sent.data) for sent in lab.transcript if sent.source == a.address)
    assert delivered < 600_000  # a window of 256 KiB, and what blocked probing costs, not 2 MB
    reader = Reader()
    b.add(reader)
    for event in list(b.events):
        reader.on_event(b, event)
    lab.run_until(lambda: bool(reader.ended), timeout=60)
    assert bytes(next(iter(reader.data.values()))) == payload(2_000_000, "much")


def test_the_check_itself_sees_a_wrong_byte_a_missing_stream_and_one_nobody_sent() -> None:
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b)
    traffic = Traffic(a, b)
    traffic.stream(a, 1000)
    a.connect(b)
    lab.run_until(traffic.done)
    traffic.check()
    body = next(iter(traffic.reader(b).data.values()))
    body[500] ^= 1
    with pytest.raises(LabFailure, match="differs first at 500"):
        traffic.check()
    body[500] ^= 1
    del body[999:]
    with pytest.raises(LabFailure, match="1000 items were sent, 999 read"):
        traffic.check()
    traffic.messages(a, [b"never sent: the session was up already"])
    with pytest.raises(LabFailure, match="a 0"):
        traffic.check()
