"""The bad network itself: what it does is what it says, and it doesn't outlive its test."""

from __future__ import annotations

import random
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from stt_backends.udp import UdpSocket
from tests.support.relay import CE, ECT_0, EVENTS, Climate, Datagram, RelayProcess, Weather

WAIT = 10.0
END = b"end."


def receive_until(sock: UdpSocket, is_last: bytes) -> list[bytes]:
    found: list[bytes] = []
    while is_last not in found:
        assert select.select([sock], [], [], WAIT)[0], f"{len(found)} datagrams came, the last one did not"
        while (batch := sock.receive()) is not None:
            found += (bytes(batch[0][i : i + batch[1]]) for i in range(0, len(batch[0]), batch[1]))
    return found


def numbered(count: int) -> bytes:
    return b"".join(i.to_bytes(4, "big") * 300 for i in range(count))


def through(weather: Weather, count: int, at_once: int) -> list[int]:
    """Numbered datagrams through the weather, so many per call; their numbers as they come out."""
    data = memoryview(numbered(count))
    found: list[bytes] = []

    def keep(datagrams: Iterable[Datagram]) -> None:
        found.extend(bytes(datagram) for datagram, _ in datagrams)

    for start in range(0, len(data), at_once * 1200):
        keep(weather.carry(data[start : start + at_once * 1200], 1200))
    keep(weather.flush())
    return [int.from_bytes(datagram[:4], "big") for datagram in found]


def weather(loss: float, reorder: float, duplicate: float) -> tuple[Weather, Counter[str]]:
    counts: Counter[str] = Counter()
    return Weather(random.Random(7), Climate(loss, reorder, duplicate), counts), counts


def test_batching_changes_no_datagrams_fate() -> None:
    one_by_one, by_fifty = (through(weather(0.05, 0.05, 0.05)[0], 1000, at_once) for at_once in (1, 50))
    assert one_by_one == by_fifty


def test_every_datagram_is_accounted_for() -> None:
    rain, counts = weather(0.05, 0.02, 0.03)
    found = Counter(through(rain, 10_000, 50))
    assert 10_000 - len(found) == counts["lost"]
    assert sum(found.values()) - len(found) == counts["duplicated"]
    assert counts["received"] == 10_000
    assert counts["lost"] == pytest.approx(500, rel=0.2)
    assert counts["reordered"] == pytest.approx(200, rel=0.2)
    assert counts["duplicated"] == pytest.approx(300, rel=0.2)


def test_a_reordered_datagram_is_overtaken_by_at_most_eight() -> None:
    found = through(weather(0.0, 0.1, 0.0)[0], 1000, 50)
    assert sorted(found) == list(range(1000)) != found
    overtaken = [sum(other > number for other in found[:place]) for place, number in enumerate(found)]
    assert max(overtaken) <= 8


def test_only_what_may_be_marked_is_marked() -> None:
    counts: Counter[str] = Counter()
    rain = Weather(random.Random(7), Climate(reorder=0.2, mark=0.1), counts)
    data = memoryview(numbered(1000))
    onward = [*rain.carry(data, 1200, ECT_0), *rain.flush()]
    assert Counter(mark for _, mark in onward) == {ECT_0: 1000 - counts["marked"], CE: counts["marked"]}
    assert counts["marked"] == pytest.approx(100, rel=0.3)
    assert {mark for _, mark in [*rain.carry(data, 1200, 0), *rain.flush()]} == {0}
    assert counts["marked"] == pytest.approx(100, rel=0.3)


def answer(server: UdpSocket, count: int) -> None:
    """Send ``count`` datagrams back to wherever each came from."""
    while count > 0:
        assert select.select([server], [], [], WAIT)[0]
        while (batch := server.receive()) is not None:
            data, size, client, _ = batch
            assert server.send(bytes(data), size, client)
            count -= -(-len(data) // size)


def test_both_directions_of_several_clients_pass() -> None:
    with UdpSocket("127.0.0.1") as server, RelayProcess(server.address) as relay:
        clients = [UdpSocket("127.0.0.1") for _ in range(3)]
        try:
            for number, client in enumerate(clients):
                assert client.send(bytes([number]) * 3000, 1200, relay.address)
                assert client.send(END, 1200, relay.address)
            answer(server, 3 * 4)
            for number, client in enumerate(clients):
                assert b"".join(receive_until(client, END)) == bytes([number]) * 3000 + END
        finally:
            for client in clients:
                client.close()
        counts = relay.stop()
    assert {event: count for event, count in counts.items() if count} == {"received": 24, "sent": 24, "clients": 3}
    assert set(counts) == set(EVENTS)


def test_losses_are_real_and_a_seed_repeats_them() -> None:
    def arrivals(seed: int) -> Counter[int]:
        with (
            UdpSocket("127.0.0.1") as server,
            UdpSocket("127.0.0.1") as client,
            RelayProcess(server.address, loss=0.1, reorder=0.05, duplicate=0.05, seed=seed) as relay,
        ):
            data = numbered(1000)
            for start in range(0, len(data), 50 * 1200):
                assert client.send(data[start : start + 50 * 1200], 1200, relay.address)
            # So many that a held number is let go before the last of them, and that some of the last arrive.
            assert client.send(b"fill" * 100, 4, relay.address)
            assert client.send(END * 100, 4, relay.address)
            found = Counter(int.from_bytes(part[:4], "big") for part in receive_until(server, END) if len(part) == 1200)
            counts = relay.stop()
        assert counts["received"] == 1200
        assert counts["sent"] == 1200 - counts["lost"] + counts["duplicated"]
        assert counts["lost"] > 50
        assert 800 < len(found) < 1000
        return found

    first, again, other = arrivals(1), arrivals(1), arrivals(2)
    assert first == again != other


def test_a_narrow_path_drops_what_is_larger_and_nothing_else() -> None:
    with (
        UdpSocket("127.0.0.1") as server,
        UdpSocket("127.0.0.1") as client,
        RelayProcess(server.address, largest=1300) as relay,
    ):
        assert client.send(b"a" * 1300, 1300, relay.address)
        assert client.send(b"b" * 1301, 1301, relay.address)
        assert client.send(b"c" * (2 * 1400 + 1300), 1400, relay.address)
        assert client.send(b"d" * (1400 + 1301), 1400, relay.address)
        assert client.send(END, 1200, relay.address)
        assert receive_until(server, END) == [b"a" * 1300, b"c" * 1300, END]
        assert relay.stop()["too_large"] == 1 + 2 + 2


def test_a_delay_is_kept_in_order() -> None:
    with (
        UdpSocket("127.0.0.1") as server,
        UdpSocket("127.0.0.1") as client,
        RelayProcess(server.address, delay=0.05) as relay,
    ):
        begin = time.monotonic()
        for number in range(10):
            assert client.send(bytes([number]), 1200, relay.address)
        assert client.send(END, 1200, relay.address)
        assert receive_until(server, END) == [bytes([number]) for number in range(10)] + [END]
        assert time.monotonic() - begin >= 0.05


def test_a_client_appears_under_another_port_when_told() -> None:
    with UdpSocket("127.0.0.1") as server, UdpSocket("127.0.0.1") as client, RelayProcess(server.address) as relay:
        ports: list[int] = []
        while len(set(ports)) < 2:
            assert client.send(END, 1200, relay.address)
            assert select.select([server], [], [], WAIT)[0]
            batch = server.receive()
            assert batch is not None
            ports.append(batch[2][1])
            if len(ports) == 1:
                relay.rebind()
        assert server.send(END, 1200, ("127.0.0.1", ports[-1]))
        assert receive_until(client, END) == [END]
        assert relay.stop()["rebound"] == 1


def test_a_silent_one_lets_nothing_through_until_it_speaks() -> None:
    with UdpSocket("127.0.0.1") as server, UdpSocket("127.0.0.1") as client, RelayProcess(server.address) as relay:
        assert client.send(END, 1200, relay.address)
        receive_until(server, END)
        relay.silence()
        while client.send(b"lost", 1200, relay.address) and select.select([server], [], [], 0.05)[0]:
            assert server.receive() is not None  # the order was still on its way
        relay.speak()
        while True:
            assert client.send(END, 1200, relay.address)
            if select.select([server], [], [], 0.05)[0]:
                break
        assert receive_until(server, END) == [END]
        assert relay.stop()["swallowed"] > 0


def test_a_held_datagram_goes_on_though_nothing_follows() -> None:
    with (
        UdpSocket("127.0.0.1") as server,
        UdpSocket("127.0.0.1") as client,
        RelayProcess(server.address, reorder=1.0) as relay,
    ):
        assert client.send(END, 1200, relay.address)
        assert receive_until(server, END) == [END]


def test_a_target_that_is_not_there_does_not_end_the_relay() -> None:
    with UdpSocket("127.0.0.1") as gone:
        target = gone.address
    with UdpSocket("127.0.0.1") as client, RelayProcess(target) as relay:
        assert client.send(b"early", 1200, relay.address)
        with UdpSocket(*target) as server:
            while True:
                assert client.send(END, 1200, relay.address)
                if select.select([server], [], [], 0.05)[0]:
                    break
            assert END in receive_until(server, END)


def test_it_ends_with_its_standard_input() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.support.relay", "--to", "127.0.0.1:9"]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT, check=True)
    assert done.stdout.count(b"\n") == 2
    assert done.stderr == b""


def test_a_wrong_setting_is_reported_to_who_starts_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="exit code 2"):
        RelayProcess(("127.0.0.1", 9), loss=1.5)
    assert "not between 0 and 1" in capfd.readouterr().err
