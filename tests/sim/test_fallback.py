"""UDP that falls silent while a connection works, and comes back (docs/protocol.md, "Falling back")."""

from __future__ import annotations

import pytest

from stt_core.errors import CloseReason
from stt_core.events import AnyEvent, LinkWanted, PathChanged, SessionClosed, SessionEstablished
from stt_core.fallback import FIRST_WAIT, LONGEST_WAIT
from stt_core.session import Session
from stt_core.types import Path, SessionKey
from tests.sim import Conditions, Host, Lab, Link, Switch, Traffic

RATE = 500_000


def core(host: Host, key: SessionKey) -> Session:
    session = host.session(key)
    assert isinstance(session, Session)
    return session


class Adapter:
    """On the client: opens a connection whenever one is wanted, ``delay`` seconds later, while ``able``."""

    def __init__(self, lab: Lab, server: Host, *, delay: float = 0.1, home: Path | None = None) -> None:
        self.lab = lab
        self.server = server
        self.delay = delay
        self.home = home
        self.able = True
        self.links: list[Link] = []
        self.asked: list[float] = []

    def on_event(self, host: Host, event: AnyEvent) -> None:
        if isinstance(event, SessionEstablished):
            core(host, event.session_key).allow_fallback(self.lab.now, self.home)
        elif isinstance(event, LinkWanted):
            self.asked.append(self.lab.elapsed)
            if self.able:
                self.lab.clock.after(self.delay, lambda: self.open(host, event.session_key))

    def open(self, host: Host, key: SessionKey) -> None:
        link = Link(self.lab, host, self.server, delay=0.03, rate=RATE)
        self.links.append(link)
        core(host, key).fall_back(link.client.path, self.lab.now)
        host.wake()


class Scene:
    """A client that can open connections, a server, and a cable for UDP between them."""

    def __init__(self, *, size: int = 0, over: str = "udp") -> None:
        self.lab = Lab()
        self.cable = Switch()
        self.client, self.server = self.lab.endpoint("client"), self.lab.endpoint("server")
        conditions = Conditions(0.02, rate=RATE, extra=[self.cable])
        self.lab.link(self.client, self.server, forth=conditions, back=conditions)
        self.udp = Path("udp", self.server.address)
        self.adapter = Adapter(self.lab, self.server, home=self.udp if over == "websocket" else None)
        self.client.add(self.adapter)
        self.traffic = Traffic(self.client, self.server)
        if size:
            self.traffic.stream(self.client, size)
            self.traffic.stream(self.server, size)
        if over == "udp":
            self.key = self.client.connect(self.server)
        else:
            self.first = Link(self.lab, self.client, self.server, delay=0.03, rate=RATE)
            self.key = self.first.connect()
        self.lab.run_until(lambda: self.server.established is not None)

    @property
    def path(self) -> Path:
        return core(self.client, self.key).path

    def alive(self) -> bool:
        return not self.client.saw(SessionClosed) and not self.server.saw(SessionClosed)

    def finish(self, timeout: float = 60.0) -> None:
        self.lab.run_until(self.traffic.done, timeout=timeout)
        self.traffic.check()
        assert self.alive()


def test_a_transfer_goes_on_over_a_connection_and_comes_back() -> None:
    scene = Scene(size=8_000_000)
    scene.lab.run_for(3.0)
    scene.cable.up = False
    scene.lab.run_until(lambda: scene.path.reliable, timeout=6.0)
    received = scene.traffic.reader(scene.server).received
    scene.lab.run_for(3.0)
    assert scene.traffic.reader(scene.server).received > received + RATE
    scene.cable.up = True
    scene.lab.run_until(lambda: scene.path == scene.udp, timeout=2 * FIRST_WAIT)
    scene.lab.run_for(1.0)
    assert not scene.client.links
    assert not scene.server.links, "the connection is given back"
    scene.finish()


@pytest.mark.parametrize("at", [0.0, 0.05, 0.5, 1.0, 2.5])
def test_whenever_it_happens_no_byte_is_lost(at: float) -> None:
    scene = Scene(size=1_500_000)
    scene.lab.run_for(at)
    scene.cable.up = False
    scene.finish()


def test_an_idle_session_moves_with_its_next_keep_alive_and_lives_on() -> None:
    scene = Scene()
    scene.lab.run_for(5.0)
    scene.cable.up = False
    scene.lab.run_for(300.0)
    assert scene.alive()
    assert scene.path.reliable
    assert len(scene.adapter.links) == 1
    scene.cable.up = True
    scene.lab.run_until(lambda: scene.path == scene.udp, timeout=LONGEST_WAIT + 5.0)


def test_a_lost_packet_or_two_are_no_silence() -> None:
    scene = Scene(size=3_000_000)
    for second in range(1, 6):
        scene.lab.at(float(second), lambda: setattr(scene.cable, "up", False))
        scene.lab.at(second + 0.1, lambda: setattr(scene.cable, "up", True))
    scene.finish()
    assert not scene.adapter.asked


def test_where_udp_answers_before_the_connection_is_open_that_is_given_back() -> None:
    scene = Scene()
    scene.adapter.delay = 5.0
    scene.lab.run_for(2.0)
    scene.cable.up = False
    scene.lab.run_until(lambda: bool(scene.adapter.asked), timeout=20.0)
    scene.cable.up = True
    scene.lab.run_for(8.0)
    assert len(scene.adapter.links) == 1
    assert scene.path == scene.udp
    assert not scene.client.links


def test_as_long_as_none_can_be_opened_it_is_asked_for_ever_more_slowly() -> None:
    scene = Scene(size=20_000_000)
    scene.adapter.able = False
    scene.lab.run_for(2.0)
    scene.cable.up = False
    scene.lab.run_until(lambda: scene.client.closed is not None, timeout=35.0)
    assert 2 <= len(scene.adapter.asked) <= 4
    assert scene.client.closed is not None
    assert scene.client.closed.reason is CloseReason.TIMEOUT


def test_a_connection_that_breaks_on_the_way_is_replaced() -> None:
    scene = Scene(size=4_000_000)
    scene.lab.run_for(2.0)
    scene.cable.up = False
    scene.lab.run_until(lambda: scene.path.reliable, timeout=6.0)
    scene.lab.run_for(0.5)
    scene.adapter.links[-1].cut()
    scene.finish()
    assert len(scene.adapter.links) == 2


def test_a_connection_that_breaks_where_udp_works_leads_back_to_udp() -> None:
    scene = Scene(size=4_000_000, over="websocket")
    scene.lab.run_for(1.0)
    scene.first.cut()
    scene.lab.run_for(0.4)
    assert scene.path == scene.udp
    scene.finish()


def test_a_session_that_began_over_a_connection_moves_to_udp_where_that_works() -> None:
    scene = Scene(over="websocket")
    scene.lab.run_until(lambda: scene.path == scene.udp, timeout=2 * FIRST_WAIT)
    scene.lab.run_for(1.0)
    assert not scene.server.links
    assert scene.alive()


def test_one_without_udp_gets_another_connection() -> None:
    scene = Scene(size=3_000_000, over="websocket")
    scene.cable.up = False
    scene.lab.run_for(1.0)
    scene.first.cut()
    scene.finish()
    assert len(scene.adapter.links) == 1


def test_udp_that_comes_and_goes_is_trusted_ever_more_slowly() -> None:
    scene = Scene(size=40_000_000)
    for step in range(60):
        scene.lab.at(2.0 + 8.0 * step, lambda: setattr(scene.cable, "up", False))
        scene.lab.at(8.0 + 8.0 * step, lambda: setattr(scene.cable, "up", True))
    scene.lab.run_for(300.0)
    assert scene.alive()
    moves = [event for event in scene.client.all(PathChanged) if event.path == scene.udp]
    assert 2 <= len(moves) <= 10, "and not 37 times"
    scene.finish(timeout=200.0)


def test_a_connection_that_the_application_chose_is_kept_and_udp_is_there_when_it_breaks() -> None:
    scene = Scene()
    scene.lab.run_for(2.0)
    link = Link(scene.lab, scene.client, scene.server, delay=0.03, rate=RATE)
    core(scene.client, scene.key).migrate(link.client.path, scene.lab.now)
    scene.client.wake()
    scene.lab.run_for(2 * LONGEST_WAIT)
    assert scene.path == link.client.path
    scene.adapter.able = False
    link.cut()
    scene.lab.run_for(1.0)
    assert scene.path == scene.udp
    assert scene.alive()


def test_where_the_application_sends_it_comes_before_any_way_round() -> None:
    """The path in use falls silent while the session is told to go elsewhere, which takes long to answer."""
    scene = Scene(size=3_000_000)
    scene.lab.run_for(2.0)
    scene.cable.up = False
    chosen = Link(scene.lab, scene.client, scene.server, delay=1.4, rate=RATE)
    core(scene.client, scene.key).migrate(chosen.client.path, scene.lab.now)
    scene.client.wake()
    scene.lab.run_until(lambda: scene.path == chosen.client.path, timeout=5.0)
    assert scene.adapter.asked
    scene.finish()
    assert not [event for event in scene.client.all(PathChanged) if event.path != chosen.client.path]


def test_who_knows_no_url_never_asks() -> None:
    scene = Scene(size=3_000_000)
    scene.lab.run_for(2.0)
    scene.cable.up = False
    scene.finish()
    assert not scene.server.saw(LinkWanted)
