"""What the congestion controllers make of links: as much as theory allows them, fair shares, and no needless queues."""

from __future__ import annotations

from math import inf, sqrt

import pytest

from stt_core.recovery.cubic import Cubic
from stt_core.recovery.ecn import EcnState
from stt_core.recovery.hystart import HyStart
from stt_core.recovery.newreno import NewReno
from stt_core.recovery.window import LossBased
from tests.sim.flows import SIZE, Flow, Marker, Net, jain
from tests.sim.wire import Bottleneck, Delay, Loss, Reorder, Switch

MBIT = 1e6 / 8


def rates(net: Net, flows: list[Flow], seconds: float) -> list[float]:
    """Bytes a second that arrive of each flow, over the next so many seconds."""
    before = [flow.arrived for flow in flows]
    net.run(seconds)
    return [(flow.arrived - had) / seconds for flow, had in zip(flows, before, strict=True)]


def cubic_window(loss: float, rtt: float) -> float:
    """The average window in datagrams: RFC 9438 equation 7, or the Reno-friendly one (equation 3) where larger."""
    return max(1.054 * sqrt(sqrt((rtt / loss) ** 3)), sqrt(1.5 / loss))


@pytest.mark.parametrize(("loss", "rtt"), [(0.01, 0.04), (0.001, 0.1), (0.0005, 0.2)])
def test_under_random_loss_a_flow_gets_what_theory_allows_it(loss: float, rtt: float) -> None:
    net = Net()
    flow = Flow(
        net,
        Cubic(SIZE),
        [Bottleneck(50 * MBIT, 1_000_000), Loss(loss), Delay(rtt / 2)],
        [Delay(rtt / 2)],
    )
    flow.start()
    net.run(5.0)
    (rate,) = rates(net, [flow], 50.0)
    assert 0.8 < rate * rtt / SIZE / cubic_window(loss, rtt) < 1.3


@pytest.mark.parametrize("queue", [0.5, 2.0])
def test_two_cubic_flows_share_alike_and_fill_the_link(queue: float) -> None:
    net, rate, rtt = Net(), 10 * MBIT, 0.04
    link = Bottleneck(rate, int(queue * rate * rtt))
    flows = [Flow(net, Cubic(SIZE), [link, Delay(rtt / 2)], [Delay(rtt / 2)]) for _ in range(2)]
    flows[0].start()
    flows[1].start(after=3.0)
    net.run(8.0)
    shares = rates(net, flows, 25.0)
    assert jain(shares) > 0.95
    assert sum(shares) > 0.95 * rate


@pytest.mark.parametrize("queue", [0.5, 2.0])
def test_where_reno_governs_cubic_leaves_reno_its_share(queue: float) -> None:
    net, rate, rtt = Net(), 10 * MBIT, 0.04
    link = Bottleneck(rate, int(queue * rate * rtt))
    cubic, reno = (Flow(net, made, [link, Delay(rtt / 2)], [Delay(rtt / 2)]) for made in (Cubic(SIZE), NewReno(SIZE)))
    cubic.start()
    reno.start(after=0.5)
    net.run(8.0)
    mine, others = rates(net, [cubic, reno], 25.0)
    assert mine + others > 0.95 * rate
    assert mine < 1.5 * rate / 2


@pytest.mark.parametrize("controller", [Cubic, NewReno])
@pytest.mark.parametrize(("rate", "rtt"), [(1 * MBIT, 0.2), (10 * MBIT, 0.02), (50 * MBIT, 0.08)])
def test_an_empty_link_is_full_within_a_few_round_trips(controller: type[LossBased], rate: float, rtt: float) -> None:
    net = Net()
    link = Bottleneck(rate, int(rate * rtt))
    flow = Flow(net, controller(SIZE), [link, Delay(rtt / 2)], [Delay(rtt / 2)])
    flow.start()
    doublings = 0
    while 10 * SIZE * 2**doublings < rate * rtt:
        doublings += 1
    net.run((doublings + 3) * rtt)
    (achieved,) = rates(net, [flow], 5 * rtt)
    assert achieved > 0.9 * rate


class Blind(HyStart):
    """Slow start as it was before: until the first loss."""

    def on_rtt(self, latest: float, sent_at: float, now: float) -> bool:
        return False


def slow_start_over(queue: float, *, blind: bool = False) -> tuple[int, float]:
    """Packets dropped until the window begins to shrink or to follow its curve, and the longest queue in round trips.

    20 Mbit/s over 40 ms, with a queue of ``queue`` times what that holds.
    """
    net, rate, rtt = Net(), 20 * MBIT, 0.04
    link = Bottleneck(rate, int(queue * rate * rtt))
    cubic = Cubic(SIZE)
    if blind:
        cubic._hystart = Blind()
    flow = Flow(net, cubic, [link, Delay(rtt / 2)], [Delay(rtt / 2)])
    flow.start()
    while cubic.ssthresh == inf:
        net.run(rtt / 4)
    net.run(1.5 * link.longest / rate)  # what is lost of this window is known by then
    return link.dropped, link.longest / rate / rtt


def test_slow_start_ends_before_a_deep_queue_is_full() -> None:
    dropped, longest = slow_start_over(16.0)
    assert dropped == 0
    assert longest < 14
    dropped, longest = slow_start_over(16.0, blind=True)
    assert dropped > 1000, "without HyStart++ it ends by losing a window"


@pytest.mark.parametrize("queue", [3.0, 6.0])
def test_slow_start_overruns_a_middling_queue_by_a_fraction_of_a_window(queue: float) -> None:
    dropped, _ = slow_start_over(queue)
    assert 0 < dropped < 0.3 * slow_start_over(queue, blind=True)[0]


@pytest.mark.parametrize("threshold", [0.25, 1.0])
def test_where_the_link_marks_nothing_is_lost_and_the_queue_stays_short(threshold: float) -> None:
    net, rate, rtt = Net(), 20 * MBIT, 0.04
    holds = rate * rtt
    link = Marker(rate, int(8 * holds), int(threshold * holds))
    flow = Flow(net, Cubic(SIZE), [link, Delay(rtt / 2)], [Delay(rtt / 2)], ecn=True)
    flow.start()
    net.run(3.0)
    link.longest = 0.0
    (achieved,) = rates(net, [flow], 10.0)
    assert flow.ecn is not None
    assert flow.ecn.state is EcnState.CAPABLE
    assert (link.dropped, flow.recovery.packets_lost) == (0, 0)
    assert link.longest < (threshold + 0.1) * holds
    assert achieved > 0.85 * rate


def test_packets_that_only_overtake_each_other_do_not_cost_the_window() -> None:
    """Each hundredth is held back by a quarter of a round trip, beyond the packet threshold."""
    net, rate, rtt = Net(), 20 * MBIT, 0.04
    link = Bottleneck(rate, int(rate * rtt))
    flow = Flow(net, Cubic(SIZE), [link, Delay(rtt / 2), Reorder(0.01, 0.01)], [Delay(rtt / 2)])
    flow.start()
    net.run(2.0)
    (achieved,) = rates(net, [flow], 10.0)
    assert flow.recovery.packets_lost - link.dropped > 100, "losses that were none"
    assert achieved > 0.9 * rate


@pytest.mark.parametrize("controller", [Cubic, NewReno])
def test_after_a_pause_the_window_is_as_it_was_and_leaves_in_no_burst(controller: type[LossBased]) -> None:
    net, rate, rtt = Net(), 20 * MBIT, 0.04
    link = Bottleneck(rate, int(rate * rtt))
    flow = Flow(net, controller(SIZE), [link, Delay(rtt / 2)], [Delay(rtt / 2)])
    flow.start()
    net.run(10.0)
    flow.active = False
    net.run(1.0)
    before = flow.congestion.cwnd
    net.run(600.0)
    assert flow.congestion.cwnd == before
    flow.active, link.longest = True, 0.0
    flow.pump()
    net.run(1.2 * rtt)
    assert link.longest < 0.4 * before, "paced, the window fills a fifth of itself at the link, not all"
    assert flow.congestion.cwnd < 1.05 * before


@pytest.mark.parametrize("controller", [Cubic, NewReno])
def test_an_outage_is_over_for_a_sender_whose_backoff_is_capped(controller: type[LossBased]) -> None:
    net, rate, rtt = Net(), 10 * MBIT, 0.04
    cable = Switch()
    flow = Flow(net, controller(SIZE), [cable, Bottleneck(rate, int(rate * rtt)), Delay(rtt / 2)], [Delay(rtt / 2)])
    flow.recovery.max_pto = 3.75
    flow.start()
    net.run(5.0)
    cable.up = False
    net.run(25.0)
    had = flow.arrived
    windows: list[int] = []
    flow.watch = lambda now: windows.append(flow.congestion.cwnd)
    cable.up = True
    net.run(3.75 + 3 * rtt)
    assert flow.arrived > had, "a backoff without a cap might wait for another 25 s"
    assert min(windows) <= 3 * SIZE, "persistent congestion: it begins small"
    net.run(3.0)
    (achieved,) = rates(net, [flow], 5.0)
    assert achieved > 0.8 * rate
