"""Sessions by the content they were used for (chapter, "Content-Affinity Session Pooling").

Each session has a **centre**: the first four bytes of the hash it was added with. A look-up goes to the session whose
centre is nearest, if that is near enough.

**Rebalancing**, the rule. Each look-up that a session serves moves its centre: a bit of the centre is what most of the
served hashes have there, where the latest counts 1, the one before it 15/16 of that, and so on, and the hash it was
added with counts as if it had been served for ever. So eleven look-ups in a row turn a bit. The bitwise majority is the
point with the least total distance to what was served, by XOR and by Hamming distance alike, for both add up bit by
bit. And where the pool is full, a session that served none of the last :data:`SHARE_WINDOW` look-ups moves to where one
misses: the traffic it was for has gone elsewhere.

**No peer takes it all.** A peer that served half of the last :data:`SHARE_WINDOW` look-ups is passed over while another
peer has a session near enough. Else a peer that claims to be near everything would see everything.

Rule: no clock. Everything here is counted in look-ups.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, get_args, runtime_checkable

from stt_core.affinity.columns import PREFIX_BITS, Columns
from stt_core.config import check_bytes
from stt_core.errors import ConfigurationError, PoolMissError, StateError
from stt_core.state import SessionState

Metric = Literal["xor", "hamming"]
"""How far two hashes are apart: their XOR as a number (Kademlia's), or the number of bits they differ in."""

SHARE_WINDOW: Final = 256
"""Look-ups over which one peer's share is counted."""
GRACE: Final = 16
"""Look-ups that one peer may serve before its share counts: half of the first two is a matter of chance."""
DECAY: Final = 15 / 16
DEFAULT_DISTANCE: Final[dict[Metric, int]] = {"xor": 2**28 - 1, "hamming": 8}
"""By XOR: the first four bits agree. By Hamming distance: 8 of 32 bits, as 4 of 1000 unrelated pairs have by chance."""
MAX_SESSIONS: Final = 65_536

_HELD: Final = 1 / (1 - DECAY)  # the weight of a hash that was served for ever
_SIGNS: Final = tuple(tuple(1.0 if byte >> bit & 1 else -1.0 for bit in reversed(range(8))) for byte in range(256))
_TAIL_BITS: Final = 32
_TAIL: Final = 2**_TAIL_BITS - 1


class PooledSession(Protocol):
    """What the pool asks of a session; the core's and the adapters' sessions have it."""

    @property
    def state(self) -> SessionState:
        """Only an established session is handed out; any other leaves the pool."""
        ...

    @property
    def peer_node_id(self) -> bytes:
        """The label of the peer."""
        ...

    @property
    def peer_identity_key(self) -> bytes | None:
        """The peer's proven key, where it has one: then this says whose session it is."""
        ...


@runtime_checkable
class TellsItsEnd(Protocol):
    """A session that says when it is over or detached; the adapters' do. Of any other, look-ups find out."""

    def add_end_callback(self, callback: Callable[[Any], None]) -> None:
        """Call ``callback(session)`` then."""
        ...

    def remove_end_callback(self, callback: Callable[[Any], None]) -> None:
        """Don't, after all."""
        ...


class ProviderSource(Protocol):
    """What the pool asks of a DHT: whom it knows already to provide content, without asking the network."""

    def known_providers(self, content_hash: bytes) -> Sequence[object]:
        """Addresses to connect to, as ``find_providers`` gives them."""
        ...


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """What a pool did so far. ``sessions`` is how many it holds now."""

    sessions: int
    lookups: int
    """All of them: ``hits`` and ``misses``."""
    hits: int
    misses: int
    diverted: int
    """Hits that went to another peer than the nearest, which had its share."""
    recentred: int
    """How often a centre moved by what was served."""
    rehomed: int
    """How often a session without traffic moved to where a look-up missed."""
    evicted: int
    """Sessions that made room for another."""
    departed: int
    """Sessions that closed."""


S = TypeVar("S", bound=PooledSession)


class _Member(Generic[S]):
    """A session in the pool. Its point is the centre, then the next four bytes of the hash it was added with."""

    __slots__ = ("peer", "point", "session", "slot", "used", "weights")

    def __init__(self, session: S, slot: int, point: int, used: int) -> None:
        self.session = session
        self.slot = slot
        self.point = point
        self.used = used
        self.peer: Hashable = session.peer_identity_key or session.peer_node_id
        self.weights = [_HELD * sign for sign in _signs(point)]

    def drawn_to(self, target: int) -> int:
        """The point this one becomes by serving ``target``."""
        weights = self.weights = [w * DECAY + sign for w, sign in zip(self.weights, _signs(target), strict=True)]
        point = self.point
        differing = (point ^ target) >> _TAIL_BITS
        while differing:  # what agrees has only been confirmed
            bit = differing & -differing
            differing ^= bit
            if (weights[PREFIX_BITS - bit.bit_length()] > 0) is bool(target >> _TAIL_BITS & bit):
                point ^= bit << _TAIL_BITS
        return point


class ContentAffinityPool(Generic[S]):
    """At most ``max_pool_size`` sessions, and which of them to ask for what.

    ``metric`` says what near means, and ``max_distance`` how near is near enough: less than 2^32 by XOR of the first
    four bytes, at most 32 by Hamming distance; by default 2^28 - 1, and 8. ``dht`` is asked whom to connect to where
    the pool misses; it may be None. A look-up takes about 10 µs, with one session or a thousand.

    :raises ConfigurationError: on a setting out of range.
    """

    def __init__(
        self,
        dht: ProviderSource | None = None,
        max_pool_size: int = 100,
        *,
        metric: Metric = "xor",
        max_distance: int | None = None,
    ) -> None:
        if not 1 <= max_pool_size <= MAX_SESSIONS:
            raise ConfigurationError(f"max_pool_size is {max_pool_size}, expected 1 to {MAX_SESSIONS} sessions")
        if metric not in get_args(Metric):
            raise ConfigurationError(f"metric is {metric!r}, expected {' or '.join(get_args(Metric))}")
        most = 2**PREFIX_BITS - 1 if metric == "xor" else PREFIX_BITS
        if max_distance is not None and not 0 <= max_distance <= most:
            raise ConfigurationError(f"max_distance is {max_distance}, expected 0 to {most} by {metric}")
        self.dht = dht
        self.max_pool_size = max_pool_size
        self.metric = metric
        self.max_distance = DEFAULT_DISTANCE[metric] if max_distance is None else max_distance
        self._columns = Columns()
        self._nearest = self._columns.nearest_xor if metric == "xor" else self._columns.nearest_hamming
        self._members: dict[int, _Member[S]] = {}  # by slot, the one used longest ago first
        self._slots: dict[int, int] = {}  # by id() of the session: sessions need not be hashable
        self._of_peer: dict[Hashable, int] = {}
        self._served: deque[Hashable] = deque()
        self._share: Counter[Hashable] = Counter()
        self._hits = self._misses = self._diverted = self._recentred = self._rehomed = 0
        self._evicted = self._departed = 0

    def __len__(self) -> int:
        """How many sessions are there. One that closed and doesn't tell (:class:`TellsItsEnd`) counts until it is
        noticed."""
        return len(self._members)

    def __contains__(self, session: object) -> bool:
        return id(session) in self._slots

    def add_session(self, session: S, content_hash: bytes) -> S | None:
        """Take a session in, for content like that; one that is there already moves.

        Where the pool is full, the session used longest ago leaves: it is returned, still open, and may be closed.

        :raises StateError: where the session is not established; ConfigurationError where the hash isn't 4 to 64 bytes.
        """
        point = _point(content_hash)
        if session.state is not SessionState.ESTABLISHED:
            raise StateError(f"the session is {session.state.value}: only an established one can be pooled")
        self.remove(session)
        evicted = self._make_room() if len(self) >= self.max_pool_size else None
        slot = self._columns.add(point)
        member = self._members[slot] = _Member(session, slot, point, self._hits)
        self._slots[id(session)] = slot
        self._of_peer[member.peer] = self._of_peer.get(member.peer, 0) | 1 << slot
        if (teller := _teller(session)) is not None:
            teller.add_end_callback(self._depart)
        return evicted

    def remove(self, session: S) -> bool:
        """Let a session go; whether it was there."""
        slot = self._slots.get(id(session))
        if slot is None:
            return False
        self._remove(self._members[slot])
        return True

    def get_session_for_content(self, content_hash: bytes) -> S:
        """The session to ask for content with this hash.

        :raises PoolMissError: where none is near enough. Its ``providers`` are those that the DHT knows already.
            ConfigurationError where the hash isn't 4 to 64 bytes.
        """
        target = _point(content_hash)
        while True:
            member = self._choose(target)
            if member is None:
                self._misses += 1
                providers = () if self.dht is None else tuple(self.dht.known_providers(content_hash))
                raise PoolMissError(
                    f"none of {len(self)} sessions is near {content_hash[:4].hex()}: "
                    "connect to a peer that has it, and add that session",
                    content_hash=content_hash,
                    providers=providers,
                )
            if member.session.state is SessionState.ESTABLISHED:
                break
            self._departed += 1
            self._remove(member)
        self._serve(member, target)
        return member.session

    def statistics(self) -> PoolStatistics:
        """Counters, once those that closed have left."""
        self._drop_closed()
        return PoolStatistics(
            sessions=len(self._members),
            lookups=self._hits + self._misses,
            hits=self._hits,
            misses=self._misses,
            diverted=self._diverted,
            recentred=self._recentred,
            rehomed=self._rehomed,
            evicted=self._evicted,
            departed=self._departed,
        )

    # --- choosing

    def _choose(self, target: int) -> _Member[S] | None:
        member = self._find(target, self._columns.everyone)
        if member is None:
            return self._rehome(target)
        if self._has_its_share(member.peer):
            other = self._find(target, self._columns.everyone & ~self._of_peer[member.peer])
            if other is not None:
                self._diverted += other.session.state is SessionState.ESTABLISHED
                return other
        return member

    def _find(self, target: int, among: int) -> _Member[S] | None:
        """The nearest of these slots, if it is near enough."""
        if not among:
            return None
        member = self._members[self._nearest(target, among)]
        difference = (member.point ^ target) >> _TAIL_BITS
        distance = difference if self.metric == "xor" else difference.bit_count()
        return member if distance <= self.max_distance else None

    def _has_its_share(self, peer: Hashable) -> bool:
        """Whether one look-up more would be more than half of those that count."""
        among = min(len(self._served) + 1, SHARE_WINDOW)
        oldest_is_theirs = len(self._served) == SHARE_WINDOW and self._served[0] == peer
        share = self._share[peer] + 1 - oldest_is_theirs
        return share > max(GRACE, (among + 1) // 2)

    def _rehome(self, target: int) -> _Member[S] | None:
        """A session without traffic, moved here, if the pool is full and has one."""
        if len(self._members) < self.max_pool_size:
            return None
        member = next(iter(self._members.values()))
        if self._hits - member.used < SHARE_WINDOW:
            return None
        self._columns.move(member.slot, member.point, target)
        member.point = target
        member.weights = [_HELD * sign for sign in _signs(target)]
        self._rehomed += member.session.state is SessionState.ESTABLISHED
        return member

    def _serve(self, member: _Member[S], target: int) -> None:
        self._hits += 1
        member.used = self._hits
        self._members[member.slot] = self._members.pop(member.slot)  # last in the order of use
        if len(self._served) == SHARE_WINDOW:
            self._share[self._served.popleft()] -= 1
        self._served.append(member.peer)
        self._share[member.peer] += 1
        if len(self._share) > 2 * SHARE_WINDOW:
            self._share = +self._share
        point = member.drawn_to(target)
        if point != member.point:
            self._columns.move(member.slot, member.point, point)
            member.point = point
            self._recentred += 1

    # --- leaving

    def _depart(self, session: S) -> None:
        self._departed += self.remove(session)

    def _make_room(self) -> S | None:
        self._drop_closed()
        if len(self._members) < self.max_pool_size:
            return None
        oldest = next(iter(self._members.values()))
        self._evicted += 1
        self._remove(oldest)
        return oldest.session

    def _drop_closed(self) -> None:
        for member in [m for m in self._members.values() if m.session.state is not SessionState.ESTABLISHED]:
            self._departed += 1
            self._remove(member)

    def _remove(self, member: _Member[S]) -> None:
        if (teller := _teller(member.session)) is not None:
            teller.remove_end_callback(self._depart)
        del self._members[member.slot]
        del self._slots[id(member.session)]
        self._columns.remove(member.slot, member.point)
        left = self._of_peer[member.peer] & ~(1 << member.slot)
        if left:
            self._of_peer[member.peer] = left
        else:
            del self._of_peer[member.peer]


def _teller(session: object) -> TellsItsEnd | None:
    return session if isinstance(session, TellsItsEnd) else None


def _point(content_hash: bytes) -> int:
    """The first eight bytes, zeros where there are fewer."""
    check_bytes("content_hash", content_hash, 4, 64)
    return int.from_bytes(content_hash[:8].ljust(8, b"\0"), "big")


def _signs(point: int) -> chain[float]:
    """+1 or -1 for each of the first 32 bits, the highest first."""
    first, second, third, fourth = (point >> _TAIL_BITS).to_bytes(4, "big")
    return chain(_SIGNS[first], _SIGNS[second], _SIGNS[third], _SIGNS[fourth])
