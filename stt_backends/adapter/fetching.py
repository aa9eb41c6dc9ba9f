"""The fetch of one content, but for the waits: whom it is fetched from, what is to be stored, how far it got.

Rule: bytes are handed to the store before anybody sees them, and counted once they are on the disk. While the disk
holds things up, nothing more is taken from the network.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stt_backends.adapter.parking import ParkingLot
from stt_core.content.fetcher import Fetcher, ManifestKnown
from stt_core.content.planner import MOST_PROVIDERS, Order, PieceDone, Planner, ProviderDropped, Verified
from stt_core.content.tree import PIECE
from stt_core.dht import DHTNode
from stt_core.errors import ConfigurationError, ContentUnavailableError, ErrorCode, StateError, STTError

if TYPE_CHECKING:
    from stt_backends.adapter.content import BaseContentDistribution
    from stt_backends.content_store import ContentStore, StoredContent

logger = logging.getLogger("stt.content")

MOST_UNWRITTEN: Final = 8 << 20
"""Bytes that may wait for the disk before the network has to."""
READ: Final = 256 << 10
"""Bytes that an iterator gives at once, at most."""
FIRST_SEARCH: Final = 1.0
LAST_SEARCH: Final = 30.0
"""Seconds between two searches for providers: doubled from the first to the last."""


@dataclass(frozen=True, slots=True)
class DroppedProvider:
    """A provider that is not asked any more; ``lied`` where what it sent was not what its hash says."""

    node: DHTNode
    reason: str
    lied: bool


@dataclass(frozen=True, slots=True)
class PeerProgress:
    """One provider of a fetch: bytes it brought so far, and lately each second; ``asked`` while it is one."""

    node: DHTNode
    received: int
    rate: float
    asked: bool


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a fetch is. ``size`` is None until it is known; ``done`` are bytes that are here, verified and stored.

    ``resumed`` of these were here before the fetch began.
    """

    size: int | None
    done: int
    resumed: int
    peers: tuple[PeerProgress, ...]
    dropped: tuple[DroppedProvider, ...]


class Source:
    """A provider, and the stream on which it is asked."""

    __slots__ = ("known", "node", "outbox", "stream")

    def __init__(self, node: DHTNode, stream: Any, *, known: bool) -> None:
        self.node = node
        self.stream = stream
        self.known = known
        """Whether it is known to have the content, or is asked on the off chance."""
        self.outbox: deque[bytes] = deque()


@dataclass(slots=True)
class Batch:
    """What is to be stored next: bytes by offset, and the pieces that are whole with them."""

    runs: list[tuple[int, bytes]]
    pieces: list[int]

    def write(self, store: ContentStore, content_id: bytes) -> None:
        """Blocks on the disk.

        :raises StoreError: if the disk fails.
        """
        for offset, data in self.runs:
            store.write(content_id, offset, data)
        if self.pieces:
            store.complete_pieces(content_id, self.pieces)


class BaseFetching:
    """The fetch of bytes ``start`` to ``stop`` of one content (all of it, where these are None).

    ``timeout`` is for how many seconds nobody may bring anything before it is given up.
    """

    def __init__(
        self,
        distribution: BaseContentDistribution[Any],
        content_id: bytes,
        start: int,
        stop: int | None,
        providers: Iterable[DHTNode],
        timeout: float,
    ) -> None:
        if start < 0 or (stop is not None and stop < start):
            raise ConfigurationError(f"bytes {start} to {stop} are no range")
        self.content_id = content_id
        self._distribution = distribution
        self._start, self._stop = start, stop
        self._named = list(providers)
        self._timeout = timeout
        self._clock = distribution.clock
        self._core: Fetcher | None = None
        self._have = bytearray()
        self._wanted = range(0)
        self._pending = 0
        """Pieces wanted that are not on the disk."""
        self._sources: list[Source] = []
        self._received: dict[DHTNode, int] = {}
        self._new: list[Source] = []
        self._left: dict[DHTNode, float] = {}
        """When those that were left may be asked again."""
        self._dropped: list[DroppedProvider] = []
        self._batch = Batch([], [])
        self._unwritten = 0
        self._resumed: int | None = None
        self._failure: Exception | None = None
        self._heard = self._search_at = 0.0
        self._search_delay = FIRST_SEARCH
        self._announced = False
        self._using: AbstractContextManager[None] | None = None
        self._planned = False
        self._position = start
        self._closed = False
        self.idle_since: float | None = None
        """When somebody listened to the providers last; None while somebody does."""
        self.news: ParkingLot = distribution.make_parking_lot()
        """Of what came, what was stored, and who was found."""
        self.to_write: ParkingLot = distribution.make_parking_lot()
        """Of what is to be stored."""

    # --- what it is

    @property
    def size(self) -> int | None:
        """Bytes in the content, once that is known."""
        manifest = self._core.manifest if self._core is not None else None
        return None if manifest is None else manifest.size

    @property
    def complete(self) -> bool:
        """Whether everything wanted is on the disk."""
        return self._core is not None and self._core.complete and not self._pending

    @property
    def progress(self) -> FetchProgress:
        """How far it is, and by whom."""
        rates = {}
        if self._core is not None:
            rates = {key.node: rate for key, rate in self._core.rates.items() if isinstance(key, Source)}
        asked = {source.node for source in self._sources}
        peers = tuple(
            PeerProgress(node, received, rates.get(node, 0.0), node in asked)
            for node, received in self._received.items()
        )
        size = self.size
        done = 0 if size is None else self._bytes_here(size)
        return FetchProgress(size, done, self._resumed or 0, peers, tuple(self._dropped))

    def _bytes_here(self, size: int) -> int:
        whole = self._have.count(1)
        if not whole:
            return 0
        last = size - (len(self._have) - 1) * PIECE
        return (whole - self._have[-1]) * PIECE + self._have[-1] * last

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.content_id.hex()[:16]}, {len(self._sources)} providers>"

    # --- beginning

    def _check_open(self) -> None:
        """Raise where nothing more will be fetched."""
        if self._closed:
            raise self._failure or StateError("this fetch is over: begin another")

    def _look(self) -> StoredContent | None:
        """What the store has of it, which then stays; blocks."""
        found = self._distribution.store.find(self.content_id)
        if found is not None:
            self._keep()
        return found

    def _open(self, found: StoredContent | None) -> None:
        """The store was looked into: begin."""
        now = self._clock()
        self._heard = self._search_at = now
        self._search_delay = FIRST_SEARCH
        self._distribution.begin_fetch(self)
        self._core = Fetcher(self.content_id, None if found is None else found.manifest)
        if found is not None:
            self._plan(found)

    def _make_room(self) -> StoredContent:
        """Let the store begin with it; blocks.

        :raises StoreFullError: if it doesn't fit.
        """
        assert self._core is not None
        assert self._core.manifest is not None
        stored = self._distribution.store.begin(self._core.manifest)
        self._keep()
        return stored

    def _keep(self) -> None:
        self._using = self._distribution.store.using(self.content_id)
        self._using.__enter__()

    def _plan(self, stored: StoredContent) -> None:
        """The store has room: from here on it is known what to ask for."""
        assert self._core is not None
        self._distribution.withdraw_removed()
        manifest = stored.manifest
        stop = manifest.size if self._stop is None else min(self._stop, manifest.size)
        self._stop = stop
        self._start = self._position = min(self._start, stop)
        self._wanted = range(self._start // PIECE, -(-stop // PIECE) if stop > self._start else self._start // PIECE)
        if self._start == 0 and stop == manifest.size:
            self._wanted = range(len(manifest.pieces))  # an empty content has a piece, too
        self._have = bytearray(stored.have)
        if self._resumed is None:
            self._resumed = self._bytes_here(manifest.size)
        self._pending = sum(not self._have[piece] for piece in self._wanted)
        self._planned = True
        planner = Planner(
            manifest,
            os.urandom,
            have=stored.have,
            first=self._wanted.start,
            stop=self._wanted.stop,
            order=self._order,
        )
        self._core.plan(planner, self._clock())
        self.news.wake_all()

    _order = Order.RAREST
    """Until somebody reads."""

    @property
    def _needs_room(self) -> bool:
        """Whether the manifest is known, and the store has not begun yet."""
        return self._core is not None and self._core.manifest is not None and not self._planned

    @property
    def _is_to_be_announced(self) -> bool:
        """Whether others are to hear that this node has some of it; True once."""
        if self._announced or not self._planned:
            return False
        self._announced = True
        return True

    # --- providers

    def _next_search(self) -> float | None:
        """When to look for providers (again), None for never: nothing is missing."""
        return None if self._planned and not self._pending else self._search_at

    def searched(self, found: Iterable[DHTNode]) -> list[DHTNode]:
        """These providers were found just now; those of them, and of those named by the caller, to be asked."""
        self._search_at = self._clock() + self._search_delay
        self._search_delay = min(2 * self._search_delay, LAST_SEARCH)
        room = MOST_PROVIDERS - len(self._sources) - len(self._distribution.dialing(self))
        return self.worth_asking([*self._named, *found])[: max(0, room)]

    def worth_asking(self, nodes: Iterable[DHTNode]) -> list[DHTNode]:
        """Those that are not asked yet, and may be."""
        now = self._clock()
        asked = {source.node for source in self._sources}
        return [
            node
            for node in dict.fromkeys(nodes)
            if node not in asked and self._left.get(node, now) <= now and self._distribution.trusts(node)
        ]

    def add_session(self, node: DHTNode, session: Any, *, known: bool = True) -> None:
        """There is a session with a provider: ask it, too."""
        if self._closed or self._core is None or any(source.node == node for source in self._sources):
            return
        try:
            stream = session.open_stream(purpose=PURPOSE, priority=PRIORITY)
        except STTError as error:
            self._leave(node, str(error))
            return
        source = Source(node, stream, known=known)
        self._sources.append(source)
        self._new.append(source)
        self._core.add_provider(source, self._clock())
        self.news.wake_all()

    def could_not_connect(self, node: DHTNode, error: Exception) -> None:
        """A provider can't be had."""
        logger.info("can't reach %s: %s", spelled(node), error)
        self._leave(node, str(error))
        self.news.wake_all()

    def _leave(self, node: DHTNode, reason: str) -> None:
        now = self._clock()
        if len(self._left) >= MOST_REMEMBERED:
            self._left = {other: until for other, until in self._left.items() if until > now}
        self._left[node] = now + COOLING
        logger.debug("left %s alone: %s", spelled(node), reason)

    def _take_new(self) -> list[Source]:
        """Those to whom nobody listens yet."""
        new, self._new = self._new, []
        return new

    def _begin_listening(self) -> list[Source]:
        """All, for another round; silence until now is held against nobody."""
        assert self._core is not None
        self.idle_since = None
        self._core.excuse(self._clock())
        self._heard = self._clock()
        self._new = []
        return list(self._sources)

    def _end_listening(self) -> None:
        self.idle_since = self._clock()

    def rest(self) -> None:
        """Let go of everything: nobody wants any of it at the moment. It begins anew, from here, when somebody does."""
        self._let_go()
        self._core = None
        self._planned = self._announced = False
        self._start = self._position
        self._sources, self._new = [], []
        self._batch, self._unwritten = Batch([], []), 0

    def _let_go(self) -> None:
        for source in self._sources:
            source.stream.reset(ErrorCode.NO_ERROR)
        if self._using is not None:
            self._using.__exit__(None, None, None)
            self._using = None
        self._distribution.forget(self)

    def _receive(self, source: Source, message: bytes) -> None:
        """A provider said something."""
        assert self._core is not None
        if source.node in self._received or len(self._received) < MOST_REMEMBERED:
            self._received[source.node] = self._received.get(source.node, 0) + len(message)
        self._core.receive_message(source, message, self._clock())
        self.news.wake_all()

    @property
    def _is_full(self) -> bool:
        """Whether to listen no more until something was stored."""
        return self._unwritten > MOST_UNWRITTEN

    def _lose(self, source: Source, error: Exception) -> None:
        """A provider's stream ended."""
        if self._core is not None and source in self._sources:
            self._sources.remove(source)
            self._core.remove_provider(source)
            self._leave(source.node, str(error) or "it ended the stream")
            self.news.wake_all()

    # --- turning

    def _turn(self) -> None:
        """Take what happened into account, and send what is to be asked.

        :raises STTError: what ended the fetch: the disk, or that nobody brings anything.
        """
        core = self._core
        assert core is not None
        now = self._clock()
        self._distribution.rest_idle(now)
        core.handle_timer(now)
        self._take_events(core, now)
        while (found := core.next_message(now)) is not None:
            key, message = found
            assert isinstance(key, Source)
            key.outbox.append(message)
        for source in list(self._sources):
            self._flush(source)
        self._take_events(core, now)
        if self._failure is not None:
            raise self._failure
        if not self.complete and now >= self._heard + self._timeout:
            raise self._unavailable()

    def _take_events(self, core: Fetcher, now: float) -> None:
        while (event := core.next_event()) is not None:
            if isinstance(event, Verified):
                self._heard = now
                self._batch.runs.append((event.offset, event.data))
                self._unwritten += len(event.data)
            elif isinstance(event, PieceDone):
                self._batch.pieces.append(event.piece)
            elif isinstance(event, ProviderDropped):
                self._drop(event)
            elif isinstance(event, ManifestKnown):
                self._heard = now
        if self._batch.runs or self._batch.pieces:
            self.to_write.wake_all()

    def _flush(self, source: Source) -> None:
        try:
            while source.outbox and source.stream.try_send(source.outbox[0]):
                source.outbox.popleft()
        except STTError as error:
            self._lose(source, error)

    def _drop(self, event: ProviderDropped) -> None:
        source = event.key
        assert isinstance(source, Source)
        if source in self._sources:
            self._sources.remove(source)
        source.stream.reset(ErrorCode.PROTOCOL_VIOLATION if event.lied else ErrorCode.NO_ERROR)
        self._leave(source.node, event.reason)
        if event.lied:
            self._distribution.distrust(source.node)
        if not source.known and not event.lied:
            return
        log = logger.warning if event.lied else logger.info
        log("dropped provider %s of %s: %s", spelled(source.node), self.content_id.hex(), event.reason)
        if len(self._dropped) < MOST_REMEMBERED:
            self._dropped.append(DroppedProvider(source.node, event.reason, event.lied))

    def _next_timer(self) -> float:
        """When to turn again whatever happens."""
        planned = self._core.next_timer() if self._core is not None else None
        at = min(self._heard + self._timeout, self._distribution.next_rest)
        return at if planned is None else min(planned, at)

    def _unavailable(self) -> ContentUnavailableError:
        tried = "; ".join(f"{spelled(each.node)}: {each.reason}" for each in self._dropped[-3:])
        what = f"{len(self._sources)} providers are asked" if self._sources else "no provider was found"
        dialing = self._distribution.dialing(self)
        if not self._sources and dialing:
            what = f"no answer yet from {', '.join(map(spelled, dialing[:3]))}"
        elif not self._sources and self._left:
            what = f"none of {len(self._left)} providers could be had: {', '.join(map(spelled, list(self._left)[:3]))}"
        return ContentUnavailableError(
            f"nobody brought any of content {self.content_id.hex()} for {self._timeout:g} s: {what}"
            + (f" ({tried})" if tried else "")
        )

    # --- storing

    def _take_batch(self) -> Batch | None:
        """What is to be stored now."""
        if not self._batch.runs and not self._batch.pieces:
            return None
        batch, self._batch = self._batch, Batch([], [])
        return batch

    def _put_back(self, batch: Batch) -> None:
        """It was perhaps not stored: another time."""
        self._batch = Batch([*batch.runs, *self._batch.runs], [*batch.pieces, *self._batch.pieces])

    def _stored(self, batch: Batch) -> None:
        """It is on the disk."""
        self._unwritten -= sum(len(data) for _, data in batch.runs)
        for piece in batch.pieces:
            if not self._have[piece]:
                self._have[piece] = 1
                self._pending -= piece in self._wanted
                self._distribution.tell_gained(self.content_id, piece)
                logger.debug("piece %d of %s is stored", piece, self.content_id.hex())
        self.news.wake_all()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self.news.wake_all()

    # --- reading

    def _is_readable(self) -> bool:
        """Whether the next bytes for the reader are here, or there are none."""
        if not self._planned or self._stop is None:
            return False
        return self._position >= self._stop or bool(self._have[self._position // PIECE])

    def _next_range(self) -> tuple[int, int] | None:
        """Offset and length of what to read next; None at the end."""
        assert self._stop is not None
        end = min(self._stop, (self._position // PIECE + 1) * PIECE)
        length = min(READ, end - self._position)
        return (self._position, length) if length > 0 else None

    def _read(self, data: bytes) -> bytes:
        """The reader has this much more."""
        self._position += len(data)
        return data

    def uses(self, session: object) -> bool:
        """Whether a provider is asked by way of this session."""
        return any(source.stream.session is session for source in self._sources)

    def abandon(self) -> None:
        """The distribution closes: fail, and let go of everything."""
        self._fail(StateError("this content distribution was closed"))
        self._close()

    def _close(self) -> None:
        """Let go of the providers' streams and of the store; again: nothing."""
        if self._closed:
            return
        self._closed = True
        self._let_go()
        self._sources.clear()


PURPOSE: Final = "stt.content"
"""The purpose of the streams on which content is asked for."""
PRIORITY: Final = 5
IDLE: Final = 2.0
"""Seconds for which what providers send may lie unread, before another fetch needs the room it takes in the session."""
MOST_REMEMBERED: Final = 1024
"""Providers of which it is known what they brought, or when they were left: a false DHT may name any number."""
COOLING: Final = 10.0
"""Seconds before a provider that was left is asked again."""


def spelled(node: DHTNode) -> str:
    """A provider for people: where it is."""
    return f"[{node.host}]:{node.port}" if ":" in node.host else f"{node.host}:{node.port}"
