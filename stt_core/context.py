"""What all sessions of one endpoint share."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stt_core.config import EndpointConfig
from stt_core.crypto import Crypto
from stt_core.errors import STTError
from stt_core.events import AnyEvent
from stt_core.handshake import HandshakeResult
from stt_core.handshake.limits import host_of
from stt_core.links import Links
from stt_core.migration import Surroundings
from stt_core.types import Entropy, Observer, Path, SessionKey

MAX_ADDRESS_TOKENS = 256
"""Address tokens kept for later connects, least recently received dropped first."""


Receiver = Callable[[Sequence[int], list[bytes], Path, float, int, bytes], None]
"""What takes packets that opened: ``Session.receive_opened``."""


class Succession(Protocol):
    """Who decides which session goes on in which: :class:`~stt_core.resuming.Resuming`, as its sessions see it."""

    def on_resumed(self, key: SessionKey, result: HandshakeResult, now: float) -> Receiver | None:
        """A handshake that was asked to resume is done; what takes its packets, where that isn't the session itself."""
        ...

    def on_confirmed(self, key: SessionKey, attempt: SessionKey) -> None:
        """A session that was resumed with its streams knows what its peer holds; ``attempt`` brought its keys."""
        ...

    def release(self, attempt: SessionKey, error: STTError | None) -> None:
        """What was to bring new keys is done with, well where there is no error."""
        ...

    def on_ticket_spent(self, key: SessionKey, attempt: SessionKey, now: float) -> None:
        """The peer has taken another's word: session ``key`` is over, and ``attempt`` should begin afresh."""
        ...

    def on_ticket_due(self, key: SessionKey, now: float) -> None:
        """It is time for another ticket."""
        ...

    def on_silence(self, key: SessionKey, message: str, now: float) -> bool:
        """The peer of a session is gone; True where the session was detached."""
        ...


@dataclass(slots=True)
class Context:
    """One per endpoint; the sessions put events and their own keys into its queues."""

    config: EndpointConfig
    crypto: Crypto
    entropy: Entropy
    observer: Observer | None
    on_established: Callable[[SessionKey, float], None]
    welcome: Callable[[SessionKey, float], None]
    """Gives the peer that connected what it may need another time."""
    surroundings: Surroundings
    links: Links
    succession: Succession
    wall_offset: float = 0.0
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
