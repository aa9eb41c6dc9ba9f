"""A DHT on endpoints: in sessions between those who hold the seed, or beside their packets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from stt_core.dht import (
    AttachedDht,
    Bootstrapped,
    NodesFound,
    Outcome,
    ProvidersFound,
    Stored,
)
from stt_core.dht.attached import MOST_OPEN, MOST_WAITING, UNUSED
from stt_core.dht.wire import LARGEST_FRAMED, Kind, Query, build_query
from stt_core.errors import StateError
from stt_core.events import SessionClosed, SessionEstablished
from stt_core.types import Path
from tests.core.pair import Flight, Net
from tests.dht.members import Member, town
from tests.dht.network import CheapCrypto

CONTENT = b"c" * 32
NOWHERE = ("198.18.0.1", 9)


def test_all_that_leaves_is_packets_of_sessions() -> None:
    net, members = town(5)
    assert members[1].run(Stored, members[1].dht.announce(CONTENT, net.now)).stored == 4
    (provider,) = members[4].run(ProvidersFound, members[4].dht.find_providers(CONTENT, net.now)).providers
    assert (provider.host, provider.port) == members[1].address
    assert all(flight.data[0] >= 0x40 for flight in net.sent)
    assert all(event.dht_only for member in members for event in member.told(SessionEstablished))


def test_no_message_is_too_long_for_a_packet_however_many_nodes_there_are_to_name() -> None:
    net, members = town(26)
    found = members[7].run(NodesFound, members[7].dht.find_node(members[20].dht.node_id, net.now)).nodes
    assert found[0].address == members[20].address
    assert len(found) == 20
    assert [member.attached.counters["lost"] for member in members] == [0] * 26
    assert LARGEST_FRAMED == 1168


def test_sessions_end_when_there_is_nothing_more_to_say_and_are_made_again() -> None:
    net, members = town(4)
    net.run(1)
    assert sum(member.sessions for member in members) > 0
    net.run(UNUSED + 5)
    assert [member.sessions for member in members] == [0] * 4
    made = members[3].attached.counters["sessions_made"]
    assert len(members[3].run(NodesFound, members[3].dht.find_node(CONTENT, net.now)).nodes) == 3
    assert members[3].attached.counters["sessions_made"] == made + 3
    assert not any(event.reason != "graceful" for member in members for event in member.told(SessionClosed))


def test_what_waits_for_a_session_is_bounded_and_lost_where_there_will_be_none() -> None:
    net = Net()
    member = Member(net, 1)
    handles = [member.dht.bootstrap([NOWHERE], net.now) for _ in range(20)]
    member.attached.flush(net.now)
    assert member.attached.counters["lost"] == 20 - MOST_WAITING
    assert member.run(Bootstrapped, handles[-1]).outcomes == {NOWHERE: Outcome.NO_ANSWER}
    net.run(30)
    assert member.attached._dials == {}
    assert member.attached._where == {}


def test_so_are_the_sessions() -> None:
    net = Net()
    member = Member(net, 1)
    addresses = [(f"198.18.{number >> 8}.{number & 255}", 9) for number in range(MOST_OPEN + 40)]
    handle = member.dht.bootstrap(addresses, net.now)
    member.attached.flush(net.now)
    assert len(member.attached._dials) == MOST_OPEN
    assert member.attached.counters["lost"] == 40
    assert set(member.run(Bootstrapped, handle).outcomes.values()) == {Outcome.NO_ANSWER}


def test_a_member_that_moves_is_heard_at_its_new_address_and_the_old_one_is_forgotten() -> None:
    net, (alice, bob, _) = town(3)
    net.run(1)
    before = bob.address
    bob.address = ("20.9.9.9", 4001)
    (session,) = [each for each in bob.endpoint.sessions() if each.path.address == alice.address]
    assert session.send_dht(build_query(_ping(bob), CheapCrypto().ed25519((1).to_bytes(32, "big")), None))
    net.run(2)
    assert alice.endpoint.session(alice.attached._at[bob.address]).path == bob.path
    assert before not in alice.attached._at


def _ping(member: Member) -> Query:
    return Query(Kind.PING, b"12345678", member.dht.public_key, addressed=False)


def test_behind_a_nat_the_port_that_others_see_is_announced() -> None:
    net, members = town(4)
    hidden = Member(net, 4)
    outside = (hidden.address[0], 61_000)

    def translate(flight: Flight) -> Iterable[Flight]:
        if flight.sender is hidden:
            return (replace(flight, source=Path("udp", outside)),)
        return (replace(flight, to=hidden.address),) if flight.to == outside else (flight,)

    net.wire = translate
    hidden.join(members[0].address)
    assert hidden.dht.external_address == outside
    assert hidden.run(Stored, hidden.dht.announce(CONTENT, net.now)).stored == 4
    (provider,) = members[1].run(ProvidersFound, members[1].dht.find_providers(CONTENT, net.now)).providers
    assert provider.address == outside


def test_an_open_dht_has_its_datagrams_beside_the_packets() -> None:
    net, members = town(4, carrier="udp")
    assert len(members[3].run(NodesFound, members[3].dht.find_node(CONTENT, net.now)).nodes) == 3
    assert all(flight.data[0] < 0x40 for flight in net.sent)
    private = Member(net, 9)
    private.join(members[0].address)
    net.run(2)
    assert {event.message for event in private.told(SessionClosed)} == {"no private DHT is here"}
    assert private.sessions == 0
    assert private.dht.statistics()["contacts"] == 0


def test_an_endpoint_without_sessions_is_not_quiet_while_its_dht_waits() -> None:
    net = Net()
    member = Member(net, 1, carrier="udp")
    member.dht.bootstrap([NOWHERE], net.now)
    member.attached.flush(net.now)
    due = member.dht.next_timer()
    assert due is not None
    assert member.endpoint.next_timer() == due
    assert member.endpoint.quiet_until <= due


def test_an_address_the_socket_does_not_reach_is_not_sent_to() -> None:
    net = Net()
    member = Member(net, 1)
    member.dht.bootstrap([("2001:db8::1", 1)], net.now)
    member.attached.flush(net.now)
    assert member.attached.counters["lost"] == 1
    assert member.attached._dials == {}


def test_one_endpoint_one_dht_and_leaving_closes_what_was_made_for_it() -> None:
    net, (alice, bob) = town(2)
    with pytest.raises(StateError, match="already"):
        AttachedDht(alice.dht, alice.endpoint, alice.told_of.append)
    with pytest.raises(ValueError, match="first byte"):
        alice.endpoint.send_raw(b"\x40", Path("udp", bob.address))
    bob.attached.detach()
    net.run(10)
    assert (alice.sessions, bob.sessions) == (0, 0)
    AttachedDht(bob.dht, bob.endpoint, bob.told_of.append)
