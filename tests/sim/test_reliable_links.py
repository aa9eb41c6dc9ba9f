"""Sessions over WebSocket connections: TCP loses and reorders nothing, so STT doesn't look for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from stt_core.acks import LEAST_DELAY
from stt_core.errors import AuthenticationError, CloseReason, ConnectionRefusedError, ConnectionTimeoutError
from stt_core.events import HandshakeFailed, PathFailed, PeerRejected, SessionClosed, SessionEstablished
from stt_core.links import LinkState
from stt_core.packet import HELLO_MIN
from stt_core.recovery.loss import WATCH
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.types import SessionKey
from tests.core.pair import channel_of
from tests.sim import Host, Lab, Link, Traffic
from tests.sim.links import WRITER
from tests.sim.test_many_sessions import Greeter, Guest

MANY = 1000


def hosts(lab: Lab, **config: Any) -> tuple[Host, Host]:
    return lab.endpoint("client", **config), lab.endpoint("server", **config)


def core_session(host: Host, key: SessionKey) -> Session:
    session = host.session(key)
    assert isinstance(session, Session)
    return session


def has_received(session: Session, stream: int, offset: int) -> bool:
    return session.stream_info(stream).received >= offset


def why(host: Host) -> CloseReason:
    assert host.closed is not None
    return host.closed.reason


def test_both_directions_arrive_whole_and_in_few_large_messages() -> None:
    lab = Lab()
    client, server = hosts(lab)
    link = Link(lab, client, server, delay=0.02, rate=10_000_000)
    traffic = Traffic(client, server)
    traffic.stream(client, 5_000_000)
    traffic.stream(server, 3_000_000)
    traffic.messages(client, [b"", b"one", bytes(100_000)])
    key = link.connect()
    lab.run_until(traffic.done, timeout=5.0)
    traffic.check()
    assert link.client.messages < 5_000_000 // 60_000 + 80
    channel = channel_of(core_session(client, key))
    assert channel.recovery.packets_lost == 0
    assert channel.datagram_size > 65_000
    assert core_session(client, key).max_datagram_size > 65_000


def test_a_writer_is_never_given_much_more_than_it_may_hold() -> None:
    lab = Lab()
    client, server = hosts(lab)
    link = Link(lab, client, server, rate=200_000)
    traffic = Traffic(client, server)
    traffic.stream(client, 2_000_000)
    link.connect()
    lab.run_until(traffic.done, timeout=30.0)
    traffic.check()
    assert WRITER < link.client.longest <= WRITER + 65_472


def test_a_full_link_holds_up_its_own_session_alone() -> None:
    lab = Lab()
    client, server = hosts(lab)
    slow = Link(lab, client, server)
    fast = Link(lab, client, server)
    slow_key, fast_key = slow.connect(), fast.connect()
    lab.run_until(lambda: len(server.all(SessionEstablished)) == 2)
    slow.freeze()
    stuck = client.open_stream(slow_key)
    for _ in range(8):
        client.session(slow_key).send_message(stuck, bytes(100_000))
    moving = client.open_stream(fast_key)
    client.session(fast_key).send_message(moving, b"past it")
    lab.run_for(1.0)
    arrived = list(server.stream_openings)
    assert len(arrived) == 1
    assert server.session(arrived[0].session_key).read_message(arrived[0].stream_id) == b"past it"
    slow.thaw()
    lab.run_for(5.0)
    assert len(server.stream_openings) == 2


def test_a_full_udp_socket_holds_up_what_leaves_by_it_alone() -> None:
    lab = Lab()
    client, server = hosts(lab)
    lab.link(client, server)
    link = Link(lab, client, server)
    keys = client.connect(server), link.connect()
    lab.run_until(lambda: len(server.all(SessionEstablished)) == 2)
    lab.run_for(1.0)
    socket = core_session(client, keys[0]).path
    link.client.endpoint.receive_path_blocked(socket)
    late = client.connect(server)
    for key in keys:
        client.session(key).send_message(client.open_stream(key), b"now")
    lab.run_for(1.0)
    (arrived,) = server.stream_openings
    assert core_session(server, arrived.session_key).path == link.server.path
    link.client.endpoint.receive_path_writable(socket)
    client.wake()
    lab.run_until(lambda: len(server.stream_openings) == 2, timeout=0.1)
    lab.run_until(lambda: client.session(late).state is SessionState.ESTABLISHED, timeout=5.0)


def test_silence_on_a_reliable_path_is_not_probed() -> None:
    """TCP repeats what is lost: a second copy would wait behind the first."""
    lab = Lab()
    client, server = hosts(lab)
    link = Link(lab, client, server)
    key = link.connect()
    lab.run_until(lambda: server.established is not None)
    lab.run_for(2.0)
    link.freeze()
    before = link.client.messages
    stream = client.open_stream(key)
    client.session(key).send_message(stream, b"once")
    lab.run_for(8.0)
    assert link.client.messages == before + 1
    link.thaw()
    lab.run_for(1.0)
    assert not channel_of(core_session(client, key)).streams.has_unacknowledged


def test_acks_are_rare() -> None:
    lab = Lab()
    client, server = hosts(lab)
    link = Link(lab, client, server, rate=20_000_000)
    traffic = Traffic(client, server)
    traffic.stream(client, 10_000_000)
    link.connect()
    lab.run_until(traffic.done)
    assert link.server.messages < 10_000_000 // WRITER + 120


def test_a_conversation_carries_an_ack_now_and_then() -> None:
    lab = Lab()
    client, server = hosts(lab)
    link = Link(lab, client, server, delay=0.0001)
    key = link.connect()
    lab.run_until(lambda: server.established is not None)
    assert server.established is not None
    ends = [(client, core_session(client, key)), (server, core_session(server, server.established.session_key))]
    stream = client.open_stream(key, stream_id=1)
    assert server.open_stream(server.established.session_key, stream_id=1) == stream
    lab.run_for(1.0)
    sizes: list[int] = []
    lab.observers.append(lambda record: sizes.append(len(record.data)))
    begun = lab.now
    for turn in range(1000):
        (host, sender), (_, receiver) = ends[turn % 2], ends[1 - turn % 2]
        due = receiver.stream_info(stream).received + 1
        sender.send_message(stream, bytes(64))
        host.wake()
        lab.run_until(partial(has_received, receiver, stream, due))
        assert receiver.read_message(stream) == bytes(64)
    alone = min(sizes)
    with_ack = sum(size > alone for size in sizes)
    assert len(sizes) == 1000, "no ACK left by itself"
    assert 0 < with_ack <= 2 * ((lab.now - begun) / LEAST_DELAY + 1)
    lab.run_for(0.1)
    assert [session.stream_info(stream).unacknowledged for _, session in ends] == [0, 0]


def test_idle_keep_alives_and_the_death_of_a_peer_are_as_on_udp() -> None:
    lab = Lab()
    client, server = hosts(lab)
    link = Link(lab, client, server)
    link.connect()
    lab.run_for(120.0)
    assert client.established is not None
    assert client.closed is None
    link.freeze()
    lab.run_until(lambda: client.closed is not None and server.closed is not None, timeout=31.0)
    assert why(client) is CloseReason.TIMEOUT


def test_close_is_acknowledged_and_the_connections_are_released() -> None:
    lab = Lab()
    client, server = hosts(lab)
    link = Link(lab, client, server)
    key = link.connect()
    lab.run_until(lambda: server.established is not None)
    client.session(key).close(reason="done")
    lab.run_until(lambda: client.closed is not None and server.closed is not None, timeout=1.0)
    assert why(server) is CloseReason.GRACEFUL
    lab.run_for(link.client.delay)
    assert not client.links, "what was answered on a reliable path has no stragglers to wait for"
    assert not server.links
    assert not len(link.client.endpoint._links)
    assert not len(link.server.endpoint._links)


def test_goodbyes_that_cross_release_the_connections_once_both_were_answered() -> None:
    lab = Lab()
    client, server = hosts(lab)
    link = Link(lab, client, server)
    key = link.connect()
    lab.run_until(lambda: server.established is not None)
    assert server.established is not None
    client.session(key).close()
    server.session(server.established.session_key).close()
    lab.run_until(lambda: client.closed is not None and server.closed is not None, timeout=1.0)
    lab.run_for(2 * link.client.delay)
    assert (client.links, server.links) == ({}, {})
    assert {why(client), why(server)} == {CloseReason.GRACEFUL}


def test_a_session_whose_connection_breaks_waits_for_another_path_until_the_timeout() -> None:
    lab = Lab()
    client, server = hosts(lab)
    link = Link(lab, client, server)
    key = link.connect()
    lab.run_until(lambda: server.established is not None)
    lab.run_for(1.0)
    link.cut()
    lab.run_for(1.0)
    assert client.saw(PathFailed, key)
    assert client.session(key).state is SessionState.ESTABLISHED
    lab.run_until(lambda: client.closed is not None and server.closed is not None, timeout=31.0)
    assert {why(client), why(server)} == {CloseReason.TIMEOUT}


def test_a_close_on_a_broken_connection_does_not_hang() -> None:
    lab = Lab()
    client, server = hosts(lab)
    link = Link(lab, client, server)
    key = link.connect()
    lab.run_until(lambda: server.established is not None)
    client.session(key).close()
    lab.run_for(0.001)
    link.cut()
    lab.run_until(lambda: client.closed is not None, timeout=0.1)
    assert client.session(key).state is SessionState.CLOSED


class TestHandshake:
    def test_nothing_is_filled_up_and_nobody_has_to_prove_an_address(self) -> None:
        lab = Lab()
        client, server = hosts(lab, validate_address=True)
        link = Link(lab, client, server)
        link.connect()
        lab.run_until(lambda: server.established is not None, timeout=0.1)
        assert link.client.endpoint.statistics()["sent"] == 3  # HELLO, AUTH_PROOF, KEEP_ALIVE
        assert client.sent_bytes < 3 * HELLO_MIN + 600

    def test_nothing_is_repeated_and_the_timeout_is_the_same(self) -> None:
        lab = Lab()
        client, server = hosts(lab)
        link = Link(lab, client, server)
        link.freeze()
        key = link.connect(timeout=5.0)
        lab.run_for(4.9)
        assert link.client.messages == 1
        lab.run_for(0.2)
        (failed,) = client.all(HandshakeFailed, key)
        assert isinstance(failed.error, ConnectionTimeoutError)

    @pytest.mark.parametrize("after", [0.0, 0.015, 0.025])
    def test_a_connection_that_breaks_meanwhile_ends_it_at_once(self, after: float) -> None:
        lab = Lab()
        client, server = hosts(lab)
        link = Link(lab, client, server)
        key = link.connect()
        lab.run_for(after)
        link.cut()
        lab.run_for(0.0)
        (failed,) = client.all(HandshakeFailed, key)
        assert isinstance(failed.error, ConnectionRefusedError)
        lab.run_for(20.0)
        assert not server.saw(SessionEstablished)

    def test_a_wrong_seed_is_told_as_soon_as_the_answer_comes(self) -> None:
        lab = Lab()
        client = lab.endpoint("client", shared_seed=b"another one")
        server = lab.endpoint("server")
        link = Link(lab, client, server)
        key = link.connect()
        lab.run_for(0.1)
        (failed,) = client.all(HandshakeFailed, key)
        assert isinstance(failed.error, AuthenticationError)
        assert server.saw(PeerRejected)

    def test_guesses_are_counted_by_the_host_and_not_by_the_connection(self) -> None:
        lab = Lab()
        client = lab.endpoint("client", shared_seed=b"another one")
        server = lab.endpoint("server")
        for _ in range(40):
            Link(lab, client, server).connect()
        lab.run_for(60.0)
        assert server.endpoint.statistics()["handshake_pake_operations"] <= 7  # type: ignore[attr-defined]


class TestOneSessionToAConnection:
    def test_a_second_connect_is_refused_here(self) -> None:
        lab = Lab()
        client, server = hosts(lab)
        link = Link(lab, client, server)
        link.connect()
        with pytest.raises(RuntimeError, match="serves a session"):
            link.connect()

    def test_a_second_handshake_gets_no_answer(self) -> None:
        lab = Lab()
        client, server = hosts(lab)
        link, other = Link(lab, client, server), Link(lab, client, server)
        link.connect()
        lab.run_until(lambda: server.established is not None)
        other.client.send = link.client.send  # type: ignore[method-assign]
        key = other.connect(timeout=2.0)
        lab.run_for(3.0)
        assert client.saw(HandshakeFailed, key)
        assert len(server.all(SessionEstablished)) == 1

    def test_who_is_at_the_other_end_is_known_step_by_step(self) -> None:
        lab = Lab()
        client, server = hosts(lab)
        link = Link(lab, client, server, delay=0.01)
        state = link.server.endpoint.link_state
        link.client.send(b"\x00 nothing that anybody would understand")
        link.client.send(b"\x40" + bytes(60))
        lab.run_for(1.0)
        assert state(link.server.path) is LinkState.SILENT
        link.connect()
        lab.run_for(0.015)
        assert state(link.server.path) is LinkState.SPEAKING
        lab.run_for(0.030)
        assert state(link.server.path) is LinkState.SPEAKING, "an AUTH_PROOF may be a copy"
        lab.run_for(0.010)
        assert state(link.server.path) is LinkState.TRUSTED
        assert server.established is not None


def test_a_thousand_sessions_over_connections_of_their_own() -> None:
    lab = Lab(capture=False)
    answered: list[str] = []
    server = lab.endpoint("server", Greeter(), max_sessions=MANY, rate_limits=None)
    for number in range(MANY):
        client = lab.endpoint(f"client {number}", Guest(answered))
        link = Link(lab, client, server, delay=0.02, rate=1_000_000)
        lab.at(number * 0.002, lambda link=link: link.connect())  # type: ignore[misc]
    lab.run_until(lambda: len(answered) == MANY, timeout=30.0)
    lab.run_for(WATCH)
    assert len(server.all(SessionClosed)) == MANY
    assert not server.links
