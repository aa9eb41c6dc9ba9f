"""Whole sessions on long, lossy, deep and shared roads: they take what theory allows them, and leave others theirs.

What the controllers do by themselves is in ``test_congestion.py``; here all of a session stands between them and the
road: flow control, pacing, batches, acknowledgements, and the peer's socket buffer.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.fairness import theory
from benchmarks.fairness.curves import MBIT
from benchmarks.fairness.flows import Stt
from benchmarks.fairness.road import Road, Traffic
from stt_core.config import Congestion
from tests.sim.flows import jain

STOCK_SOCKET = 425_984
"""What Linux grants without being told otherwise, as its kernel counts."""


def speeds(traffic: Traffic, flows: list[Stt], seconds: float) -> list[float]:
    """Mbit/s of each, over the next so many seconds."""
    before = [flow.arrived for flow in flows]
    traffic.run(seconds)
    return [(flow.arrived - had) / seconds / MBIT for flow, had in zip(flows, before, strict=True)]


def alone(road: Road, warm: float, seconds: float, congestion: Congestion = "cubic", **config: Any) -> float:
    """Mbit/s of a session that has the road for itself."""
    traffic = Traffic(road, 1)
    flow = Stt(traffic, congestion, **config)
    traffic.open()
    flow.start()
    traffic.run(warm)
    return speeds(traffic, [flow], seconds)[0]


def beside(one: Congestion, other: Congestion, later: float) -> list[float]:
    """Mbit/s of two sessions that share 5 Mbit/s over 40 ms, the second having come ``later`` seconds after."""
    traffic = Traffic(Road(5, 0.04), 1)
    flows = [Stt(traffic, one), Stt(traffic, other)]
    traffic.open()
    flows[0].start()
    traffic.run(later)
    flows[1].start()
    traffic.run(10.0)
    return speeds(traffic, flows, 20.0)


@pytest.mark.parametrize("later", [0.01, 5.0])
def test_two_sessions_share_alike_whenever_the_second_came(later: float) -> None:
    shares = beside("cubic", "cubic", later)
    assert jain(shares) >= 0.95
    assert sum(shares) > 0.95 * theory.link(Road(5, 0.04))


@pytest.mark.parametrize("later", [0.01, 5.0])
def test_a_session_with_cubic_leaves_one_with_newreno_its_share(later: float) -> None:
    reno, cubic = beside("newreno", "cubic", later)
    assert cubic <= 1.5 * theory.link(Road(5, 0.04)) / 2
    assert reno + cubic > 0.95 * theory.link(Road(5, 0.04))


def test_where_one_in_a_hundred_is_lost_a_session_gets_what_theory_allows() -> None:
    road = Road(50, 0.04, 0.01)
    allowed = theory.rate(theory.cubic(road.loss, road.rtt), road)
    assert alone(road, 5.0, 60.0) >= 0.8 * allowed


def test_where_windows_are_small_they_are_not_held_up_by_late_acknowledgements() -> None:
    """Of a window of a few packets the odd one would wait for as long as ``max_ack_delay``."""
    road = Road(50, 0.04, 0.1)
    allowed = theory.rate(theory.reno(road.loss, road.rtt), road)
    assert alone(road, 5.0, 100.0) >= 0.95 * allowed


@pytest.mark.parametrize("congestion", ["cubic", "newreno"])
def test_a_long_road_to_a_stock_socket_is_full(congestion: Congestion) -> None:
    road = Road(20, 0.2)
    assert alone(road, 5.0, 5.0, congestion, receive_buffer_hint=STOCK_SOCKET) > 0.95 * theory.link(road)


def test_a_deep_queue_is_not_filled_by_slow_start() -> None:
    traffic = Traffic(Road(10, 0.04, queue=1_250_000), 1)
    flow = Stt(traffic, "cubic")
    traffic.open()
    flow.start()
    traffic.run(6.0)
    assert traffic.link.dropped == 0
    assert traffic.link.longest / traffic.road.rate < 0.45
    (speed,) = speeds(traffic, [flow], 2.0)
    assert speed > 0.99 * theory.link(traffic.road)
