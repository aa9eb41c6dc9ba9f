"""Whatever happens in whatever order, a window grows, shrinks and stays within its bounds."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stt_core.recovery.controllers import make_controller
from stt_core.recovery.cubic import Cubic
from stt_core.recovery.newreno import NewReno

SIZES = [1200, 1452, 8900, 65_472]
KEEPS: dict[str, Callable[[int], int]] = {"cubic": lambda cwnd: round(cwnd * 0.7), "newreno": lambda cwnd: cwnd // 2}


class ControllerMachine(RuleBasedStateMachine):
    """One controller, and everything that recovery may tell it."""

    @initialize(name=st.sampled_from(sorted(KEEPS)))
    def begin(self, name: str) -> None:
        self.name = name
        self.controller = make_controller(name, 1200)
        self.size = 1200
        self.now = 100.0
        self.rtt = 0.05
        self.told = False

    @rule(milliseconds=st.integers(0, 3000))
    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds / 1000

    @rule(milliseconds=st.integers(1, 500), ago=st.integers(0, 500))
    def sample(self, milliseconds: int, ago: int) -> None:
        before = self.controller.cwnd
        self.rtt = 0.875 * self.rtt + milliseconds / 8000
        self.controller.on_rtt(milliseconds / 1000, self.rtt, self.now - ago / 1000, self.now)
        assert self.controller.cwnd == before

    @rule(share=st.floats(0.001, 1.0), times=st.integers(1, 8))
    def arrive(self, share: float, times: int) -> None:
        for _ in range(times):
            before, slow_start = self.controller.cwnd, self.controller.cwnd < self.controller.ssthresh
            size = max(1, int(share * before))
            self.controller.on_acked(size, self.now, app_limited=False)
            grown = self.controller.cwnd - before
            assert 0 <= grown <= size + self.size, "never faster than slow start, but for whole datagrams"
            if slow_start and self.controller.ssthresh < inf:
                assert self.controller.cwnd >= min(before + size, self.controller.ssthresh)
            self.now += self.rtt * share
        self.told = True

    @rule(share=st.floats(0.001, 1.0))
    def arrive_without_need_of_the_window(self, share: float) -> None:
        before = self.controller.cwnd
        self.controller.on_acked(max(1, int(share * before)), self.now, app_limited=True)
        assert self.controller.cwnd == before

    @rule()
    def begin_to_send_again(self) -> None:
        before = self.controller.cwnd
        self.controller.on_restart(self.now)
        assert self.controller.cwnd == before

    @rule(ago=st.integers(0, 500), marked=st.booleans())
    def congest(self, ago: int, marked: bool) -> None:
        before, since = self.controller.cwnd, self.controller.recovery_start
        sent_at = self.now - ago / 1000
        reduced = self.controller.on_congestion(sent_at, self.now, marked)
        assert reduced is (sent_at > since)
        if reduced:
            assert self.controller.cwnd == max(KEEPS[self.name](before), 2 * self.size)
            assert self.controller.recovery_start == self.now
            self.told = True
        else:
            assert self.controller.cwnd == before

    @rule()
    def take_back(self) -> None:
        before = self.controller.cwnd
        self.controller.on_spurious_congestion()
        assert self.controller.cwnd >= before

    @rule()
    def start_over(self) -> None:
        self.controller.on_congestion(self.now, self.now)
        self.controller.on_persistent_congestion(self.now)
        assert self.controller.cwnd == 2 * self.size
        self.told = True

    @rule(size=st.sampled_from(SIZES))
    def change_size(self, size: int) -> None:
        before = self.controller.cwnd
        self.controller.set_datagram_size(size)
        self.size = size
        if self.told:
            assert self.controller.cwnd == max(before, 2 * size)

    @invariant()
    def it_is_a_window(self) -> None:
        if hasattr(self, "controller"):
            assert isinstance(self.controller.cwnd, int)
            assert self.controller.cwnd >= 2 * self.size


TestController = ControllerMachine.TestCase
TestController.settings = settings(max_examples=150, stateful_step_count=60)


@given(
    datagrams=st.integers(4, 3000),
    rtt=st.floats(0.0005, 0.5),
    trips=st.integers(0, 40),
    share=st.floats(0.01, 1.0),
    late=st.floats(0.0, 5.0),
)
@settings(max_examples=200)
@pytest.mark.parametrize("made", [Cubic, NewReno])
def test_one_ack_for_many_packets_never_grows_a_window_beyond_what_many_acks_would(
    made: type[Cubic | NewReno], datagrams: int, rtt: float, trips: int, share: float, late: float
) -> None:
    whole, single = made(1200), made(1200)
    for controller in (whole, single):
        now = 1.0
        controller.on_rtt(rtt, rtt, now - rtt, now)
        controller.on_acked(datagrams * 1200, now, app_limited=False)
        controller.on_congestion(now, now)
        for _ in range(trips):
            now += rtt
            controller.on_acked(controller.cwnd, now, app_limited=False)
    now += late
    before = whole.cwnd
    packets = max(1, int(share * before / 1200))
    whole.on_acked(packets * 1200, now, app_limited=False)
    for _ in range(packets):
        single.on_acked(1200, now, app_limited=False)
    assert before <= whole.cwnd <= single.cwnd + 1
    assert whole.cwnd - before >= 0.6 * (single.cwnd - before) - 1
