"""What all sessions of one endpoint share."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from stt_core.budget import RemoteBudget
from stt_core.config import EndpointConfig
from stt_core.crypto import Crypto
from stt_core.events import AnyEvent
from stt_core.handshake.limits import host_of
from stt_core.links import Links
from stt_core.migration import Surroundings
from stt_core.types import Entropy, Observer, Path, SessionKey

MAX_ADDRESS_TOKENS = 256
"""Address tokens kept for later connects, least recently received dropped first."""


@dataclass(slots=True)
class Context:
    """One per endpoint; the sessions put events and their own keys into its queues."""

    config: EndpointConfig
    crypto: Crypto
    entropy: Entropy
    observer: Observer | None
    budget_for: Callable[[SessionKey, Path, int], RemoteBudget]
    on_established: Callable[[SessionKey, float], None]
    surroundings: Surroundings
    links: Links
    events: deque[AnyEvent] = field(default_factory=deque)
    ready: deque[SessionKey] = field(default_factory=deque)
    address_tokens: OrderedDict[Path, bytes] = field(default_factory=OrderedDict, repr=False)
    session_ids: set[bytes] = field(default_factory=set)

    def claim(self, session_id: bytes) -> bool:
        """Give a new session its id; False where a live one has it already, by the will of who chose a nonce last."""
        if session_id in self.session_ids:
            return False
        self.session_ids.add(session_id)
        return True

    def address_token(self, path: Path) -> bytes:
        """What proves our address there, from an earlier session; empty where there was none."""
        return self.address_tokens.get(_place(path), b"")

    def keep_address_token(self, path: Path, token: bytes) -> None:
        """Keep what proves our address there, for the next connect."""
        place = _place(path)
        self.address_tokens[place] = token
        self.address_tokens.move_to_end(place)
        if len(self.address_tokens) > MAX_ADDRESS_TOKENS:
            self.address_tokens.popitem(last=False)


def _place(path: Path) -> Path:
    """Where a token is of use: a connection's name never comes again, but its host does."""
    return Path(path.transport, host_of(path.address)) if path.reliable else path
