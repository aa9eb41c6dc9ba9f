"""A DHT on a node's socket: what joins the two, but for the waits.

Rule: the node's task drives both. What the DHT is told to do leaves with what the node has to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from stt_backends.absent import AbsentSocket
from stt_core.dht import AttachedDht, Dht, DHTEvent
from stt_core.errors import ConfigurationError, StateError
from stt_core.events import AnyEvent

if TYPE_CHECKING:
    from stt_backends.adapter.node import BaseNode


class Lodger(Protocol):
    """What lives on a node besides its sessions."""

    owner: object
    """What the application knows of it."""

    def handle_event(self, event: AnyEvent, now: float) -> None:
        """The endpoint told this."""
        ...

    def end(self) -> None:
        """The node stops."""
        ...


class House:
    """A node, as what takes in a lodger."""

    _lodger: Lodger | None = None

    @property
    def dht(self) -> Any:
        """The ``KademliaDHT`` that was started with this as its ``node``; None where there is none."""
        return None if self._lodger is None else self._lodger.owner

    def take_in(self, lodger: Lodger | None) -> None:
        """Tell ``lodger`` of all that is no news of a stream, until the node stops; None: no longer."""
        self._lodger = lodger
        self.wake_pump()

    def _evict(self) -> None:
        lodger, self._lodger = self._lodger, None
        if lodger is not None:
            lodger.end()

    def wake_pump(self) -> None:
        """Let a turn be taken soon."""
        raise AssertionError("a node overrides this")


class Lodging:
    """``dht`` on a node that was started. It has what a driver and its pump have, for :class:`BaseKademliaDHT`.

    ``owner`` is what the node shows as its ``dht``, ``on_end`` is called once, when either of them stops.

    :raises ConfigurationError: where the node has no UDP socket; StateError where it has a DHT, or is stopped.
    """

    def __init__(
        self,
        node: BaseNode[Any],
        dht: Dht,
        owner: object,
        on_event: Callable[[DHTEvent], None],
        on_end: Callable[[], None],
    ) -> None:
        if node.stopping:
            raise StateError("the node is stopped")
        if isinstance(node.socket, AbsentSocket):
            raise ConfigurationError("node listens by WebSocket alone: a DHT needs transport='udp' or 'both'")
        self.dht = dht
        self.owner = owner
        self.clock = node.clock
        self.address = node.address
        self._node = node
        self._on_end = on_end
        self._over = False
        self._attached = AttachedDht(dht, node.endpoint, on_event, reaches_ipv6=":" in node.address[0])
        self._attached.handle_timer(self.clock())
        node.take_in(self)

    @property
    def counters(self) -> dict[str, int]:
        """What became of the messages that travelled with the sessions."""
        return self._attached.counters

    # --- for the node

    def handle_event(self, event: AnyEvent, now: float) -> None:
        """See :class:`Lodger`."""
        self._attached.handle_event(event, now)

    def end(self) -> None:
        """See :class:`Lodger`."""
        if not self._over:
            self._over = True
            self._on_end()

    # --- for the DHT

    def submit(self) -> None:
        """A command was given: send what it queued."""
        self._attached.flush(self.clock())
        self._node.kick()

    def wake(self) -> None:
        """The DHT stops. No task of its own has to notice."""
        self.end()

    def close(self) -> None:
        """Leave the node, which goes on."""
        self._attached.detach()
        self._node.take_in(None)
        self._node.kick()
