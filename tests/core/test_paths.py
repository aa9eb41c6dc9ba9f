"""Which path is believed, by the mechanism alone; two endpoints over changing paths are in the threats."""

from __future__ import annotations

import pytest

from stt_core.paths import MAX_CANDIDATES, MAX_RESPONSES, MIN_PROBE, PATIENCE, TRIES, Answer, Paths, Probe, same_host
from stt_core.types import Path
from tests.core.pair import entropy_of

OLD = Path("udp", ("198.51.100.1", 1))
NEW = Path("udp", ("198.51.100.2", 2))
SOCKET = Path("websocket", ("198.51.100.3", 3))
PTO = 0.1


def made() -> Paths:
    return Paths(OLD, entropy_of("paths"))


def probes(paths: Paths, now: float) -> list[Probe]:
    found = []
    while (probe := paths.poll_probe(now, PTO)) is not None:
        found.append(probe)
    return found


def challenge_to(path: Path, found: list[Probe]) -> bytes:
    [data] = [probe.challenge for probe in found if probe.path == path and probe.challenge is not None]
    return data


def test_traffic_stays_until_the_challenge_is_answered() -> None:
    paths = made()
    assert not paths.on_packet(NEW, 1000, True, 0.0)
    assert paths.active == OLD
    data = challenge_to(NEW, probes(paths, 0.0))
    assert paths.on_response(data, 0, 0.0) == Answer(NEW, True)
    assert paths.active == NEW


def test_both_paths_are_challenged() -> None:
    paths = made()
    paths.on_packet(NEW, 1000, True, 0.0)
    found = probes(paths, 0.0)
    assert {probe.path for probe in found} == {OLD, NEW}
    assert len({probe.challenge for probe in found}) == 2


def test_an_old_packet_from_elsewhere_starts_nothing() -> None:
    paths = made()
    assert not paths.on_packet(NEW, 1000, False, 0.0)
    assert not paths.busy
    assert paths.next_timer() is None


@pytest.mark.parametrize(("received", "limit"), [(30, 90), (100, 300), (400, 1200), (5000, 1200)])
def test_no_more_than_three_times_what_came_and_never_more_than_a_packet(received: int, limit: int) -> None:
    paths = made()
    paths.on_packet(NEW, received, True, 0.0)
    [first] = [probe for probe in probes(paths, 0.0) if probe.path == NEW]
    assert first.limit == limit
    total = first.limit
    for turn in range(1, 50):
        paths.handle_timer(turn * 1.0)
        total += sum(probe.limit for probe in probes(paths, turn * 1.0) if probe.path == NEW)
    assert total <= 3 * received


def test_a_challenge_is_repeated_with_backoff_and_then_given_up() -> None:
    paths = made()
    paths.on_packet(NEW, 100_000, True, 0.0)
    times = []
    now = 0.0
    while True:
        times += [now] * len([probe for probe in probes(paths, now) if probe.path == NEW])
        at = paths.next_timer()
        if at is None:
            break
        assert at > now
        now = at
        paths.handle_timer(now)
    assert times == pytest.approx([0.0, PTO, 3 * PTO])
    assert now == pytest.approx(PATIENCE), "its round trip may be longer than that of the path in use"
    assert len(times) == TRIES
    assert paths.active == OLD
    assert not paths.busy


@pytest.mark.parametrize("transport", [1, 2, 255])
def test_the_answer_must_name_the_transport_the_challenge_went_by(transport: int) -> None:
    paths = made()
    paths.on_packet(NEW, 1000, True, 0.0)
    data = challenge_to(NEW, probes(paths, 0.0))
    assert paths.on_response(data, transport, 0.0) is None
    assert paths.active == OLD
    assert paths.on_response(data, 0, 0.0) == Answer(NEW, True)


def test_an_answer_to_what_was_not_yet_sent_is_worth_nothing() -> None:
    paths = made()
    paths.on_packet(NEW, 1000, True, 0.0)
    challenge = paths._candidates[NEW].challenge
    assert paths.on_response(challenge, 0, 0.0) is None
    assert paths.on_response(bytes(8), 0, 0.0) is None


def test_a_packet_on_the_path_before_brings_traffic_back_once() -> None:
    paths = made()
    paths.on_packet(NEW, 1000, True, 0.0)
    paths.on_response(challenge_to(NEW, probes(paths, 0.0)), 0, 0.0)
    assert paths.on_packet(OLD, 1000, True, 1.0)
    assert paths.active == OLD
    assert not paths.on_packet(NEW, 1000, True, 2.0)  # that one has to prove itself again
    assert paths.active == OLD
    assert challenge_to(NEW, probes(paths, 2.0))


def test_a_peer_that_hops_faster_than_it_answers_is_bounded() -> None:
    paths = made()
    for number in range(100):
        paths.on_packet(Path("udp", ("203.0.113.1", number)), 1000, True, 0.0)
        paths.on_challenge(bytes(8), NEW, 1000, 0.0)
    assert len(paths._candidates) <= MAX_CANDIDATES
    assert len(paths._responses) <= MAX_RESPONSES


def test_a_challenge_is_answered_where_it_came_from_and_not_with_more_than_three_times_its_size() -> None:
    paths = made()
    paths.on_challenge(b"8 bytes!", SOCKET, 60, 0.0)
    assert paths.busy
    assert probes(paths, 0.0)[0] == Probe(SOCKET, None, b"8 bytes!", 180)
    paths.on_challenge(b"8 bytes!", SOCKET, 1200, 0.0)
    assert probes(paths, 0.0)[0].limit == 1200
    assert MIN_PROBE < 3 * (29 + 9)


def test_same_host_is_the_same_address_by_the_same_transport() -> None:
    assert same_host(OLD, Path("udp", ("198.51.100.1", 999)))
    assert not same_host(OLD, NEW)
    assert not same_host(OLD, Path("websocket", ("198.51.100.1", 1)))
    assert not same_host(SOCKET, Path("websocket", ("198.51.100.3", 4))), "another connection is another window"
    assert same_host(Path("udp", "a name"), Path("udp", "a name"))
    assert not same_host(Path("udp", "a name"), Path("udp", "another"))


def test_after_a_small_answer_traffic_moves_and_the_full_size_is_asked_for() -> None:
    paths = made()
    paths.on_packet(NEW, 30, True, 0.0)
    first = [probe for probe in probes(paths, 0.0) if probe.path == NEW]
    assert [probe.limit for probe in first] == [90]
    assert first[0].challenge is not None
    assert paths.on_response(first[0].challenge, 0, 0.1) == Answer(NEW, True)
    second = [probe for probe in probes(paths, 0.1) if probe.path == NEW]
    assert [probe.limit for probe in second] == [1200]
    assert second[0].challenge not in (None, first[0].challenge)
    assert paths.on_response(second[0].challenge or b"", 0, 0.2) == Answer(NEW, False)
    assert not [probe for probe in probes(paths, 10.0) if probe.path == NEW]


def test_a_path_that_answers_but_carries_no_full_size_is_left_again() -> None:
    paths = made()
    paths.on_packet(NEW, 30, True, 0.0)
    paths.on_response(challenge_to(NEW, probes(paths, 0.0)), 0, 0.1)
    now = 0.1
    given_up: list[Path] = []
    while not given_up:
        probes(paths, now)
        at = paths.next_timer()
        assert at is not None
        now = at
        given_up = paths.handle_timer(now)
    assert given_up == [NEW]
    paths.retreat(now)
    assert paths.on_response(challenge_to(OLD, probes(paths, now)), 0, now) == Answer(OLD, True)


def test_where_the_peer_chose_to_be_elsewhere_the_old_path_is_left_alone() -> None:
    paths = made()
    paths.on_packet(NEW, 1000, True, 0.0, deliberate=True)
    (probe,) = probes(paths, 0.0)
    assert paths.on_response(probe.challenge or b"", 0, 0.1) == Answer(NEW, True)
    assert paths.known == {NEW}
    assert not paths.on_packet(OLD, 1000, True, 0.2, deliberate=True), "from there it has to prove itself again"


class TestChoosing:
    """This side was told to move."""

    def chosen(self, *, leads: bool = True) -> Paths:
        paths = Paths(OLD, entropy_of("paths"), leads=leads)
        paths.migrate(SOCKET, 0.0)
        (probe,) = probes(paths, 0.0)
        assert (probe.path, probe.limit) == (SOCKET, 1200), "it is no stranger's address"
        assert paths.active == OLD
        assert paths.on_response(probe.challenge or b"", 1, 0.1) == Answer(SOCKET, True)
        return paths

    @pytest.mark.parametrize("leads", [True, False])
    def test_what_the_peer_still_sends_by_the_old_path_brings_nothing_back(self, leads: bool) -> None:
        paths = self.chosen(leads=leads)
        assert not paths.on_packet(OLD, 1000, True, 0.2)
        assert not probes(paths, 0.2)
        paths.on_followed()
        assert not paths.holding
        assert not paths.on_packet(OLD, 1000, True, 0.3), "now it does, once that has answered"
        assert {probe.path for probe in probes(paths, 0.3)} == {OLD, SOCKET}

    def test_where_both_choose_who_leads_stays_and_the_other_follows(self) -> None:
        leader, other = self.chosen(), self.chosen(leads=False)
        assert not leader.on_packet(NEW, 1000, True, 0.2)
        assert not probes(leader, 0.2)
        other.on_packet(NEW, 1000, True, 0.2)
        assert other.on_response(challenge_to(NEW, probes(other, 0.2)), 0, 0.3) == Answer(NEW, True)
        assert not other.holding

    def test_one_that_does_not_answer_is_told_and_changes_nothing(self) -> None:
        paths = made()
        paths.migrate(SOCKET, 0.0)
        now, failed = 0.0, list[Path]()
        while not failed:
            probes(paths, now)
            at = paths.next_timer()
            assert at is not None
            now = at
            failed = paths.handle_timer(now)
        assert failed == [SOCKET]
        assert paths.active == OLD
        assert not paths.busy

    def test_the_last_choice_counts(self) -> None:
        paths = made()
        paths.migrate(SOCKET, 0.0)
        paths.migrate(NEW, 0.0)
        found = probes(paths, 0.0)
        assert paths.on_response(challenge_to(SOCKET, found), 1, 0.1) == Answer(SOCKET, False)
        assert paths.on_response(challenge_to(NEW, found), 0, 0.1) == Answer(NEW, True)

    def test_a_choice_is_not_pushed_out_by_strangers(self) -> None:
        paths = made()
        paths.migrate(SOCKET, 0.0)
        for number in range(100):
            paths.on_packet(Path("udp", ("203.0.113.1", number)), 1000, True, 0.0)
        assert SOCKET in paths.known


def test_who_is_asked_asks_back_so_that_a_move_is_followed_at_once() -> None:
    paths = made()
    paths.on_challenge(b"8 bytes!", NEW, 1200, 0.0)
    answer, question = probes(paths, 0.0)
    assert answer.response == b"8 bytes!"
    assert paths.on_response(question.challenge or b"", 0, 0.1) == Answer(NEW, False)
    assert paths.active == OLD
    assert paths.on_packet(NEW, 1000, True, 0.2)
    assert paths.active == NEW


def test_a_proof_is_not_remembered_for_ever() -> None:
    paths = made()
    paths.on_challenge(b"8 bytes!", NEW, 1200, 0.0)
    paths.on_response(challenge_to(NEW, probes(paths, 0.0)), 0, 0.1)
    at = paths.next_timer()
    assert at is not None
    assert paths.handle_timer(at) == []
    assert not paths.on_packet(NEW, 1000, True, at)


def test_where_the_active_path_is_gone_it_is_not_asked() -> None:
    paths = Paths(SOCKET, entropy_of("paths"))
    assert paths.on_closed(SOCKET)
    paths.on_packet(NEW, 1000, True, 0.0)
    (probe,) = probes(paths, 0.0)
    assert paths.on_response(probe.challenge or b"", 0, 0.1) == Answer(NEW, True)
    assert not paths.stalled
    assert not paths.on_packet(SOCKET, 1000, True, 0.2), "it doesn't come back as the path that was left"
