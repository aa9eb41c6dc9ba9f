"""What others can make of a session that may move: steal it, follow it, flood it, have it reset (section 5 and 9)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from stt_core import frames
from stt_core.config import MIN_DATAGRAM
from stt_core.events import PathChanged, PathFailed, SessionClosed
from stt_core.migration import MAX_ARRIVED
from stt_core.packet import SHORT_HEADER
from stt_core.paths import MAX_CANDIDATES, MAX_RESPONSES
from stt_core.routes import LARGEST_RESET
from stt_core.types import Path
from tests.core.pair import Pair as CorePair
from tests.core.pair import channel_of, sealed
from tests.sim import Lab, Link, Reader, Sent, Traffic
from tests.sim.test_migration import Pair, cids_by_place, core
from tests.support.capture import is_protected


class TestHijackByCopyingAndForwarding:
    def test_by_websocket_a_copy_wins_every_race_and_nothing_moves(self) -> None:
        """The thief copies all that the client sends into a connection of its own to the server, first, and carries
        the challenge to the client and its answer back: the answer names UDP, on which the client saw the challenge."""
        lab = Lab()
        client, server, thief = lab.endpoint("client"), lab.endpoint("server"), lab.endpoint("thief")
        lab.link(client, server, delay=0.02)
        link = Link(lab, thief, server, delay=0.001)
        carried: list[bytes] = []

        def forward(data: bytes) -> None:
            carried.append(data)
            lab.inject(data, source=server.address, to=client)

        link.client.arrive = forward  # type: ignore[method-assign]

        def copy(sent: Sent) -> None:
            if sent.source == client.address and is_protected(sent.data):
                link.client.send(sent.data)

        lab.observers.append(copy)
        reader = Reader()
        client.add(reader)
        traffic = Traffic(server)
        traffic.stream(server, 300_000)
        client.connect(server)
        lab.run_until(lambda: bool(reader.ended), timeout=20.0)
        assert carried, "it was challenged, and the challenge was carried over"
        assert sum(map(len, carried)) < 20_000
        assert not server.saw(PathChanged)
        assert not server.saw(SessionClosed)

    def test_a_thief_who_answers_is_left_again_when_the_client_speaks(self) -> None:
        lab = Lab()
        client, server = lab.endpoint("client"), lab.endpoint("server")
        lab.link(client, server, delay=0.02)
        thief = ("203.0.113.6", 666)
        stolen: list[bytes] = []

        def steal(sent: Sent) -> None:
            if sent.source == client.address and is_protected(sent.data) and lab.elapsed > 3.0 and not stolen:
                stolen.append(sent.data)
                lab.inject(sent.data, source=thief, to=server)
            elif sent.destination == thief:
                lab.clock.after(0.001, lambda: lab.inject(sent.data, source=server.address, to=client))

        lab.observers.append(steal)
        key = client.connect(server)
        lab.run_until(lambda: server.established is not None)
        lab.run_for(30.0)
        assert stolen
        assert server.established is not None
        assert core(server, server.established.session_key).path.address == client.address
        assert not client.saw(SessionClosed)
        assert core(client, key).path.address == server.address

    def test_what_goes_over_a_websocket_is_copied_into_another_and_nothing_moves(self) -> None:
        """The thief reads a connection without TLS and is faster. All he can carry the challenge to the client by is
        UDP, which the answer names then."""
        scene = OverWebSocket()
        stolen = Link(scene.lab, scene.thief, scene.server, delay=0.001)
        carried: list[bytes] = []

        def forward(data: bytes) -> None:
            carried.append(data)
            scene.lab.inject(data, source=scene.server.address, to=scene.client)

        stolen.client.arrive = forward  # type: ignore[method-assign]
        scene.copy(stolen.client.send)
        scene.finish()
        assert carried, "it was challenged, and the challenge was carried over"
        assert sum(map(len, carried)) < 20_000
        assert not scene.server.saw(PathChanged)

    def test_what_goes_over_a_websocket_is_copied_to_udp_and_the_client_has_it_back(self) -> None:
        """Here the answer fits, and the thief gets what he drops: until the client speaks, which it does."""
        scene = OverWebSocket()
        address = ("203.0.113.6", 666)
        got: list[bytes] = []

        def carry(sent: Sent) -> None:
            if sent.destination == address:
                got.append(sent.data)
                if len(sent.data) <= MIN_DATAGRAM:  # a challenge, perhaps; and nothing of what is worth having
                    scene.lab.inject(sent.data, source=scene.server.address, to=scene.client)

        scene.lab.observers.append(carry)
        scene.copy(lambda data: scene.lab.inject(data, source=address, to=scene.server))
        scene.finish()
        assert got
        # What the thief carried over may have shown both that UDP works between them, which is as good a path.
        assert scene.path in (scene.link.server.path, Path("udp", scene.client.address))


class OverWebSocket:
    """A client that downloads over a connection, and a thief who sees what it sends, and how."""

    def __init__(self) -> None:
        self.lab = Lab()
        self.client, self.server = self.lab.endpoint("client"), self.lab.endpoint("server")
        self.thief = self.lab.endpoint("thief")
        self.lab.link(self.client, self.server, delay=0.02)
        self.reader = Reader()
        self.client.add(self.reader)
        Traffic(self.server).stream(self.server, 2_000_000)
        self.link = Link(self.lab, self.client, self.server, delay=0.02, rate=500_000)
        self.link.connect()

    def copy(self, to: Callable[[bytes], object]) -> None:
        """Let the thief have each message of the client's before it arrives."""

        def see(sent: Sent) -> None:
            if sent.source == (self.client.name, self.link.client.serial) and is_protected(sent.data):
                to(sent.data)

        self.lab.observers.append(see)

    @property
    def path(self) -> Path:
        assert self.server.established is not None
        return core(self.server, self.server.established.session_key).path

    def finish(self) -> None:
        """Until the download is whole."""
        self.lab.run_until(lambda: bool(self.reader.ended), timeout=40.0)
        self.lab.run_for(15.0)
        assert not self.client.saw(SessionClosed)
        assert not self.server.saw(SessionClosed)


class TestObserver:
    def test_the_ids_of_two_chosen_paths_have_nothing_in_common(self) -> None:
        pair = Pair()
        pair.lab.run_for(2.0)
        for step in range(6):
            if step % 2:
                pair.lab.rebind(pair.client, change="address")
                pair.migrate(pair.udp)
            else:
                pair.migrate(pair.open().client.path)
            pair.lab.run_for(1.0)
        pair.finish()
        seen = cids_by_place(pair.lab.transcript)
        assert len(seen) == 14
        everything = [cid for cids in seen.values() for cid in cids]
        assert len(everything) == len(set(everything))

    def test_no_id_is_in_any_byte_but_its_own_place_and_numbers_jump_between_paths(self) -> None:
        pair = Pair(size=200_000)
        pair.lab.run_for(2.0)
        pair.migrate(pair.open().client.path)
        pair.lab.run_for(1.0)
        pair.finish()
        heads = [sent.data for sent in pair.lab.transcript if is_protected(sent.data)]
        ids = {data[1:9] for data in heads}
        assert len(ids) >= 4
        numbers: dict[bytes, list[int]] = {}
        for data in heads:
            numbers.setdefault(data[1:9], []).append(int.from_bytes(data[9:SHORT_HEADER], "big"))
            assert not any(cid in data[9:] for cid in ids)
        least = sorted(min(values) for values in numbers.values() if max(values) - min(values) < 1 << 20)
        assert all(b - a > 1 << 12 for a, b in pairwise(least)), "each id has a mask of its own"


class TestFloodOfPaths:
    def test_ten_thousand_addresses_leave_nothing_behind_and_get_little(self) -> None:
        """A thief who sees all copies each packet, and sends it on from ever new addresses before it arrives."""
        pair = CorePair()
        ours, theirs = pair.connect()
        pair.rest()
        migration = channel_of(theirs).migration
        given = taken = 0
        for number in range(10_000):
            (packet,) = sealed(ours, frames.KeepAlive(0).encode(), now=pair.now)
            given += len(packet)
            pair.bob.endpoint.receive_datagram(packet, Path("udp", ("203.0.113.6", number)), pair.now)
            while (out := pair.bob.endpoint.poll_transmit(pair.now)) is not None:
                taken += len(out.data) if out.path != pair.alice.path else 0
        assert taken <= 3 * given
        assert len(migration.paths._candidates) <= MAX_CANDIDATES
        assert len(migration._arrived) <= MAX_ARRIVED
        assert len(migration._cids) <= MAX_ARRIVED + 1
        assert theirs.path == pair.alice.path

    def test_challenges_without_end_are_answered_within_limits(self) -> None:
        pair = CorePair()
        ours, theirs = pair.connect()
        pair.rest()
        given = 0
        for number in range(1000):
            (packet,) = sealed(ours, frames.PathChallenge(bytes(8)).encode() * 20, now=pair.now)
            given += len(packet)
            pair.bob.endpoint.receive_datagram(packet, Path("udp", ("203.0.113.6", number)), pair.now)
        paths = channel_of(theirs).paths
        assert len(paths._responses) <= MAX_RESPONSES
        assert len(paths._candidates) <= MAX_CANDIDATES
        taken = 0
        while (out := pair.bob.endpoint.poll_transmit(pair.now)) is not None:
            taken += len(out.data)
        assert taken <= 3 * given


class TestForgedResets:
    def test_only_the_token_of_an_id_in_use_ends_a_session(self) -> None:
        pair = CorePair()
        ours, _ = pair.connect()
        pair.rest()
        (before,) = ours.reset_tokens
        ours.migrate(pair.bob.path, pair.now)  # under another id, on the same path
        pair.rest()
        (token,) = ours.reset_tokens
        assert token != before
        for wrong in (before, bytes(16), token[:-1] + bytes((token[-1] ^ 1,)), token[::-1]):
            reset = b"\x40" + bytes(LARGEST_RESET - 17) + wrong
            pair.alice.endpoint.receive_datagram(reset, pair.bob.path, pair.now)
        assert ours.error is None
        pair.alice.endpoint.receive_datagram(b"\x40" + bytes(LARGEST_RESET - 17) + token, pair.bob.path, pair.now)
        assert ours.error is not None

    def test_tokens_in_stock_are_worth_nothing_yet(self) -> None:
        pair = CorePair()
        ours, theirs = pair.connect()
        pair.rest()
        for cid in channel_of(theirs).migration.local:
            token = pair.bob.endpoint._routes.reset_token(cid)
            if token not in ours.reset_tokens:
                reset = b"\x40" + bytes(LARGEST_RESET - 17) + token
                pair.alice.endpoint.receive_datagram(reset, pair.bob.path, pair.now)
        assert ours.error is None


def test_a_path_that_was_only_copied_to_never_becomes_trusted() -> None:
    """A connection whose only merit is a copied packet counts as one that has yet to prove itself."""
    pair = CorePair()
    ours, theirs = pair.connect()
    pair.rest()
    path = Path("websocket", ("203.0.113.6", 80, 1))
    (packet,) = sealed(ours, frames.KeepAlive(0).encode(), now=pair.now)
    pair.bob.endpoint.receive_datagram(packet, path, pair.now)
    assert pair.bob.endpoint.link_state(path).value == "speaking"
    pair.run(5.0)
    assert pair.bob.endpoint.link_state(path).value == "speaking"
    assert theirs.path == pair.alice.path
    assert not pair.bob.told(PathFailed), "the application asked for no such path"
