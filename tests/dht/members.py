"""Endpoints with a DHT on them, on a simulated network."""

from __future__ import annotations

from typing import Any

from stt_core.dht import AttachedDht, Bootstrapped, Dht, DHTConfig, DHTEvent, Outcome
from stt_core.events import AnyEvent
from tests.core.pair import Address, End, Net, entropy_of
from tests.dht.network import CheapCrypto


class Member(End):
    """An endpoint with a DHT on it."""

    def __init__(self, net: Net, number: int, *, carrier: str = "session", v6: bool = False, **changes: Any) -> None:
        super().__init__(f"member {number}", (f"20.{number >> 8}.{number & 255}.1", 4000), **changes)
        config: dict[str, Any] = {"carrier": carrier, "shares_socket": True, "rpc_timeout": 3.0}
        self.dht = Dht(
            DHTConfig(port=4000, **config),
            crypto=CheapCrypto(),
            entropy=entropy_of(f"dht {number}"),
            node_seed=number.to_bytes(32, "big"),
            wall_offset=1.7e9,
        )
        self.told_of: list[DHTEvent] = []
        self.attached = AttachedDht(self.dht, self.endpoint, self.told_of.append, reaches_ipv6=v6)
        self.events: list[AnyEvent] = _PassedOn(self.attached, net)
        self.net = net
        net.ends.append(self)

    @property
    def sessions(self) -> int:
        return len(self.endpoint.sessions())

    def run(self, kind: type[Any], handle: int) -> Any:
        """What that command ends with."""
        self.attached.flush(self.net.now)
        found: list[Any] = []

        def over() -> bool:
            found[:] = [each for each in self.told_of if isinstance(each, kind) and each.handle == handle]
            return bool(found)

        self.net.run_until(over)
        return found[0]

    def join(self, *friends: Address) -> Any:
        return self.run(Bootstrapped, self.dht.bootstrap(friends, self.net.now))


class _PassedOn(list[AnyEvent]):
    """What an endpoint told, kept and passed on to its DHT."""

    def __init__(self, attached: AttachedDht, net: Net) -> None:
        super().__init__()
        self._attached, self._net = attached, net

    def append(self, event: AnyEvent) -> None:
        super().append(event)
        self._attached.handle_event(event, self._net.now)


def town(count: int, **settings: Any) -> tuple[Net, list[Member]]:
    """Members that joined by way of the first."""
    net = Net()
    members = [Member(net, number, **settings) for number in range(count)]
    for member in members[1:]:
        assert member.join(members[0].address).outcomes == {members[0].address: Outcome.ANSWERED}
    return net, members
