"""One server and a thousand clients (chapter, "Concurrent Sessions"): all served, none confused, nothing kept."""

from __future__ import annotations

from typing import Any

from stt_core.events import AnyEvent, HandshakeFailed, SessionClosed, SessionEstablished, StreamReadable
from tests.sim import Host, Lab, payload

CLIENTS = 1000
SOME = 200
"""Where it is not the number that matters."""


class Greeter:
    """On the server: answers each message with that message and the sender's name, and finishes."""

    def on_event(self, host: Host, event: AnyEvent) -> None:
        if isinstance(event, StreamReadable):
            session = host.session(event.session_key)
            message = session.read_message(event.stream_id)
            if message is not None:
                assert session.send_message(event.stream_id, message[::-1])
                session.finish(event.stream_id)


class Guest:
    """On a client: sends one message of its own, waits for the answer, closes; counts in ``answered``."""

    def __init__(self, answered: list[str]) -> None:
        self._answered = answered

    def on_event(self, host: Host, event: AnyEvent) -> None:
        if isinstance(event, SessionEstablished):
            stream = host.open_stream(event.session_key)
            assert host.session(event.session_key).send_message(stream, payload(2000, host.name))
            host.session(event.session_key).finish(stream)
        elif isinstance(event, StreamReadable):
            session = host.session(event.session_key)
            if (answer := session.read_message(event.stream_id)) is not None:
                assert answer == payload(2000, host.name)[::-1]
                self._answered.append(host.name)
                session.close()


def crowd(lab: Lab, count: int, apart: float, **conditions: Any) -> tuple[Host, list[Host], list[str]]:
    """A server, and clients that connect ``apart`` seconds after each other."""
    answered: list[str] = []
    server = lab.endpoint("server", Greeter(), max_sessions=count)
    clients = []
    for number in range(count):
        client = lab.endpoint(f"client {number}", Guest(answered), handshake_timeout=60.0)
        lab.link(client, server, **conditions)
        lab.at(number * apart, lambda client=client: client.connect(server))  # type: ignore[misc]
        clients.append(client)
    return server, clients, answered


def test_a_thousand_clients_are_served_over_a_lossy_network() -> None:
    lab = Lab(capture=False)
    server, clients, answered = crowd(lab, CLIENTS, apart=0.002, delay=0.02, loss=0.02, reorder=0.02)
    lab.run_until(lambda: len(answered) == CLIENTS, timeout=90.0)
    assert sorted(answered) == sorted(client.name for client in clients)
    assert len({event.session_id for event in server.all(SessionEstablished)}) == CLIENTS
    assert {event.peer_node_id for event in server.all(SessionEstablished)} == {c.name.encode() for c in clients}
    assert not any(client.saw(HandshakeFailed) for client in clients)
    lab.run_for(60.0)
    assert len(server.all(SessionClosed)) == CLIENTS
    assert {event.reason for event in server.all(SessionClosed)} == {"graceful"}
    assert server.endpoint.sessions() == []


def test_a_thousand_at_the_same_instant_are_made_to_prove_their_address_and_all_get_in() -> None:
    """The burst limit on first messages answers most with RETRY, and nobody is turned away for it."""
    lab = Lab(capture=False)
    server, clients, answered = crowd(lab, CLIENTS, apart=0.0, delay=0.02)
    lab.run_until(lambda: len(answered) == CLIENTS, timeout=60.0)
    assert not any(client.saw(HandshakeFailed) for client in clients)
    assert len(server.all(SessionEstablished)) == CLIENTS


def test_idle_sessions_cost_two_datagrams_each_in_ten_seconds() -> None:
    lab = Lab(capture=False)
    server = lab.endpoint("server", rate_limits=None)
    clients = [lab.endpoint(f"client {number}", rate_limits=None) for number in range(SOME)]
    for client in clients:
        lab.link(client, server, delay=0.02)
        client.connect(server)
    lab.run_until(lambda: len(server.events) >= SOME)
    lab.run_for(5.0)
    before = server.sent_datagrams + sum(client.sent_datagrams for client in clients)
    lab.run_for(50.0)
    sent = server.sent_datagrams + sum(client.sent_datagrams for client in clients) - before
    assert 1.9 * 5 * SOME < sent < 3.1 * 5 * SOME
    assert len(server.endpoint.sessions()) == SOME


def test_sessions_between_two_endpoints_keep_their_streams_apart() -> None:
    """All over one pair of addresses: only the connection id tells them from each other."""
    lab = Lab(capture=False)
    answered: list[str] = []
    server = lab.endpoint("server", Greeter(), max_sessions=SOME, rate_limits=None)
    client = lab.endpoint("client", Guest(answered), max_sessions=SOME, rate_limits=None, handshake_timeout=60.0)
    lab.link(client, server, delay=0.02, loss=0.01)
    keys = [client.connect(server) for _ in range(SOME)]
    lab.run_until(lambda: len(answered) == SOME, timeout=60.0)
    ids = {client.session(key).session_id for key in keys}
    assert len(ids) == SOME
    assert ids == {event.session_id for event in server.all(SessionEstablished)}
