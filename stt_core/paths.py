"""The ways a session's packets travel: which one is in use, and proving that a new one is really the peer's.

Rule: an address is believed only after a random challenge sent to it came back under the session's keys, and until
then no more than three times what it sent goes there (RFC 9000 sections 8.2 and 9.3). Which path is used is decided
here and nowhere else; what follows from a change is :mod:`~stt_core.migration`'s affair.

A path changes in one of two ways. The peer speaks from elsewhere, by its own will or a NAT's: that is followed, once
the new place has answered, and undone if the peer goes on speaking from the old one. Or this side was told to move:
then it does so once the new path has answered, and holds to it until the peer has followed.
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
PATIENCE = 3.0
"""Seconds for which a path has to answer, at least: three probe timeouts of one whose round trip nobody measured."""
REMEMBERED = 10.0
"""Seconds for which a path that answered, but isn't used, need not prove itself again."""
TRANSPORT_CODES = {"udp": 0, "websocket": 1}
"""How PATH_RESPONSE names the transport a challenge came on."""


class Probe(NamedTuple):
    """A packet to send on one particular path: ``challenge`` or ``response`` is set; at most ``limit`` bytes."""

    path: Path
    challenge: bytes | None
    response: bytes | None
    limit: int


class Answer(NamedTuple):
    """What an answer to a challenge led to: ``path`` has proved itself; ``moved`` tells that traffic goes there now."""

    path: Path
    moved: bool


class _Candidate:
    """A path under validation, or one that answered a small challenge and has yet to answer one of full size."""

    __slots__ = (
        "began", "challenge", "chosen", "deliberate", "due_at", "full", "moves", "received", "sent", "tries", "trusted",
        "validated",
    )  # fmt: skip

    def __init__(self, challenge: bytes, now: float) -> None:
        self.challenge = challenge
        self.began = now
        self.received = 0
        self.sent = 0
        self.tries = 0
        self.due_at = now
        self.moves = False
        """Whether traffic is to go there as soon as it answers."""
        self.deliberate = False
        """Whether the peer chose to be there."""
        self.chosen = False
        """Whether this side was told to go there."""
        self.trusted = False
        """Whether it may be sent more than three times what came from there: it has answered, or was chosen."""
        self.full = False
        """Whether the challenge left in a datagram of full size."""
        self.validated = False
        """Whether it answered one of full size, and nothing more is asked."""


class Paths:
    """One session's paths. ``active`` is where traffic goes; ``leads`` says whose choice counts where both choose."""

    __slots__ = (
        "_candidates", "_entropy", "_left", "_previous", "_responses", "active", "holding", "leads", "lost", "stalled",
    )  # fmt: skip

    def __init__(self, path: Path, entropy: Entropy, *, leads: bool = True) -> None:
        self.active = path
        self.leads = leads
        self.stalled = False
        """Whether nothing may leave on the active path for now: it is a reliable one, and full or gone."""
        self.lost = False
        """Whether it is gone for good."""
        self.holding = False
        """Whether this side chose the active path, and the peer has not yet followed."""
        self._entropy = entropy
        self._previous: Path | None = None
        """The path that was left because the peer spoke from elsewhere."""
        self._left: Path | None = None
        """The path that was left by choice, until the peer has left it, too."""
        self._candidates: dict[Path, _Candidate] = {}
        """Oldest first."""
        self._responses: list[tuple[Path, bytes, int]] = []

    @property
    def busy(self) -> bool:
        """Whether an answer waits or a path is under validation."""
        return bool(self._responses or self._candidates)

    @property
    def known(self) -> set[Path]:
        """Those that something may still be sent on."""
        left = (path for path in (self._previous, self._left) if path is not None)
        return {self.active, *self._candidates, *left, *(path for path, _, _ in self._responses)}

    @property
    def destination(self) -> Path | None:
        """Where this side was told to go, while that has yet to answer."""
        on_the_way = (path for path, it in self._candidates.items() if it.chosen and it.moves and path != self.active)
        return next(on_the_way, None)

    # --- what happened

    def on_packet(self, path: Path, size: int, newest: bool, now: float, *, deliberate: bool = False) -> bool:
        """Note an authenticated run of ``size`` bytes from a path that isn't the active one.

        ``newest`` tells whether it held the highest packet number so far and more than probing frames, ``deliberate``
        that the peer uses another connection id there, which no NAT does. Returns True where traffic moved at once,
        because the path proved itself before (RFC 9000 section 9.3.3).
        """
        candidate = self._candidates.get(path)
        if candidate is not None:
            candidate.received += size
        if not newest or (self.holding and (self.leads or path == self._left)):
            return False
        if path == self._previous:
            # Only once: the path that is left for it must be validated anew, or whoever copies packets to there
            # would have the traffic back with every copy that wins a race.
            self._candidates.pop(self.active, None)
            self._switch(path)
            self._previous = None
            return True
        if candidate is not None and candidate.validated:
            self._follow(path, deliberate)
            return True
        if candidate is None:
            candidate = self._challenge(path, now)
            candidate.received = size
        candidate.moves = True
        candidate.deliberate = deliberate
        # Somebody else may have copied the packet and been faster: then the peer is where it was, and will say so.
        if not deliberate and not self.lost and self.active not in self._candidates:
            self._challenge(self.active, now).received = MIN_DATAGRAM
        return False

    def on_followed(self) -> None:
        """The peer speaks on the active path."""
        self.holding = False
        self._left = None

    def on_silence(self) -> None:
        """Nothing is acknowledged any more: where the peer speaks, there it is."""
        self.holding = False

    def on_challenge(self, data: bytes, path: Path, size: int, now: float) -> None:
        """The peer probes ``path`` with a packet of ``size`` bytes: answer there, where the challenge came from, and
        ask back, so that traffic can follow at once when the peer moves."""
        if len(self._responses) < MAX_RESPONSES:
            self._responses.append((path, data, size))
        if path != self.active and path not in self._candidates:
            self._challenge(path, now).received = size

    def on_response(self, data: bytes, transport: int, now: float) -> Answer | None:
        """An answer arrived. None where it answers nothing that was asked.

        It names the transport the challenge came on, so that nobody can carry it over from another one.
        """
        for path, candidate in self._candidates.items():
            if candidate.challenge == data and candidate.tries and TRANSPORT_CODES.get(path.transport) == transport:
                break
        else:
            return None
        if not candidate.full:
            # It is there; whether it carries datagrams of full size is to be seen (RFC 9000 section 8.2.1).
            candidate.trusted = True
            candidate.challenge = self._entropy(8)
            candidate.tries = 0
            candidate.began = candidate.due_at = now
        elif path == self.active:
            del self._candidates[path]
        else:
            candidate.validated = True
            candidate.due_at = now + REMEMBERED
        if path == self.active or not candidate.moves:
            return Answer(path, False)
        if candidate.chosen:
            self._choose(path)
        else:
            self._follow(path, candidate.deliberate)
        return Answer(path, True)

    def on_closed(self, path: Path) -> bool:
        """A reliable path is gone; True where it was the active one."""
        self._candidates.pop(path, None)
        self._responses = [response for response in self._responses if response[0] != path]
        if self._previous == path:
            self._previous = None
        if self._left == path:
            self._left = None
        if self.active != path:
            return False
        self.stalled = self.lost = True
        self.holding = False
        return True

    def migrate(self, path: Path, now: float) -> None:
        """Go to ``path`` as soon as it answers. It is the application's choice, and so not limited."""
        self._candidates.pop(path, None)
        for other in self._candidates.values():
            other.moves = other.moves and not other.chosen
        candidate = self._challenge(path, now)
        candidate.moves = candidate.chosen = candidate.trusted = True

    def stay(self) -> Path | None:
        """Do not go where this side was told to go; returns where that was."""
        path = self.destination
        if path is not None:
            del self._candidates[path]
        return path

    def _challenge(self, path: Path, now: float) -> _Candidate:
        candidate = self._candidates.get(path)
        if candidate is None:
            while len(self._candidates) >= MAX_CANDIDATES:
                del self._candidates[self._least_wanted()]
            candidate = self._candidates[path] = _Candidate(self._entropy(8), now)
        return candidate

    def _least_wanted(self) -> Path:
        """The oldest one that nobody here chose."""
        return next((path for path, it in self._candidates.items() if not it.chosen), next(iter(self._candidates)))

    # --- changes

    def _follow(self, path: Path, deliberate: bool) -> None:
        """The peer has moved."""
        self.on_followed()
        self._switch(path)
        if deliberate:
            self._previous = None

    def _choose(self, path: Path) -> None:
        """This side moves: packets of the peer's from the path that is left are no reason to go back."""
        self._left = None if self.lost else self.active
        self._switch(path)
        self._previous = None
        self.holding = True

    def _switch(self, path: Path) -> None:
        self._previous, self.active = None if self.lost else self.active, path
        self.stalled = self.lost = False
        candidate = self._candidates.get(path)
        if candidate is not None and candidate.validated:
            del self._candidates[path]

    # --- what leaves

    def poll_probe(self, now: float, pto: float) -> Probe | None:
        """The next packet that must go on a path of its own, or None."""
        if self._responses:
            path, data, size = self._responses.pop(0)
            return Probe(path, None, data, min(MIN_DATAGRAM, AMPLIFICATION * size))
        for path, candidate in self._candidates.items():
            if candidate.due_at <= now and not candidate.validated and candidate.tries < TRIES:
                limit = MIN_DATAGRAM
                if not candidate.trusted:
                    limit = min(limit, AMPLIFICATION * candidate.received - candidate.sent)
                candidate.full = candidate.full or limit == MIN_DATAGRAM
                candidate.tries += 1
                candidate.due_at = now + pto * 2 ** (candidate.tries - 1)
                if candidate.tries == TRIES:  # of a new path's round trip nothing is known (RFC 9000 section 8.2.4)
                    candidate.due_at = max(candidate.due_at, candidate.began + PATIENCE)
                if limit >= MIN_PROBE:
                    candidate.sent += limit
                    return Probe(path, candidate.challenge, None, limit)
        return None

    def next_timer(self) -> float | None:
        """When a challenge should be (re)sent or given up."""
        return min((candidate.due_at for candidate in self._candidates.values()), default=None)

    def handle_timer(self, now: float) -> list[Path]:
        """Give up what had its tries, and forget what was proved long ago. Returns those given up that matter: the one
        in use, and one that was chosen."""
        over = [
            (path, candidate)
            for path, candidate in self._candidates.items()
            if candidate.due_at <= now and (candidate.validated or candidate.tries >= TRIES)
        ]
        for path, _ in over:
            del self._candidates[path]
        return [path for path, it in over if not it.validated and (it.chosen or (path == self.active and it.trusted))]

    def retreat(self, now: float) -> None:
        """The active path doesn't carry datagrams of full size: ask the one that was left for it whether it still does,
        and go back then."""
        if self._previous is not None:
            candidate = self._challenge(self._previous, now)
            candidate.moves = candidate.trusted = True


MIN_PROBE = 13 + 16 + 10
"""The smallest protected packet that holds a PATH_CHALLENGE or a PATH_RESPONSE."""


def same_host(one: Path, other: Path) -> bool:
    """Whether two paths differ by the port alone: then congestion state and RTT still describe them."""
    return one.transport == other.transport == "udp" and _host(one) == _host(other)


def _host(path: Path) -> object:
    return path.address[0] if isinstance(path.address, tuple) and path.address else path.address
