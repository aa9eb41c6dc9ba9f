"""The search for a path's size finds it on every path, and marks fail on none that is honest."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stt_core.recovery.ecn import EcnState, EcnValidator
from stt_core.recovery.mtu import BASE, FINEST, LADDER, MAX_PROBES, MtuSearch


class SearchMachine(RuleBasedStateMachine):
    """One search, a path whose size changes, and everything that can become of packets on it."""

    @initialize(limit=st.integers(1000, 70_000), path=st.integers(BASE, 66_000))
    def begin(self, limit: int, path: int) -> None:
        self.search = MtuSearch(limit)
        self.path = path
        self.now = 0.0
        self.underway = 0
        self.arrived = {BASE}

    @rule(path=st.integers(BASE, 66_000))
    def change_the_path(self, path: int) -> None:
        self.path = path

    @rule(seconds=st.integers(0, 700))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        if self.now >= self.search.resume_at:
            self.search.resume(self.now)

    @precondition(lambda self: self.search.wanted and not self.underway)
    @rule()
    def send_a_probe(self) -> None:
        self.underway = self.search.wanted
        self.search.on_probe_sent()
        assert not self.search.wanted

    @precondition(lambda self: self.underway)
    @rule(lost=st.booleans())
    def end_a_probe(self, lost: bool) -> None:
        size, self.underway = self.underway, 0
        before = self.search.size
        if lost or size > self.path:
            self.search.on_probe_lost(self.now)
            assert self.search.size == before
        else:
            self.arrived.add(size)
            changed = self.search.on_probe_acked(self.now)
            assert self.search.size == (size if changed else before)

    @precondition(lambda self: self.underway)
    @rule()
    def refuse_a_probe(self) -> None:
        size, self.underway = self.underway, 0
        self.search.on_too_big(size, self.now)

    @rule()
    def refuse_what_is_sent(self) -> None:
        size = self.search.size
        assert self.search.on_too_big(size, self.now) is (size > BASE)
        assert self.search.size == BASE

    @precondition(lambda self: self.search.size > BASE)
    @rule(large=st.booleans())
    def lose_or_get_large_packets(self, large: bool) -> None:
        if large:
            self.search.on_large_acked()
            assert not self.search.suspicious
        elif self.search.on_large_lost(self.now):
            assert self.search.size == BASE

    @rule(ptos=st.integers(1, 6))
    def hear_nothing(self, ptos: int) -> None:
        if self.search.on_silence(ptos, self.now):
            assert self.search.size == BASE

    @invariant()
    def it_stays_within_what_was_shown_to_work(self) -> None:
        if not hasattr(self, "search"):
            return
        search = self.search
        assert search.size in self.arrived
        assert BASE <= search.size <= search.limit
        assert search.wanted == 0 or search.size < search.wanted <= search.limit

    def teardown(self) -> None:
        """Left alone, it finds the size of the path as it is now, in a bounded number of probes."""
        if not hasattr(self, "search"):
            return
        search = self.search
        if self.underway:
            search.on_probe_lost(self.now)
        if search.size > self.path:
            search.on_silence(6, self.now)
        probes = 0
        for _ in range(2):
            while search.wanted:
                size = search.wanted
                search.on_probe_sent()
                probes += 1
                if size <= self.path:
                    search.on_probe_acked(self.now)
                else:
                    search.on_probe_lost(self.now)
            if search.resume_at < float("inf"):
                search.resume(search.resume_at)
        assert probes <= 2 * MAX_PROBES * (len(LADDER) + 5)
        reachable = max((step for step in LADDER if step <= min(self.path, search.limit)), default=BASE)
        assert reachable <= search.size <= self.path
        first = min(LADDER[1], search.limit)
        if self.path < first:
            assert search.size >= self.path - FINEST


TestSearch = SearchMachine.TestCase
TestSearch.settings = settings(max_examples=150, stateful_step_count=40)


@st.composite
def journeys(draw: st.DrawFn) -> list[tuple[int, list[int], list[int], bool]]:
    """Batches: packets in each, which of them are lost, which are marked CE, and whether an ACK follows."""
    batches = []
    for _ in range(draw(st.integers(1, 12))):
        count = draw(st.integers(1, 14))
        chosen = st.lists(st.integers(0, count - 1), max_size=4)
        batches.append((count, draw(chosen), draw(chosen), draw(st.booleans())))
    return batches


@given(journeys=journeys())
@settings(max_examples=300)
def test_an_honest_path_never_fails_and_each_ce_mark_is_reported(
    journeys: list[tuple[int, list[int], list[int], bool]],
) -> None:
    ecn = EcnValidator()
    ect0 = ce = number = reported = 0
    unacked: list[int] = []
    ce_told = ce_acked = 0
    for count, lost, marks, acked in journeys:
        marked = ecn.mark(number, count)
        for index in range(count):
            if index in lost:
                continue
            unacked.append(number + index)
            ce += marked and index in marks
            ect0 += marked and index not in marks
        number += count
        if acked and unacked:
            runs = [(n, n) for n in unacked]
            merged = [runs[0]]
            for (_, before), (first, last) in pairwise(runs):
                if first == before + 1:
                    merged[-1] = (merged[-1][0], last)
                else:
                    merged.append((first, last))
            unacked = []
            reported += ecn.on_ack(merged, (ect0, 0, ce) if ect0 or ce else None)
            ce_acked, ce_told = ce_acked + (ce > ce_told), ce
    assert ecn.state is not EcnState.FAILED
    assert reported == ce_acked


@given(journeys=journeys(), bleached=st.integers(0, 13))
@settings(max_examples=200)
def test_a_path_that_erases_a_mark_fails_as_soon_as_that_is_acknowledged(
    journeys: list[tuple[int, list[int], list[int], bool]], bleached: int
) -> None:
    ecn = EcnValidator()
    number = ect0 = 0
    for count, _, _, _ in journeys:
        marked = ecn.mark(number, count)
        erased = marked and bleached < count
        ect0 += (count - erased) if marked else 0
        ecn.on_ack([(number, number + count - 1)], (ect0, 0, 0) if ect0 else None)
        number += count
        if erased:
            assert ecn.state is EcnState.FAILED
            return
