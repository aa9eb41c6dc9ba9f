"""Connects that must fail do so with the right error, in bounded time, whatever the network adds to it."""

from __future__ import annotations

import pytest

from stt_core.errors import (
    AuthenticationError,
    ConnectionRefusedError,
    ConnectionTimeoutError,
    PeerBusyError,
    PeerKeyError,
    STTError,
)
from stt_core.events import HandshakeFailed, PeerRejected, SessionEstablished
from tests.sim import Conditions, Host, Lab, Switch

NOBODY = ("10.99.99.99", 4433)


def failure(lab: Lab, host: Host, timeout: float) -> STTError:
    lab.run_until(lambda: host.saw(HandshakeFailed), timeout)
    (event,) = host.all(HandshakeFailed)
    return event.error


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3])
def test_a_wrong_seed_is_an_authentication_error_at_both_ends(loss: float) -> None:
    lab = Lab()
    a = lab.endpoint("a", shared_seed=b"what one of them thinks", handshake_timeout=30.0)
    b = lab.endpoint("b", shared_seed=b"what the other one does")
    lab.link(a, b, delay=0.02, loss=loss, reorder=loss, duplicate=loss)
    a.connect(b)
    error = failure(lab, a, timeout=30.0)
    assert type(error) is AuthenticationError
    assert lab.elapsed < (1.5 if not loss else 15.0)
    lab.run_for(30.0)
    rejected = b.all(PeerRejected)
    assert 1 <= len(rejected) <= 2  # one guess per distinct AUTH_PROOF, and there are never more than two
    assert all(type(event.error) is AuthenticationError for event in rejected)
    assert not a.saw(SessionEstablished)
    assert not b.saw(SessionEstablished)
    assert a.endpoint.sessions() == b.endpoint.sessions() == []


def test_a_named_peer_that_has_another_name_is_a_wrong_seed_to_it() -> None:
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, delay=0.02, loss=0.1)
    a.connect(b, peer_node_id=b"carol")
    assert type(failure(lab, a, timeout=10.0)) is AuthenticationError
    assert not b.saw(SessionEstablished)


def test_a_peer_key_that_is_not_the_peers_is_refused_and_the_right_one_accepted() -> None:
    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b", node_seed=bytes(range(32)))
    lab.link(a, b, delay=0.02, loss=0.1)
    a.connect(b)
    lab.run_until(lambda: a.established is not None)
    key = a.established.peer_identity_key if a.established else None
    assert key is not None
    a.connect(b, peer_key=key)
    lab.run_until(lambda: len(a.all(SessionEstablished)) == 2)
    a.connect(b, peer_key=bytes([key[0] ^ 1]) + key[1:])
    assert type(failure(lab, a, timeout=10.0)) is PeerKeyError


@pytest.mark.parametrize("timeout", [0.3, 5.0])
def test_an_address_where_nobody_is_times_out_on_time(timeout: float) -> None:
    lab = Lab()
    a = lab.endpoint("a")
    a.connect(NOBODY, timeout=timeout)
    error = failure(lab, a, timeout=timeout + 0.001)
    assert isinstance(error, ConnectionTimeoutError)
    assert isinstance(error, TimeoutError)
    assert not error.challenged
    assert lab.elapsed == pytest.approx(timeout)
    assert a.sent_datagrams <= 6


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    lab = Lab()
    lab.refusing.add(NOBODY)
    a = lab.endpoint("a")
    a.connect(NOBODY)
    assert isinstance(failure(lab, a, timeout=0.1), ConnectionRefusedError)


def test_a_peer_that_answers_and_then_falls_silent_is_told_from_nobody() -> None:
    lab = Lab()
    cable = Switch()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, forth=Conditions(0.02, extra=[cable]), back=Conditions(0.02))
    lab.at(0.03, lambda: setattr(cable, "up", False))  # the HELLO got through, no AUTH_PROOF will
    a.connect(b, timeout=5.0)
    error = failure(lab, a, timeout=5.1)
    assert isinstance(error, ConnectionTimeoutError)
    assert error.challenged


def test_a_full_server_says_so_and_takes_the_next_one_once_there_is_room() -> None:
    lab = Lab()
    server = lab.endpoint("server", max_sessions=2)
    clients = [lab.endpoint(f"client {number}") for number in range(4)]
    for client in clients:
        lab.link(client, server, delay=0.02)
    first = [client.connect(server) for client in clients[:2]]
    lab.run_until(lambda: len(server.all(SessionEstablished)) == 2)
    clients[2].connect(server)
    assert isinstance(failure(lab, clients[2], timeout=10.0), PeerBusyError)
    clients[0].session(first[0]).close()
    lab.run_for(5.0)
    clients[3].connect(server)
    lab.run_until(lambda: clients[3].established is not None)
