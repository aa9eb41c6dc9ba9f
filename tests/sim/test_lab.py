"""The laboratory itself: what each element does to datagrams, and that one seed is one history."""

from __future__ import annotations

from typing import Any

import pytest

from stt_core.types import Transmit
from tests.sim.fake import FakeEndpoint
from tests.sim.host import Host
from tests.sim.lab import SEED_VARIABLE, START, Lab, LabFailure, LabTimeout, seeded_entropy
from tests.sim.wire import Bottleneck, Conditions, Datagram, Switch, change, double, drop, hold

SIZE = 1000


def pair(lab: Lab, **conditions: Any) -> tuple[Host, FakeEndpoint, Host, FakeEndpoint]:
    """Two linked hosts with fake endpoints."""
    a, b = lab.endpoint("a", factory=FakeEndpoint), lab.endpoint("b", factory=FakeEndpoint)
    lab.link(a, b, **conditions)
    assert isinstance(a.endpoint, FakeEndpoint)
    assert isinstance(b.endpoint, FakeEndpoint)
    return a, a.endpoint, b, b.endpoint


def numbered(count: int) -> list[bytes]:
    return [number.to_bytes(4, "big") + bytes(SIZE - 4) for number in range(count)]


def send(a: FakeEndpoint, b: Host, datagrams: list[bytes]) -> None:
    for data in datagrams:
        a.queue(data, b.address)


def arrived(endpoint: FakeEndpoint) -> list[bytes]:
    return [data for _, _, data in endpoint.got]


class TestTime:
    def test_delay_is_exact_and_virtual(self) -> None:
        lab = Lab(1)
        a, fa, b, fb = pair(lab, delay=3600.0)
        fa.queue(b"x", b.address)
        lab.run_until(lambda: bool(fb.got), timeout=4000)
        assert fb.got[0][0] == START + 3600.0
        assert fb.got[0][1].address == a.address

    def test_a_timer_fires_at_its_time_and_moves_earlier_or_later(self) -> None:
        lab = Lab(1)
        _, fa, _, fb = pair(lab, delay=1.0)
        fa.timer = START + 50.0
        lab.run_for(1.0)
        fa.timer = START + 5.0
        lab.run_for(1.0)
        fa.timer = START + 7.5
        lab.run_for(60.0)
        assert fa.woken == [START + 7.5]
        assert fb.woken == []

    def test_waiting_for_what_never_happens_names_seed_and_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lab = Lab(77)
        _, fa, _, _ = pair(lab)
        with pytest.raises(LabTimeout, match="nothing is left to happen"):
            lab.run_until(lambda: False)
        fa.timer = START + 100.0
        with pytest.raises(LabTimeout) as failure:
            lab.run_until(lambda: False, timeout=30)
        here = "tests/sim/test_lab.py::TestTime::test_waiting_for_what_never_happens_names_seed_and_command"
        assert f"replay: {SEED_VARIABLE}=77 python -m pytest '{here}'" in str(failure.value)
        assert lab.elapsed == 30.0

    def test_a_timer_that_is_never_satisfied_is_found_out(self) -> None:
        class Spinning(FakeEndpoint):
            def handle_timer(self, now: float) -> None:
                self.timer = now

        lab = Lab(1)
        a = lab.endpoint("a", factory=Spinning)
        assert isinstance(a.endpoint, Spinning)
        a.endpoint.timer = START + 1.0
        with pytest.raises(LabFailure, match="asks for a timer"):
            lab.run_for(2.0)

    def test_an_endpoint_that_never_rests_is_found_out(self) -> None:
        class Babbling(FakeEndpoint):
            polls = 0

            def poll_transmit(self, now: float, max_segments: int = 64) -> Transmit | None:
                self.polls += 1
                if self.polls % 2:
                    self.queue(b"x", ("nowhere", 1))
                return super().poll_transmit(now, max_segments)

        lab = Lab(1)
        lab.endpoint("a", factory=Babbling)
        with pytest.raises(LabFailure, match="never comes to rest"):
            lab.run_for(1.0)


class TestBatches:
    def test_a_segmented_batch_travels_as_datagrams_and_arrives_as_one_again(self) -> None:
        lab = Lab(1)
        _, fa, b, fb = pair(lab)
        fa.queue(bytes(10 * SIZE + 7), b.address, SIZE)
        lab.run_for(1.0)
        assert [len(sent.data) for sent in lab.transcript] == [SIZE] * 10 + [7]
        assert fb.batches == [11]

    def test_a_batch_ends_where_the_size_or_the_source_changes(self) -> None:
        lab = Lab(1)
        _, fa, b, fb = pair(lab)
        c = lab.endpoint("c", factory=FakeEndpoint)
        assert isinstance(c.endpoint, FakeEndpoint)
        lab.link(c, b)
        send(fa, b, [bytes(9), bytes(9), bytes(5), bytes(9), bytes(20), bytes(20)])
        send(c.endpoint, b, [bytes(20), bytes(20)])
        lab.run_for(1.0)
        assert fb.batches == [3, 2, 2]
        assert [len(data) for data in arrived(fb)] == [9, 9, 5, 9, 20, 20, 20, 20]

    @pytest.mark.parametrize(("size", "segment"), [(0, 0), (10, 20), (70_000, 1200), (65 * 100, 100)])
    def test_a_malformed_batch_is_found_out(self, size: int, segment: int) -> None:
        lab = Lab(1)
        _, fa, b, _ = pair(lab)
        fa.queue(bytes(size), b.address, segment)
        with pytest.raises(LabFailure, match="a sent"):
            lab.run_for(1.0)


class TestWeather:
    def test_a_clear_link_keeps_order_and_content(self) -> None:
        lab = Lab(1)
        _, fa, b, fb = pair(lab, jitter=0.05)
        datagrams = numbered(200)
        send(fa, b, datagrams)
        lab.run_for(1.0)
        assert arrived(fb) == datagrams

    def test_loss_takes_about_its_share(self) -> None:
        lab = Lab(1)
        _, fa, b, fb = pair(lab, loss=0.25)
        send(fa, b, numbered(2000))
        lab.run_for(1.0)
        assert 1400 < len(fb.got) < 1600

    def test_duplicates_and_stragglers_are_the_same_bytes_in_another_order(self) -> None:
        lab = Lab(1)
        _, fa, b, fb = pair(lab, duplicate=0.1, reorder=0.1)
        datagrams = numbered(1000)
        send(fa, b, datagrams)
        lab.run_for(1.0)
        assert 1050 < len(fb.got) < 1150
        assert set(arrived(fb)) == set(datagrams)
        assert arrived(fb) != sorted(arrived(fb))

    def test_corruption_changes_datagrams_and_never_lengthens_them(self) -> None:
        lab = Lab(1)
        _, fa, b, fb = pair(lab, corrupt=0.1)
        datagrams = numbered(1000)
        send(fa, b, datagrams)
        lab.run_for(1.0)
        changed = [data for data in arrived(fb) if data not in set(datagrams)]
        assert len(fb.got) == 1000
        assert 50 < len(changed) < 150
        assert min(map(len, changed)) < SIZE
        assert max(map(len, changed)) == SIZE

    def test_a_bottleneck_spaces_datagrams_out_and_drops_what_its_queue_cannot_hold(self) -> None:
        lab = Lab(1)
        narrow = Bottleneck(rate=100_000, queue=10 * SIZE)
        _, fa, b, fb = pair(lab, forth=Conditions(delay=0.0, extra=[narrow]))
        send(fa, b, numbered(25))
        lab.run_for(10.0)
        assert [round(time - START, 6) for time, _, _ in fb.got] == [round(0.01 * n, 6) for n in range(1, 11)]
        assert narrow.dropped == 15
        assert round(narrow.longest) == 10 * SIZE

    def test_an_mtu_drops_the_longer_ones_only(self) -> None:
        lab = Lab(1)
        _, fa, b, fb = pair(lab, mtu=1200)
        send(fa, b, [bytes(1200), bytes(1201), bytes(3)])
        lab.run_for(1.0)
        assert [len(data) for data in arrived(fb)] == [1200, 3]

    def test_a_pulled_cable_passes_nothing(self) -> None:
        lab = Lab(1)
        cable = Switch()
        _, fa, b, fb = pair(lab, forth=Conditions(extra=[cable]))
        lab.at(1.0, lambda: setattr(cable, "up", False))
        send(fa, b, numbered(2))
        lab.run_for(1.5)
        send(fa, b, numbered(3))
        lab.run_for(1.0)
        assert len(fb.got) == 2

    def test_meddlers_touch_what_they_were_sent_for(self) -> None:
        def number(wanted: int) -> Any:
            return lambda datagram: datagram.data[0] == wanted

        lab = Lab(1)
        meddlers = [
            drop(number(0), 2),
            double(number(1), after=0.5),
            hold(number(2), 0.2),
            change(number(3), lambda data: b"changed", None),
        ]
        _, fa, b, fb = pair(lab, forth=Conditions(delay=0.0, extra=meddlers))
        send(fa, b, [bytes([n]) for n in (0, 0, 0, 1, 2, 3, 3, 4)])
        lab.run_for(1.0)
        assert arrived(fb) == [b"\0", b"\1", b"changed", b"changed", b"\4", b"\2", b"\1"]


class TestAddresses:
    def test_a_rebinding_moves_the_source_and_orphans_what_was_under_way(self) -> None:
        lab = Lab(1)
        a, fa, b, fb = pair(lab, delay=0.1)
        before = a.address
        fb.queue(b"too late", before)
        lab.at(0.05, lambda: lab.rebind(a))
        lab.run_for(1.0)
        fa.queue(b"from elsewhere", b.address)
        lab.run_for(1.0)
        assert fa.got == []
        assert fb.got[0][1].address == a.address != before
        assert a.address[0] == before[0]
        lab.rebind(a, change="address")
        assert a.address[0] != before[0]

    def test_rebinding_can_go_on_and_on(self) -> None:
        lab = Lab(1)
        a, _, _, _ = pair(lab)
        seen = {a.address}
        lab.rebind_every(a, 1.0)
        for _ in range(5):
            lab.run_for(1.0)
            seen.add(a.address)
        assert len(seen) == 6

    def test_an_address_with_nothing_on_it_is_silent_or_refuses(self) -> None:
        lab = Lab(1)
        _, fa, _, _ = pair(lab)
        lab.refusing.add(("10.9.9.9", 1))
        fa.queue(b"x", ("10.9.9.8", 1))
        fa.queue(b"x", ("10.9.9.9", 1))
        lab.run_for(1.0)
        assert [path.address for _, path in fa.unreachable] == [("10.9.9.9", 1)]
        assert lab.nowhere == 2

    def test_a_dead_host_neither_answers_nor_sends(self) -> None:
        lab = Lab(1)
        _, fa, b, fb = pair(lab)
        fb.echo = True
        fa.queue(b"x", b.address)
        b.kill()
        lab.run_for(1.0)
        assert fa.got == fb.got == []

    def test_an_injected_datagram_comes_from_wherever_it_claims(self) -> None:
        lab = Lab(1)
        _, _, b, fb = pair(lab)
        lab.inject(b"forged", source=("192.0.2.1", 9), to=b)
        lab.run_for(0.1)
        assert fb.got == [(START, fb.got[0][1], b"forged")]
        assert fb.got[0][1].address == ("192.0.2.1", 9)


class TestSeeds:
    @staticmethod
    def history(seed: int) -> tuple[str, list[tuple[float, bytes]]]:
        lab = Lab(seed)
        _, fa, b, fb = pair(lab, jitter=0.05, loss=0.1, reorder=0.1, duplicate=0.1, corrupt=0.1)
        fb.echo = True
        send(fa, b, [fa.entropy(100) for _ in range(100)])
        lab.run_for(2.0)
        return lab.digest(), [(time, data) for time, _, data in fa.got]

    def test_one_seed_is_one_history_and_another_is_another(self) -> None:
        assert self.history(5) == self.history(5)
        assert self.history(5) != self.history(6)

    def test_the_seed_comes_from_the_environment_or_else_from_the_test(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(SEED_VARIABLE, raising=False)
        assert Lab().seed == Lab().seed
        monkeypatch.setenv(SEED_VARIABLE, "12345")
        assert Lab().seed == 12345
        assert Lab(9).seed == 9

    def test_entropy_differs_by_name_and_never_repeats(self) -> None:
        a, again, b = seeded_entropy(1, "a"), seeded_entropy(1, "a"), seeded_entropy(1, "b")
        first = [a(32) for _ in range(100)]
        assert first == [again(32) for _ in range(100)]
        assert len({*first, *(b(32) for _ in range(100))}) == 200

    def test_datagrams_compare_by_value(self) -> None:
        assert Datagram("a", "b", b"x") == Datagram("a", "b", b"x")
