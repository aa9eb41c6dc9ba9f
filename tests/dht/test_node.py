"""One node among a few: commands and what they end with, what is kept and for how long."""

from __future__ import annotations

import pytest

from stt_backends.pyca import PycaCrypto
from stt_core import ConfigurationError
from stt_core.dht import (
    Bootstrapped,
    DHTConfig,
    DHTNode,
    ExternalAddressChanged,
    NodesFound,
    Outcome,
    ProvidersFound,
    RecordFound,
    Stored,
)
from stt_core.dht.wire import record_target
from tests.dht.network import PORT, Host, Network, nearest

CONTENT = b"c" * 32
HOUR = 3600.0


def town(count: int = 12, *, crypto: PycaCrypto | None = None, config: DHTConfig | None = None) -> list[Host]:
    """Nodes that joined by way of the first."""
    network = Network(crypto=crypto)
    hosts = [network.add(config=config)]
    for _ in range(count - 1):
        host = network.add(config=config)
        network.until(host, Bootstrapped, host.node.bootstrap([hosts[0].address], network.clock.now))
        hosts.append(host)
    return hosts


def providers(host: Host, content: bytes = CONTENT) -> tuple[DHTNode, ...]:
    network = host.network
    return network.until(host, ProvidersFound, host.node.find_providers(content, network.clock.now)).providers


def test_bootstrap_tells_what_each_address_was_good_for() -> None:
    network = Network()
    friend, newcomer = network.add(), network.add()
    addresses = [friend.address, ("99.9.9.9", PORT)]
    event = network.until(newcomer, Bootstrapped, newcomer.node.bootstrap(addresses, network.clock.now))
    assert event.outcomes == {addresses[0]: Outcome.ANSWERED, addresses[1]: Outcome.NO_ANSWER}
    assert event.contacts == 1
    network.run(1)
    assert len(friend.node.table) == 1, "who was asked by the newcomer asked back"


def test_bootstrap_of_nobody_ends_too() -> None:
    network = Network()
    host = network.add()
    assert network.until(host, Bootstrapped, host.node.bootstrap([], network.clock.now)).contacts == 0
    event = network.until(host, NodesFound, host.node.find_node(CONTENT, network.clock.now))
    assert event.nodes == ()
    assert network.until(host, Stored, host.node.announce(CONTENT, network.clock.now)).stored == 0
    assert providers(host) == ()


def test_a_node_without_contacts_asks_its_friends_again() -> None:
    network = Network()
    late = network.address()
    host = network.add()
    network.until(host, Bootstrapped, host.node.bootstrap([late], network.clock.now))
    network.add(late)
    network.run(60)
    assert len(host.node.table) == 1


def test_find_node_gives_the_nearest_that_answered() -> None:
    hosts = town(30)
    event = hosts[0].network.until(hosts[3], NodesFound, hosts[3].node.find_node(CONTENT, hosts[0].network.clock.now))
    assert list(event.nodes) == nearest([host for host in hosts if host is not hosts[3]], CONTENT)


def test_a_provider_is_found_at_the_address_it_was_seen_at_and_the_port_it_declared() -> None:
    hosts = town(config=DHTConfig(port=4444, name=b"Alice"))
    alice, bob = hosts[3], hosts[7]
    network = alice.network
    assert network.until(alice, Stored, alice.node.announce(CONTENT, network.clock.now)).stored == 11
    assert providers(bob) == (DHTNode(b"Alice", alice.address[0], 4444),)
    assert bob.node.known_providers(CONTENT) == providers(bob)
    assert providers(alice) == (), "itself it needn't find"


def test_an_announcement_is_made_again_every_hour_and_dies_a_day_after_the_last() -> None:
    hosts = town(4)
    alice, bob = hosts[1], hosts[2]
    network = alice.network
    network.until(alice, Stored, alice.node.announce(CONTENT, network.clock.now))
    newcomer = network.add()
    network.until(newcomer, Bootstrapped, newcomer.node.bootstrap([bob.address], network.clock.now))
    assert not newcomer.node.known_providers(CONTENT)
    network.run(HOUR + 60)
    assert newcomer.node.known_providers(CONTENT), "it was told at the next hour"
    alice.node.withdraw(CONTENT)
    network.run(23 * HOUR)
    assert providers(bob) == (alice.contact,)
    network.run(HOUR)
    assert providers(bob) == ()
    assert len(bob.node.store) == 0


def test_who_comes_later_hears_what_was_announced_while_nobody_was_there() -> None:
    network = Network()
    alice = network.add()
    assert network.until(alice, Stored, alice.node.announce(CONTENT, network.clock.now)).stored == 0
    for _ in range(3):
        bob = network.add()
        network.until(bob, Bootstrapped, bob.node.bootstrap([alice.address], network.clock.now))
        network.run(2)
        assert providers(bob) == (alice.contact,)


def test_a_record_can_be_replaced_by_its_owner() -> None:
    hosts = town()
    owner, reader = hosts[2], hosts[9]
    network = owner.network
    handle, target = owner.node.put(b"first", network.clock.now, salt=b"news")
    assert network.until(owner, Stored, handle).stored == 11
    assert target == record_target(owner.node.public_key, b"news")
    network.run(1)
    network.until(owner, Stored, owner.node.put(b"second", network.clock.now, salt=b"news")[0])
    found = network.until(reader, RecordFound, reader.node.get(target, network.clock.now)).record
    assert found is not None
    assert found.value == b"second"
    older = network.until(owner, Stored, owner.node.put(b"older", network.clock.now, salt=b"news", sequence=1)[0])
    assert older.stored == 0
    assert network.until(reader, RecordFound, reader.node.get(CONTENT, network.clock.now)).record is None


def test_it_all_works_with_real_signatures() -> None:
    hosts = town(6, crypto=PycaCrypto())
    alice, bob = hosts[2], hosts[5]
    network = alice.network
    network.until(alice, Stored, alice.node.announce(CONTENT, network.clock.now))
    assert providers(bob) == (alice.contact,)
    handle, target = alice.node.put(b"value", network.clock.now)
    network.until(alice, Stored, handle)
    record = network.until(bob, RecordFound, bob.node.get(target, network.clock.now)).record
    assert record is not None
    assert (record.value, record.public) == (b"value", alice.node.public_key)


def test_nodes_behind_a_nat_learn_where_they_are_seen() -> None:
    hosts = town(6)
    assert hosts[5].node.external_address == hosts[5].address
    assert ExternalAddressChanged(hosts[5].address) in hosts[5].events


def test_a_table_that_was_saved_is_a_way_back() -> None:
    hosts = town(10)
    network = hosts[0].network
    saved = hosts[4].node.saved_table()
    network.kill(hosts[0])
    again = network.add()
    event = network.until(again, Bootstrapped, again.node.restore(saved, network.clock.now))
    assert event.contacts == 9, "the old self counts as another, until it is found gone"
    assert sorted(event.outcomes.values()).count(Outcome.NO_ANSWER) == 1
    with pytest.raises(ConfigurationError, match="saved routing table"):
        again.node.restore(saved[:-1], network.clock.now)


def test_messages_are_lost_and_look_ups_end_all_the_same() -> None:
    network = Network(loss=0.2)
    hosts = network.grow(40)
    for _ in range(20):
        host = network.random.choice(hosts)
        event = network.until(host, NodesFound, host.node.find_node(CONTENT, network.clock.now))
        assert len(event.nodes) >= 15


def test_contacts_that_died_are_forgotten() -> None:
    hosts = town(8)
    network = hosts[0].network
    for host in hosts[4:]:
        network.kill(host)
    network.run(2000)
    assert sorted(contact.node.host for contact in hosts[1].node.table) == sorted(
        host.address[0] for host in hosts[:4] if host is not hosts[1]
    )


def test_the_same_seed_is_the_same_history() -> None:
    def history() -> list[tuple[bytes, object]]:
        network = Network(7)
        messages: list[tuple[bytes, object]] = []
        network.tap = lambda data, source, destination: messages.append((data, destination))
        host = network.grow(30)[0]
        network.until(host, Stored, host.node.announce(CONTENT, network.clock.now))
        return messages

    assert history() == history()


def test_what_a_caller_gets_wrong_is_refused() -> None:
    network = Network()
    node = network.add().node
    with pytest.raises(ConfigurationError, match="target is 3 bytes"):
        node.find_node(b"abc", 0.0)
    with pytest.raises(ConfigurationError, match="value is 513 bytes"):
        node.put(bytes(513), 0.0)
    with pytest.raises(ConfigurationError, match="sequence is -1"):
        node.put(b"", 0.0, sequence=-1)
    with pytest.raises(ConfigurationError, match="host is 'example', expected an IP address"):
        node.bootstrap([("example", 1)], 0.0)
    for bad in ({"port": 0}, {"port": 1, "k": 21}, {"port": 1, "carrier": "pigeon"}, {"port": 1, "name": b"x" * 65}):
        with pytest.raises(ConfigurationError, match="expected"):
            DHTConfig(**bad)
    with pytest.raises(ConfigurationError, match="exempt"):
        network.add(config=DHTConfig(port=1, exempt=("nowhere",)))
