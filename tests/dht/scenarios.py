"""What a DHT has to live through: growth, churn, the dead, liars, Sybils. Seeded; each gives the figures of one run.

``python -m benchmarks dht`` runs the large ones and draws them; tests run small ones.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

from stt_core.dht import Bootstrapped, DHTConfig, DHTNode, NodesFound, ProvidersFound, RecordFound, Stored
from stt_core.dht.ids import Address
from stt_core.dht.wire import SEARCHES, Query, Reply, build_reply, is_reply, parse_query_untrusted
from tests.dht.network import PORT, CheapSigner, Host, Network, nearest


@dataclass(frozen=True)
class LookupFigures:
    """Of several look-ups: means, and the share that was right."""

    success: float
    hops: float
    queries: float
    seconds: float


def growth(nodes: int, *, seed: int = 1, lookups: int = 50) -> LookupFigures:
    """Look-ups by anybody for anything, in a network of so many; right is to find the very 20 that are nearest."""
    network = Network(seed)
    hosts = network.grow(nodes)
    found: list[NodesFound] = []
    right = 0
    spent = 0.0
    for _ in range(lookups):
        host = network.random.choice(hosts)
        target = network.random.randbytes(32)
        began = network.clock.now
        event = network.until(host, NodesFound, host.node.find_node(target, began))
        spent += network.clock.now - began
        found.append(event)
        right += list(event.nodes) == nearest([other for other in hosts if other is not host], target)
    hops = sum(event.hops for event in found) / lookups
    return LookupFigures(right / lookups, hops, sum(event.queries for event in found) / lookups, spent / lookups)


def churn(nodes: int, *, seed: int = 1, share: float = 0.3, minutes: float = 20.0, lookups: int = 200) -> LookupFigures:
    """So much of the network dies in ten minutes, one after the other, and for each a new node joins.

    Meanwhile others look up records of ten minutes' age at most. Right is to get the newest.
    """
    network = Network(seed, loss=0.01)
    hosts = network.grow(nodes)
    between = 600.0 / (share * nodes)
    deaths = int(minutes * 60 / between)
    every = max(1, deaths // lookups)
    put: list[tuple[float, bytes, bytes]] = []
    right = made = 0
    queries = network.clock.now
    for number in range(deaths):
        network.kill(hosts.pop(network.random.randrange(len(hosts))))
        newcomer = network.add()
        friends = [host.address for host in network.random.sample(hosts, 3)]
        newcomer.node.bootstrap(friends, network.clock.now)
        newcomer.turn()
        hosts.append(newcomer)
        network.run(between)
        if number % every:
            continue
        owner = network.random.choice(hosts[:-20])
        value = b"%d" % number
        handle, target = owner.node.put(value, network.clock.now, salt=value)
        network.until(owner, Stored, handle)
        put.append((network.clock.now, target, value))
        put = [each for each in put if each[0] > network.clock.now - 600]
        _, target, value = network.random.choice(put)
        reader = network.random.choice(hosts[:-20])
        event = network.until(reader, RecordFound, reader.node.get(target, network.clock.now))
        made += 1
        right += event.record is not None and event.record.value == value
    return LookupFigures(right / made, 0.0, 0.0, network.clock.now - queries)


class Liar(Host):
    """Answers each search with twenty nodes that aren't there, all of them very near to what is looked for."""

    def receive(self, data: bytes, source: Address) -> None:
        if is_reply(data) or (query := parse_query_untrusted(data)).kind not in SEARCHES:
            super().receive(data, source)
            return
        self.answer(query, data, source, self.nodes(query.target))

    def nodes(self, target: bytes) -> tuple[DHTNode, ...]:
        rng = self.network.random
        places = [".".join(map(str, (*rng.choices(range(80, 200), k=3), 9))) for _ in range(20)]
        return tuple(DHTNode(target[:4] + rng.randbytes(28), place, PORT) for place in places)

    def answer(self, query: Query, data: bytes, source: Address, nodes: tuple[DHTNode, ...]) -> None:
        asker = blake2b(query.public, digest_size=32).digest()
        signer = self.node._signer
        reply = Reply(query.kind, query.transaction, signer.public, source, token=b"liarliar", nodes=nodes)
        self.network.carry(build_reply(reply, signer, asker, data), self.address, source)


class Sybil(Liar):
    """Answers each search with others of its kind, and keeps nothing of what it is given."""

    gang: tuple[DHTNode, ...] = ()

    def nodes(self, target: bytes) -> tuple[DHTNode, ...]:
        return tuple(self.network.random.sample(self.gang, 20))


def bad_company(nodes: int, *, dead: float, lying: float, seed: int = 1, lookups: int = 50) -> LookupFigures:
    """So many are dead or lie, and everybody's tables hold them as they hold others. Right is to find the nearest that
    is honest and alive, in spite of them."""
    network = Network(seed)
    honest = [network.add() for _ in range(nodes - int(nodes * dead) - int(nodes * lying))]
    corpses = [network.add() for _ in range(int(nodes * dead))]
    liars = [network.add(kind=Liar) for _ in range(int(nodes * lying))]
    everybody = [*honest, *corpses, *liars]
    network.random.shuffle(everybody)
    network.introduce(honest, everybody)
    for corpse in corpses:
        network.kill(corpse)
    right = 0
    queries = 0
    began = network.clock.now
    for _ in range(lookups):
        host = network.random.choice(honest)
        target = network.random.randbytes(32)
        event = network.until(host, NodesFound, host.node.find_node(target, network.clock.now))
        queries += event.queries
        right += nearest([other for other in honest if other is not host], target, 1)[0] in event.nodes
    return LookupFigures(right / lookups, 0.0, queries / lookups, (network.clock.now - began) / lookups)


def ground_keys(targets: list[bytes], count: int, bits: int, rng: Random) -> dict[bytes, list[bytes]]:
    """``count`` seeds for each target whose ids share ``bits`` bits with it: an attacker's work, done for real."""
    wanted = {int.from_bytes(target[:4], "big") >> 32 - bits: target for target in targets}
    found: defaultdict[bytes, list[bytes]] = defaultdict(list)
    missing = set(wanted.values())
    while missing:
        seed = rng.randbytes(32)
        node_id = blake2b(CheapSigner(seed).public, digest_size=32).digest()
        target = wanted.get(int.from_bytes(node_id[:4], "big") >> 32 - bits)
        if target is not None and len(found[target]) < count:
            found[target].append(seed)
            if len(found[target]) == count:
                missing.discard(target)
    return found


def sybils(*, cap: bool, honest: int = 160, attackers: int = 40, networks: int = 20, seed: int = 1) -> float:
    """The share of contents that are found although Sybils in two /24s sit around them, nearer than anybody honest."""
    rng = Random(seed)
    targets = [rng.randbytes(32) for _ in range(networks)]
    seeds = ground_keys(targets, attackers, 12, rng)
    found = 0
    for number, target in enumerate(targets):
        network = Network(seed * 1000 + number)
        config = DHTConfig(port=PORT, per_prefix=2 if cap else 10_000)
        hosts = [network.add(config=config) for _ in range(honest)]
        gang = [
            network.add((f"66.6.{index % 2}.{index + 1}", PORT), node_seed=each, kind=Sybil)
            for index, each in enumerate(seeds[target])
        ]
        for sybil in gang:
            assert isinstance(sybil, Sybil)
            sybil.gang = tuple(other.contact for other in gang)
        everybody = [*gang, *hosts]
        network.introduce(hosts, everybody)
        provider, seeker = network.random.sample(hosts, 2)
        network.until(provider, Stored, provider.node.announce(target, network.clock.now))
        event = network.until(seeker, ProvidersFound, seeker.node.find_providers(target, network.clock.now))
        found += provider.contact in event.providers
    return found / networks


def joining(nodes: int, *, seed: int = 1) -> LookupFigures:
    """Nodes that join one after the other, knowing three of those before them; then look-ups as in :func:`growth`."""
    network = Network(seed)
    hosts = [network.add()]
    for _ in range(nodes - 1):
        host = network.add()
        friends = [each.address for each in network.random.sample(hosts, min(3, len(hosts)))]
        network.until(host, Bootstrapped, host.node.bootstrap(friends, network.clock.now))
        hosts.append(host)
    right = queries = hops = 0
    for _ in range(50):
        host = network.random.choice(hosts)
        target = network.random.randbytes(32)
        event = network.until(host, NodesFound, host.node.find_node(target, network.clock.now))
        right += list(event.nodes) == nearest([other for other in hosts if other is not host], target)
        queries += event.queries
        hops += event.hops
    return LookupFigures(right / 50, hops / 50, queries / 50, 0.0)
