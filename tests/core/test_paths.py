"""Which path is believed, by the mechanism alone; two endpoints over changing paths are in the threats."""

from __future__ import annotations

import pytest

from stt_core.paths import MAX_CANDIDATES, MAX_RESPONSES, MIN_PROBE, TRIES, Paths, Probe, same_host
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
    assert paths.on_response(data, 0) == NEW
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
    assert len(times) == TRIES
    assert paths.active == OLD
    assert not paths.busy


@pytest.mark.parametrize("transport", [1, 2, 255])
def test_the_answer_must_name_the_transport_the_challenge_went_by(transport: int) -> None:
    paths = made()
    paths.on_packet(NEW, 1000, True, 0.0)
    data = challenge_to(NEW, probes(paths, 0.0))
    assert paths.on_response(data, transport) is None
    assert paths.active == OLD
    assert paths.on_response(data, 0) == NEW


def test_an_answer_to_what_was_not_yet_sent_is_worth_nothing() -> None:
    paths = made()
    paths.on_packet(NEW, 1000, True, 0.0)
    challenge = paths._candidates[NEW].challenge
    assert paths.on_response(challenge, 0) is None
    assert paths.on_response(bytes(8), 0) is None


def test_a_packet_on_the_path_before_brings_traffic_back_once() -> None:
    paths = made()
    paths.on_packet(NEW, 1000, True, 0.0)
    paths.on_response(challenge_to(NEW, probes(paths, 0.0)), 0)
    assert paths.on_packet(OLD, 1000, True, 1.0)
    assert paths.active == OLD
    assert not paths.on_packet(NEW, 1000, True, 2.0)  # that one has to prove itself again
    assert paths.active == OLD
    assert challenge_to(NEW, probes(paths, 2.0))


def test_a_peer_that_hops_faster_than_it_answers_is_bounded() -> None:
    paths = made()
    for number in range(100):
        paths.on_packet(Path("udp", ("203.0.113.1", number)), 1000, True, 0.0)
        paths.on_challenge(bytes(8), NEW, 1000)
    assert len(paths._candidates) <= MAX_CANDIDATES
    assert len(paths._responses) <= MAX_RESPONSES


def test_a_challenge_is_answered_where_it_came_from_and_not_with_more_than_three_times_its_size() -> None:
    paths = made()
    paths.on_challenge(b"8 bytes!", SOCKET, 60)
    assert paths.busy
    assert probes(paths, 0.0) == [Probe(SOCKET, None, b"8 bytes!", 180)]
    paths.on_challenge(b"8 bytes!", SOCKET, 1200)
    assert probes(paths, 0.0)[0].limit == 1200
    assert MIN_PROBE < 3 * (29 + 9)


def test_same_host_is_the_same_address_by_the_same_transport() -> None:
    assert same_host(OLD, Path("udp", ("198.51.100.1", 999)))
    assert not same_host(OLD, NEW)
    assert not same_host(OLD, Path("websocket", ("198.51.100.1", 1)))
    assert same_host(Path("udp", "a name"), Path("udp", "a name"))
    assert not same_host(Path("udp", "a name"), Path("udp", "another"))
