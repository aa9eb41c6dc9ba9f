"""Links with a rate, a queue and a largest datagram: used well, shared fairly, and never driven into collapse."""

from __future__ import annotations

from typing import Any

import pytest

from stt_core.events import SessionClosed
from tests.sim import Bottleneck, Conditions, Host, Lab, Traffic
from tests.sim.wire import Delay, Mtu

RATE = 250_000
"""Bytes a second."""


def transfer(lab: Lab, size: int, narrow: Bottleneck, delay: float, hint: int = 212_992) -> tuple[Host, Host, float]:
    """Move ``size`` bytes through the bottleneck to a socket with a buffer of ``hint``; also gives the seconds."""
    a, b = lab.endpoint("a"), lab.endpoint("b", receive_buffer_hint=hint)
    lab.link(a, b, forth=Conditions(delay, extra=[narrow]), back=Conditions(delay))
    traffic = Traffic(a, b)
    traffic.stream(a, size)
    a.connect(b)
    lab.run_until(traffic.done, timeout=20 * size / narrow.rate + 5.0)
    traffic.check()
    return a, b, lab.elapsed


@pytest.mark.parametrize("queue", [8_000, 25_000, 100_000])
def test_a_narrow_link_is_filled_and_little_is_sent_twice(queue: int) -> None:
    lab = Lab()
    narrow = Bottleneck(RATE, queue)
    size = 3_000_000
    a, _, took = transfer(lab, size, narrow, delay=0.02)
    share = size / took / RATE
    # Two thirds even with a queue of less than the path's own 10 KB; nearly all with more.
    assert share > (0.66 if queue < 10_000 else 0.85)
    assert narrow.carried < 1.1 * size
    assert a.sent_bytes < 1.15 * size


def test_a_sudden_drop_to_a_twentieth_of_the_rate_is_survived_without_a_storm() -> None:
    lab = Lab()
    narrow = Bottleneck(RATE, 25_000)
    lab.at(4.0, lambda: setattr(narrow, "rate", RATE / 20))
    lab.at(34.0, lambda: setattr(narrow, "rate", RATE))
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, forth=Conditions(0.02, extra=[narrow]), back=Conditions(0.02))
    traffic = Traffic(a, b)
    traffic.stream(a, 3_000_000)
    a.connect(b)
    lab.run_for(6.0)
    sent = a.sent_bytes
    lab.run_for(27.0)
    assert a.sent_bytes - sent < 1.5 * 27.0 * RATE / 20
    lab.run_until(traffic.done, timeout=60.0)
    traffic.check()


def test_sessions_that_share_a_bottleneck_all_get_something_like_their_share() -> None:
    lab = Lab()
    narrow = Bottleneck(RATE, 25_000)
    server = lab.endpoint("server")
    clients = [lab.endpoint(f"client {number}") for number in range(4)]
    for client in clients:
        lab.chain(client, server, [narrow, Delay(0.02)])
        lab.chain(server, client, [Delay(0.02)])
    traffic = Traffic(server, *clients)
    for client in clients:
        traffic.stream(client, 3_000_000)
        client.connect(server)
    lab.run_for(40.0)
    got = sorted(len(data) for data in traffic.reader(server).data.values())
    assert len(got) == 4
    assert sum(got) > 0.8 * 40.0 * RATE
    assert got[0] > 0.4 * sum(got) / 4  # NewReno flows of one round-trip time converge, they don't tie
    assert not any(client.saw(SessionClosed) for client in clients)


def test_a_slow_way_back_slows_nothing_but_the_acknowledgements() -> None:
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, forth=Conditions(0.02, rate=RATE), back=Conditions(0.02, rate=RATE / 25))
    traffic = Traffic(a, b)
    traffic.stream(a, 1_000_000)
    a.connect(b)
    lab.run_until(traffic.done, timeout=8.0)
    traffic.check()


@pytest.mark.parametrize("limit", [65_472, 1200])
def test_a_link_that_carries_1200_bytes_carries_everything(limit: int) -> None:
    lab = Lab()
    a, b = lab.endpoint("a", max_udp_payload=limit), lab.endpoint("b", max_udp_payload=limit)
    small = [Mtu(1200), Mtu(1200)]
    lab.link(a, b, forth=Conditions(0.02, extra=small[:1]), back=Conditions(0.02, extra=small[1:]))
    traffic = Traffic(a, b)
    traffic.stream(a, 500_000)
    traffic.stream(b, 500_000)
    traffic.messages(a, [bytes(n) for n in range(1100, 1250)])
    a.connect(b)
    lab.run_until(traffic.done, timeout=10.0)
    traffic.check()
    # Looking for a larger size is allowed, three times each for four sizes both ways; sending data so is not.
    assert sum(mtu.dropped for mtu in small) <= 24


def test_a_long_fat_link_is_used_beyond_the_first_window() -> None:
    lab = Lab(capture=False)
    _, _, took = transfer(lab, 8_000_000, Bottleneck(2_000_000, 400_000), delay=0.1, hint=4 * 1024 * 1024)
    assert 8_000_000 / took > 0.5 * 2_000_000


def test_no_more_is_in_flight_than_half_of_the_peers_socket_buffer() -> None:
    lab = Lab(capture=False)
    narrow = Bottleneck(2_000_000, 4_000_000)
    transfer(lab, 2_000_000, narrow, delay=0.1, hint=65_536)
    # A datagram of 1200 bytes costs a kernel 2300: 14 of them are half of 64 KiB, and probes may add a few.
    assert narrow.longest < 20 * 1200


def test_pauses_of_the_pacer_are_not_taken_for_the_applications() -> None:
    """Else the window would stop growing where the pacer, and not the window, is what a batch waits for."""
    lab = Lab(capture=False)
    room: dict[str, Any] = {"max_window": 1 << 24, "stream_window": 1 << 23, "session_window": 1 << 23}
    room |= {"send_buffer": 1 << 24, "receive_buffer_hint": 1 << 24, "max_udp_payload": 1200}
    a, b = lab.endpoint("a", **room), lab.endpoint("b", **room)
    lab.link(a, b, forth=Conditions(0.1, extra=[Bottleneck(3_000_000, 300_000)]), back=Conditions(0.1))
    traffic = Traffic(a, b)
    traffic.stream(a, 6_000_000)
    key = a.connect(b)
    limited = []

    def look() -> None:
        session: Any = a.session(key)
        channel = session._channel
        if channel is not None and channel._outgoing.backlog > 1200:
            limited.append(channel.outbound.limited)
        lab.at(lab.elapsed + 0.001, look)

    lab.at(1.0, look)  # the handshake is over, and the stream opened
    lab.run_until(traffic.done, timeout=10.0)
    assert len(limited) > 1000
    assert all(limited), "the application always had more"


@pytest.mark.parametrize(("carries", "found"), [(8868, 8800), (8972, 8900)])
def test_the_jumbo_frames_of_clouds_are_found(carries: int, found: int) -> None:
    lab = Lab(capture=False)
    a, b = lab.endpoint("a", receive_buffer_hint=1 << 22), lab.endpoint("b", receive_buffer_hint=1 << 22)
    lab.link(a, b, forth=Conditions(0.01, extra=[Mtu(carries)]), back=Conditions(0.01, extra=[Mtu(carries)]))
    traffic = Traffic(a, b)
    traffic.stream(a, 2_000_000)
    key = a.connect(b)
    lab.run_until(traffic.done, timeout=20.0)
    traffic.check()
    session: Any = a.session(key)
    assert session.statistics().datagram_size == found
