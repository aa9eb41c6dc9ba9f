"""A DHT node under floods: of queries from forged addresses, and of nodes that others are to ask."""

from __future__ import annotations

from collections import Counter

from stt_core.dht import Bootstrapped, DHTNode, NodesFound, id_of
from stt_core.dht.ids import Address
from stt_core.dht.wire import Kind, Query, build_query
from stt_core.types import Path
from tests.dht.network import CheapCrypto, Network
from tests.dht.scenarios import Liar

MALLORY = CheapCrypto().ed25519(b"mallory")
VICTIM: Address = ("66.6.6.6", 53)


def test_a_flood_of_queries_from_everywhere_costs_no_more_than_it_may() -> None:
    """Each is signed by a key of its own and has an address of its own, so no ration of one's is ever used up."""
    host = Network().add()
    for number in range(5000):
        signer = CheapCrypto().ed25519(b"%d" % number)
        query = build_query(Query(Kind.PING, b"12345678", signer.public, addressed=False), signer, None)
        source = (f"{number >> 8 & 255}.{number & 255}.7.7", 9)
        host.node.receive_datagram(query, Path("udp", source), 1000.0 + number / 5000)
        while host.node.poll_transmit(1000.0) is not None:
            pass
    assert host.node.statistics()["answered"] <= 2 * host.node.config.overall_per_second
    assert host.node.statistics()["limited"] >= 3000


class Pointer(Liar):
    """Names twenty made-up nodes at the victim's address, whatever it is asked."""

    def nodes(self, target: bytes) -> tuple[DHTNode, ...]:
        return tuple(DHTNode(id_of(target + b"%d" % number), *VICTIM) for number in range(20))


def test_a_liars_word_sends_the_victim_less_than_three_times_what_the_liar_sent() -> None:
    network = Network()
    hosts = network.grow(10)
    liar = network.add(kind=Pointer)
    for host in hosts:
        network.until(host, Bootstrapped, host.node.bootstrap([liar.address], network.clock.now))
    sent = Counter[Address]()
    said = 0

    def tap(data: bytes, source: Address, destination: Address) -> None:
        nonlocal said
        sent[destination] += len(data)
        said += len(data) if source == liar.address else 0

    network.tap = tap
    for host in hosts:
        for number in range(5):
            network.until(host, NodesFound, host.node.find_node(id_of(b"%d" % number), network.clock.now))
    network.run(60)
    assert 0 < sent[VICTIM] <= 3 * said
