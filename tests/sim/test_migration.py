"""Sessions that move on purpose, by either side, between addresses and between transports (issue 5)."""

from __future__ import annotations

from random import Random

import pytest

from stt_core.events import PathChanged, PathFailed, PathValidated, SessionClosed
from stt_core.session import Session
from stt_core.types import Path, SessionKey
from tests.core.pair import channel_of
from tests.sim import Conditions, Host, Lab, Link, Sent, Switch, Traffic
from tests.support.capture import is_protected

RATE = 500_000


def core(host: Host, key: SessionKey) -> Session:
    session = host.session(key)
    assert isinstance(session, Session)
    return session


class Pair:
    """A client and a server with a session over UDP and streams both ways; connections can be opened at any time."""

    def __init__(self, *, size: int = 2_000_000, loss: float = 0.0, cable: Switch | None = None) -> None:
        self.lab = Lab()
        self.client, self.server = self.lab.endpoint("client"), self.lab.endpoint("server")
        conditions = Conditions(0.02, rate=RATE, loss=loss, extra=[cable] if cable else [])
        self.lab.link(self.client, self.server, forth=conditions, back=Conditions(0.02, rate=RATE, loss=loss))
        self.traffic = Traffic(self.client, self.server)
        self.traffic.stream(self.client, size)
        self.traffic.stream(self.server, size)
        self.key = self.client.connect(self.server)
        self.udp = Path("udp", self.server.address)

    @property
    def there(self) -> SessionKey:
        """The server's key of the session."""
        assert self.server.established is not None
        return self.server.established.session_key

    def open(self) -> Link:
        return Link(self.lab, self.client, self.server, delay=0.03, rate=RATE)

    def migrate(self, path: Path) -> None:
        core(self.client, self.key).migrate(path, self.lab.now)
        self.client.wake()

    def finish(self) -> None:
        self.lab.run_until(self.traffic.done, timeout=60.0)
        self.traffic.check()
        assert not self.client.saw(SessionClosed)
        assert not self.server.saw(SessionClosed)

    def paths(self) -> tuple[Path, Path]:
        """Where each side sends, the client first."""
        return core(self.client, self.key).path, core(self.server, self.there).path


def cids_by_place(transcript: list[Sent], since: float = 0.0) -> dict[tuple[object, object], set[bytes]]:
    """The connection ids that an observer sees between each pair of addresses."""
    seen: dict[tuple[object, object], set[bytes]] = {}
    for sent in transcript:
        if sent.time >= since and is_protected(sent.data):
            seen.setdefault((sent.source, sent.destination), set()).add(sent.data[1:9])
    return seen


def test_from_udp_to_a_connection_and_back_with_streams_running() -> None:
    pair = Pair()
    pair.lab.run_for(2.0)
    link = pair.open()
    pair.migrate(link.client.path)
    pair.lab.run_for(1.0)
    assert pair.paths() == (link.client.path, link.server.path)
    assert pair.client.saw(PathValidated)
    received = pair.traffic.reader(pair.server).received
    pair.lab.run_for(1.0)
    assert pair.traffic.reader(pair.server).received > received + RATE // 2
    pair.migrate(pair.udp)
    pair.lab.run_for(1.0)
    assert pair.paths() == (pair.udp, Path("udp", pair.client.address))
    pair.finish()
    assert not pair.client.links, "the connection is released once nobody needs it"
    assert not pair.server.links


def test_the_session_survives_a_loss_of_udp_by_moving() -> None:
    cable = Switch()
    pair = Pair(cable=cable, loss=0.02)
    pair.lab.run_for(2.0)
    cable.up = False
    pair.lab.run_for(3.0)
    pair.migrate(pair.open().client.path)
    pair.finish()


def test_a_path_that_does_not_answer_is_reported_and_nothing_changes() -> None:
    pair = Pair()
    pair.lab.run_for(1.5)
    nowhere = Path("udp", ("203.0.113.99", 9))
    pair.migrate(nowhere)
    pair.lab.run_for(4.0)
    (failed,) = pair.client.all(PathFailed)
    assert failed.path == nowhere
    assert not pair.client.saw(PathChanged)
    pair.finish()


@pytest.mark.parametrize("change", ["port", "address"])
def test_a_side_that_knows_that_its_address_changed_says_so_at_once(change: str) -> None:
    pair = Pair()
    pair.lab.run_for(2.0)
    pair.lab.rebind(pair.client, change=change)
    pair.migrate(pair.udp)
    pair.lab.run_for(0.5)
    assert pair.paths() == (pair.udp, Path("udp", pair.client.address))
    pair.finish()


def test_the_server_may_move_to_a_connection_it_has() -> None:
    """Either side may choose among the paths there are; only opening one takes a URL."""
    pair = Pair()
    pair.lab.run_for(2.0)
    link = pair.open()
    core(pair.server, pair.there).migrate(link.server.path, pair.lab.now)
    pair.server.wake()
    pair.lab.run_for(1.0)
    assert pair.paths() == (link.client.path, link.server.path)
    pair.finish()


def test_both_sides_choose_differently_at_one_moment_and_agree() -> None:
    pair = Pair()
    pair.lab.run_for(2.0)
    one, other = pair.open(), pair.open()
    pair.migrate(one.client.path)
    core(pair.server, pair.there).migrate(other.server.path, pair.lab.now)
    pair.server.wake()
    pair.lab.run_for(2.0)
    assert pair.paths() == (one.client.path, one.server.path), "the initiator's choice counts"
    pair.finish()
    assert len(pair.client.all(PathChanged)) + len(pair.server.all(PathChanged)) <= 5


def test_a_nat_rebinds_while_the_session_moves() -> None:
    pair = Pair()
    pair.lab.run_for(2.0)
    link = pair.open()
    pair.lab.rebind(pair.client, change="address")
    pair.migrate(link.client.path)
    pair.lab.run_for(1.0)
    pair.lab.rebind(pair.client, change="address")
    pair.migrate(pair.udp)
    pair.lab.rebind(pair.client, change="address")
    pair.finish()


def test_what_a_connection_took_along_when_it_broke_is_sent_again() -> None:
    pair = Pair()
    pair.lab.run_for(2.0)
    link = pair.open()
    pair.migrate(link.client.path)
    pair.lab.run_for(1.0)
    link.cut()
    pair.lab.run_for(1.0)
    assert pair.client.saw(PathFailed)
    pair.migrate(pair.udp)
    pair.finish()


def test_from_connection_to_connection() -> None:
    pair = Pair()
    pair.lab.run_for(2.0)
    for _ in range(3):
        before = pair.paths()[0]
        link = pair.open()
        pair.migrate(link.client.path)
        pair.lab.run_for(0.7)
        assert pair.paths() == (link.client.path, link.server.path)
        assert before not in pair.client.links
    pair.finish()


def test_the_window_starts_over_with_another_address_and_stays_with_another_port() -> None:
    pair = Pair(size=4_000_000)
    pair.lab.run_for(4.0)
    here = channel_of(core(pair.server, pair.there)).recovery
    pair.lab.rebind(pair.client, change="port")
    rtt = here.rtt
    pair.lab.run_for(1.0)
    assert here.rtt is rtt
    size = here.mtu.size
    assert size > 1200
    pair.lab.rebind(pair.client, change="address")
    search = here.mtu
    pair.lab.run_until(lambda: here.rtt is not rtt, timeout=2.0)
    assert here.mtu is not search
    pair.finish()


def test_the_budget_of_a_remote_goes_along() -> None:
    """A refusal of the system (EMSGSIZE) for the new address finds the sessions that moved there."""
    pair = Pair(size=3_000_000)
    pair.lab.run_for(3.0)
    pair.lab.rebind(pair.client, change="address")
    pair.lab.run_for(1.5)
    session = core(pair.server, pair.there)
    assert session.path.address == pair.client.address
    assert session.budget is not None
    assert session.budget.path == session.path
    budgets = pair.server.endpoint._register.budgets  # type: ignore[attr-defined]
    assert list(budgets) == [session.path], "what was left is forgotten"
    channel = channel_of(session)
    pair.lab.run_until(lambda: channel.datagram_size > 1200, timeout=3.0)
    pair.server.endpoint.receive_too_big(session.path, channel.datagram_size, pair.lab.now)  # type: ignore[attr-defined]
    assert channel.datagram_size == 1200
    pair.finish()


@pytest.mark.parametrize("number", range(40))
def test_bytes_are_equal_wherever_and_whenever_it_moves(number: int) -> None:
    """Rebindings, moves by either side, cuts and lost packets at random points; a failure prints its seed."""
    pair = Pair(size=600_000, loss=0.01)
    chance = Random(pair.lab.seed * 1000 + number)
    links: list[Link] = []

    def happen() -> None:
        what = chance.choice(["port", "address", "link", "udp", "server", "cut", "own"])
        if pair.client.closed or pair.server.closed or pair.server.established is None:
            return
        if what in ("port", "address"):
            pair.lab.rebind(pair.client, change=what)
        elif what == "own":
            pair.lab.rebind(pair.client, change="address")
            pair.migrate(core(pair.client, pair.key).path)
        elif what == "link":
            links.append(pair.open())
            pair.migrate(links[-1].client.path)
        elif what == "udp":
            pair.migrate(pair.udp)
        elif what == "server" and links and links[-1].server.open:
            core(pair.server, pair.there).migrate(links[-1].server.path, pair.lab.now)
            pair.server.wake()
        elif what == "cut" and links:
            links[-1].cut()
            pair.migrate(pair.udp)

    for _ in range(chance.randint(1, 10)):
        pair.lab.at(chance.uniform(0.1, 4.0), happen)
    pair.finish()


def test_a_move_that_is_taken_back_leaves_no_trace() -> None:
    pair = Pair()
    pair.lab.run_for(2.0)
    before = pair.paths()
    link = pair.open()
    pair.migrate(link.client.path)
    assert core(pair.client, pair.key).moving_to == link.client.path
    core(pair.client, pair.key).stay()
    assert core(pair.client, pair.key).moving_to is None
    pair.lab.run_for(1.0)
    assert pair.paths() == before
    assert not pair.client.links, "the connection is given back"
    assert not pair.client.saw(PathFailed)
    core(pair.client, pair.key).stay()
    pair.finish()


def test_what_was_taken_back_too_late_stands() -> None:
    pair = Pair()
    pair.lab.run_for(2.0)
    link = pair.open()
    pair.migrate(link.client.path)
    pair.lab.run_until(lambda: pair.paths()[0] == link.client.path)
    core(pair.client, pair.key).stay()
    pair.lab.run_for(1.0)
    assert pair.paths() == (link.client.path, link.server.path)
    pair.finish()
