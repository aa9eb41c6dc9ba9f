"""The ways a session's packets travel: which one is in use, and proving that a new one is really the peer's.

Rule: an address is believed only after a random challenge sent to it came back under the session's keys, and until
then no more than three times what it sent goes there (RFC 9000 sections 8.2 and 9.3).
"""

from __future__ import annotations

from typing import NamedTuple

from stt_core.config import MIN_DATAGRAM
from stt_core.types import Entropy, Path

MAX_CANDIDATES = 4
"""Paths under validation at once; a peer that hops faster than it answers loses the oldest."""
MAX_RESPONSES = 8
"""Answers to challenges that wait to be sent."""
AMPLIFICATION = 3
TRIES = 3
TRANSPORT_CODES = {"udp": 0, "websocket": 1}
"""How PATH_RESPONSE names the transport a challenge came on."""


class Probe(NamedTuple):
    """A packet to send on one particular path: ``challenge`` or ``response`` is set; at most ``limit`` bytes."""

    path: Path
    challenge: bytes | None
    response: bytes | None
    limit: int


class _Candidate:
    __slots__ = ("challenge", "due_at", "received", "sent", "tries")

    def __init__(self, challenge: bytes, now: float) -> None:
        self.challenge = challenge
        self.received = 0
        self.sent = 0
        self.tries = 0
        self.due_at = now


class Paths:
    """One session's paths. ``active`` is where traffic goes."""

    __slots__ = ("_candidates", "_entropy", "_previous", "_responses", "active", "lost", "stalled")

    def __init__(self, path: Path, entropy: Entropy) -> None:
        self.active = path
        self.stalled = False
        """Whether nothing may leave on the active path for now: it is a reliable one, and full or gone."""
        self.lost = False
        """Whether it is gone for good."""
        self._entropy = entropy
        self._previous: Path | None = None
        self._candidates: dict[Path, _Candidate] = {}
        """Oldest first."""
        self._responses: list[tuple[Path, bytes, int]] = []

    @property
    def busy(self) -> bool:
        """Whether an answer waits or a path is under validation."""
        return bool(self._responses or self._candidates)

    def on_packet(self, path: Path, size: int, newest: bool, now: float) -> bool:
        """Note an authenticated run of ``size`` bytes from a path that isn't the active one.

        ``newest`` tells whether it held the highest packet number so far and more than probing frames. Returns True
        where traffic moved at once, because the path was in use before (RFC 9000 section 9.3.3).
        """
        candidate = self._candidates.get(path)
        if candidate is not None:
            candidate.received += size
        if not newest:
            return False
        if path == self._previous:
            self._switch(path)
            # Only once: the path that was left for it must be validated anew, or whoever copies packets to there
            # would have the traffic back with every copy that wins a race.
            self._previous = None
            return True
        if candidate is None:
            candidate = self._challenge(path, now)
            candidate.received = size
            self._challenge(self.active, now).received = MIN_DATAGRAM
        return False

    def _challenge(self, path: Path, now: float) -> _Candidate:
        candidate = self._candidates.get(path)
        if candidate is None:
            while len(self._candidates) >= MAX_CANDIDATES:
                del self._candidates[next(iter(self._candidates))]
            candidate = self._candidates[path] = _Candidate(self._entropy(8), now)
        return candidate

    def on_challenge(self, data: bytes, path: Path, size: int) -> None:
        """The peer probes ``path`` with a packet of ``size`` bytes: answer there, where the challenge came from."""
        if len(self._responses) < MAX_RESPONSES:
            self._responses.append((path, data, size))

    def on_response(self, data: bytes, transport: int) -> Path | None:
        """An answer arrived; returns the path that traffic moves to, if it does.

        The answer names the transport the challenge came on, so that nobody can carry it over from another one.
        """
        for path, candidate in self._candidates.items():
            if candidate.challenge == data and candidate.tries and TRANSPORT_CODES.get(path.transport) == transport:
                del self._candidates[path]
                if path == self.active:
                    return None
                self._switch(path)
                return path
        return None

    def on_closed(self, path: Path) -> bool:
        """A reliable path is gone; True where it was the active one."""
        self._candidates.pop(path, None)
        self._responses = [response for response in self._responses if response[0] != path]
        if self._previous == path:
            self._previous = None
        if self.active != path:
            return False
        self.stalled = self.lost = True
        return True

    def _switch(self, path: Path) -> None:
        self._previous, self.active = None if self.lost else self.active, path
        self.stalled = self.lost = False
        self._candidates.pop(path, None)

    def poll_probe(self, now: float, pto: float) -> Probe | None:
        """The next packet that must go on a path of its own, or None."""
        if self._responses:
            path, data, size = self._responses.pop(0)
            return Probe(path, None, data, min(MIN_DATAGRAM, AMPLIFICATION * size))
        for path, candidate in self._candidates.items():
            if candidate.due_at <= now:
                limit = min(MIN_DATAGRAM, AMPLIFICATION * candidate.received - candidate.sent)
                candidate.tries += 1
                candidate.due_at = now + pto * 2 ** (candidate.tries - 1)
                if limit >= MIN_PROBE:
                    candidate.sent += limit
                    return Probe(path, candidate.challenge, None, limit)
        return None

    def next_timer(self) -> float | None:
        """When a challenge should be (re)sent or given up."""
        return min((candidate.due_at for candidate in self._candidates.values()), default=None)

    def handle_timer(self, now: float) -> None:
        """Give up candidates that had their tries."""
        for path in [p for p, c in self._candidates.items() if c.tries >= TRIES and c.due_at <= now]:
            del self._candidates[path]


MIN_PROBE = 13 + 16 + 10
"""The smallest protected packet that holds a PATH_CHALLENGE or a PATH_RESPONSE."""


def same_host(one: Path, other: Path) -> bool:
    """Whether two paths differ by the port alone: then congestion state and RTT still describe them."""
    return one.transport == other.transport and _host(one) == _host(other)


def _host(path: Path) -> object:
    return path.address[0] if isinstance(path.address, tuple) and path.address else path.address
