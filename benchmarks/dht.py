"""The DHT in large networks, in virtual time: how far a look-up goes, and what it survives. See docs/dht.md."""

from __future__ import annotations

from math import log2

from benchmarks.rows import Goal, Row
from stt_core.dht import NodesFound
from stt_core.dht.ids import Address, as_number
from stt_core.dht.wire import is_reply, parse_reply_untrusted
from tests.dht import scenarios
from tests.dht.network import Network

SIZES = (50, 100, 200, 500, 1000, 2000, 5000)
HOPS = "hops to the nearest node"


def figures(*, quick: bool) -> list[Row]:
    """What docs/dht.md tells, measured."""
    sizes = SIZES[:3] if quick else SIZES
    few = 100 if quick else 1000
    rows = []
    for size in sizes:
        grown = scenarios.growth(size, lookups=20 if quick else 100)
        rows.append(Row(f"{HOPS}, of {size:,}", "hops", 0.0, {"look-up": [grown.hops]}, at=size))
        rows.append(Row(f"queries, among {size:,}", "queries", 0.0, {"look-up": [grown.queries]}))
        rows.append(_share(f"the 20 nearest found, of {size:,}", grown.success, 0.99))
    minutes = 5.0 if quick else 30.0
    rows += [
        _share("30 % replaced every ten minutes", scenarios.churn(few // 2, minutes=minutes).success, 0.99),
        _share("20 % dead", scenarios.bad_company(few, dead=0.2, lying=0.0).success, 0.99),
        _share("20 % lying", scenarios.bad_company(few, dead=0.0, lying=0.2).success, 0.99),
        _share("10 % dead, 10 % lying", scenarios.bad_company(few, dead=0.1, lying=0.1).success, 0.99),
        _share("40 Sybils of 200, with the limit by prefix", scenarios.sybils(cap=True), 0.95),
        _share("40 Sybils of 200, without it", scenarios.sybils(cap=False), 0.1, more=False),
    ]
    return rows


def _share(title: str, success: float, limit: float, *, more: bool = True) -> Row:
    goal = Goal("look-ups", 100 * limit, more=more)
    return Row(f"look-ups that succeed: {title}", "%", 0.0, {"look-ups": [100 * success]}, [goal])


def one_lookup(nodes: int = 1000, seed: int = 5) -> list[tuple[int, float, int | None, bool]]:
    """Everybody heard of in one look-up: depth, bits of distance to the target, whose word (by index), and whether it
    is in the result."""
    network = Network(seed)
    hosts = network.grow(nodes)
    host = hosts[0]
    target = network.random.randbytes(32)
    named: dict[bytes, tuple[int, bytes | None]] = {}
    for node in host.node.table.closest(target, 20):
        named[node.node_id] = (0, None)

    def listen(data: bytes, source: Address, destination: Address) -> None:
        if destination == host.address and is_reply(data):
            voucher = network.hosts[source].node.node_id
            for node in parse_reply_untrusted(data).nodes:
                if voucher in named:
                    named.setdefault(node.node_id, (named[voucher][0] + 1, voucher))

    network.tap = listen
    found = network.until(host, NodesFound, host.node.find_node(target, network.clock.now))
    result = {node.node_id for node in found.nodes}
    index = {node_id: number for number, node_id in enumerate(named)}
    return [
        (
            depth,
            log2(as_number(node_id) ^ as_number(target)),
            None if voucher is None else index[voucher],
            node_id in result,
        )
        for node_id, (depth, voucher) in named.items()
    ]
