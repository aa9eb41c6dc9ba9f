"""ContentDistribution, but for the waits: the store, who is trusted, who is served, and how fast.

Rule: as for the node: what doesn't wait is here, and each adapter adds the waits. What reads or writes the disk is
called in a thread, so that the event loop never waits for it.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from errno import EEXIST
from math import inf
from pathlib import Path
from shutil import rmtree
from typing import Any, BinaryIO, Final, Generic, Protocol, TypeVar

from stt_backends.adapter.fetching import IDLE, BaseFetching, spelled
from stt_backends.adapter.parking import ParkingLot
from stt_backends.adapter.stream import BaseStream
from stt_backends.adapter.supplying import Supply
from stt_backends.content_store import ContentStore, Import
from stt_core.affinity import ContentAffinityPool
from stt_core.config import check_bytes
from stt_core.content.manifest import Manifest
from stt_core.content.serving import UploadBudget
from stt_core.content.tree import HASH_SIZE, TreeBuilder
from stt_core.dht import DHTNode
from stt_core.errors import ConfigurationError, ErrorCode, PoolMissError, StateError, StoreError, STTError

logger = logging.getLogger("stt.content")

SLICE: Final = 4 << 20
"""Bytes that are read, hashed and copied into the store at once: some 20 ms in a thread."""
THREADS: Final = 4
"""Threads that may work for one distribution at the same time."""
MOST_SUPPLIES: Final = 256
"""Fetchers that are served at the same time."""
MOST_DISTRUSTED: Final = 1024
TIMEOUT: Final = 30.0

Content = bytes | bytearray | memoryview | str | os.PathLike[str]
"""Bytes, or the path of a file."""
SessionT = TypeVar("SessionT", bound=Any)


class Finder(Protocol):
    """What a distribution asks of a DHT, besides what its adapter waits for; both kinds of ``KademliaDHT`` have it."""

    @property
    def node_id(self) -> bytes:
        """What provider records say this node is called."""
        ...

    def known_providers(self, content_hash: bytes) -> Sequence[DHTNode]:
        """Who is known already."""
        ...

    def withdraw(self, content_id: bytes) -> None:
        """Announce it no more."""
        ...


class BaseContentDistribution(ABC, Generic[SessionT]):
    """Contents that this node holds for others, and fetches from them.

    ``dht`` finds providers and is told what is here; ``node_id`` is what it announces this node as (and needn't be
    given again). ``node`` makes the sessions to fetch by, and is what providers are served on: see ``serve``. Without
    it contents can be published, but not fetched.

    ``store`` is a directory, a :class:`~stt_backends.content_store.ContentStore`, or None for a temporary directory;
    ``size_limit`` how many bytes of contents it takes. ``pool`` keeps the sessions; ``upload_limit`` is how many bytes
    a second all fetchers together are sent, None for no limit.

    :raises ConfigurationError: on a setting that is wrong. ``StoreError``: if the directory can't be had.
    """

    def __init__(
        self,
        dht: Any = None,
        node_id: bytes | None = None,
        *,
        node: Any = None,
        store: ContentStore | str | os.PathLike[str] | None = None,
        size_limit: int | None = None,
        pool: ContentAffinityPool[SessionT] | None = None,
        upload_limit: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if node_id is not None:
            check_bytes("node_id", node_id, 1, 64)
        if upload_limit is not None and upload_limit <= 0:
            raise ConfigurationError(f"upload_limit is {upload_limit}, expected bytes a second, or None for no limit")
        if isinstance(store, ContentStore) and size_limit is not None:
            raise ConfigurationError("size_limit goes with a directory; this store has its own")
        self.dht = dht
        self.node = node
        self.pool: ContentAffinityPool[SessionT] = pool if pool is not None else ContentAffinityPool(dht)
        self.clock = clock
        self._node_id = node_id
        self._owns_store = not isinstance(store, ContentStore)
        self.store = store if isinstance(store, ContentStore) else ContentStore(_directory(self, store), size_limit)
        self._budget = UploadBudget(upload_limit)
        self._supplies: dict[bytes, set[Supply]] = {}
        self._supply_count = 0
        self._fetches: set[BaseFetching] = set()
        self._sessions: dict[DHTNode, SessionT] = {}
        """Those that were made for fetching."""
        self._dialing: dict[DHTNode, list[BaseFetching]] = {}
        self._distrusted: dict[DHTNode, None] = {}
        self._sent = 0
        self._closed = False

    # --- what the adapter supplies

    @abstractmethod
    def make_parking_lot(self) -> ParkingLot:
        """A new one."""

    # --- what it is

    @property
    def node_id(self) -> bytes | None:
        """What this node is called where it is announced; None where it isn't."""
        return self._node_id if self._node_id is not None or self.dht is None else bytes(self.dht.node_id)

    @property
    def upload_limit(self) -> float | None:
        """Bytes a second that all fetchers together are sent; may be set at any time."""
        return self._budget.rate

    @upload_limit.setter
    def upload_limit(self, limit: float | None) -> None:
        if limit is not None and limit <= 0:
            raise ConfigurationError(f"upload_limit is {limit}, expected bytes a second, or None for no limit")
        self._budget.rate = limit

    def statistics(self) -> dict[str, int]:
        """Counters by name: ``sent`` are bytes of contents, ``served`` and ``fetching`` what goes on now."""
        return {
            "sent": self._sent,
            "served": self._supply_count,
            "fetching": len(self._fetches),
            "distrusted": len(self._distrusted),
            **{f"pool_{name}": getattr(self.pool.statistics(), name) for name in ("sessions", "hits", "misses")},
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.store.directory}>"

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("this content distribution was closed")

    # --- publishing

    def _importing(self, content: Content) -> Importing:
        """The content on its way into the store; blocks."""
        self._check_open()
        if isinstance(content, str | os.PathLike):
            return Importing(self.store, _opened(Path(content)))
        return Importing(self.store, memoryview(content).cast("B"))

    def withdraw_removed(self) -> None:
        """Announce no more what had to make room."""
        for content_id in self.store.take_removed():
            if self.dht is not None:
                self.dht.withdraw(content_id)

    # --- fetching

    def trusts(self, node: DHTNode) -> bool:
        """Whether to ask a provider: not this node itself, and none that sent what was wrong."""
        return node not in self._distrusted and node.node_id != self.node_id

    def distrust(self, node: DHTNode) -> None:
        """A provider lied: it is asked for nothing any more."""
        self._distrusted[node] = None
        if len(self._distrusted) > MOST_DISTRUSTED:
            del self._distrusted[next(iter(self._distrusted))]

    def _check_fetch(self, content_id: bytes) -> None:
        self._check_open()
        check_bytes("content_id", content_id, HASH_SIZE, HASH_SIZE)
        if self.node is None:
            raise StateError("nothing can be fetched without a node: give one as `node`")

    def begin_fetch(self, fetching: BaseFetching) -> None:
        """A fetch has begun, or has begun again.

        :raises StateError: where the distribution was closed meanwhile.
        """
        self._check_open()
        self._fetches.add(fetching)

    @property
    def next_rest(self) -> float:
        """When to call :meth:`rest_idle`; infinite for never."""
        since = [fetching.idle_since for fetching in self._fetches if fetching.idle_since is not None]
        return min(since) + IDLE if since else inf

    def rest_idle(self, now: float) -> None:
        """Make those rest that nobody listens to: what lies unread there takes the room of the others."""
        for fetching in list(self._fetches):
            if fetching.idle_since is not None and fetching.idle_since + IDLE <= now:
                fetching.rest()

    def forget(self, fetching: BaseFetching) -> None:
        """A fetch is over."""
        self._fetches.discard(fetching)

    def _pooled(self, content_id: bytes) -> tuple[DHTNode, SessionT] | None:
        """The session that most likely has something like it; None where none is near."""
        try:
            session = self.pool.get_session_for_content(content_id)
        except PoolMissError:
            return None
        host, port = session.path.address[:2] if isinstance(session.path.address, tuple) else (session.path.address, 0)
        return DHTNode(session.peer_node_id, str(host), int(port)), session

    def _session_with(self, node: DHTNode) -> SessionT | None:
        """The session that was made with a provider before, if it is alive."""
        session = self._sessions.get(node)
        if session is not None and not session.alive:
            del self._sessions[node]
            return None
        return session

    def _begin_dial(self, node: DHTNode, fetching: BaseFetching) -> bool:
        """Whether the caller is to connect to a provider, on behalf of all who wait for that."""
        waiting = self._dialing.setdefault(node, [])
        if fetching not in waiting:
            waiting.append(fetching)
        return len(waiting) == 1

    def dialing(self, fetching: BaseFetching) -> list[DHTNode]:
        """Those who are being connected to on behalf of a fetch."""
        return [node for node, waiting in self._dialing.items() if fetching in waiting]

    def _dialed(self, node: DHTNode, content_id: bytes, session: SessionT) -> list[SessionT]:
        """There is a session with a provider; those that are of no use any more by that, to be closed."""
        if self._closed:
            return [session]
        try:
            evicted: SessionT | None = self.pool.add_session(session, content_id)
        except StateError as error:  # it is over already
            self._not_dialed(node, error)
            return []
        self._sessions = {other: kept for other, kept in self._sessions.items() if kept.alive and kept is not evicted}
        self._sessions[node] = session
        for fetching in self._dialing.pop(node, ()):
            fetching.add_session(node, session)
        return [] if evicted is None or self._is_in_use(evicted) else [evicted]

    def _not_dialed(self, node: DHTNode, error: Exception) -> None:
        if not isinstance(error, STTError | OSError):
            logger.error("connecting to %s failed", spelled(node), exc_info=error)
        for fetching in self._dialing.pop(node, ()):
            fetching.could_not_connect(node, error)

    def _is_in_use(self, session: SessionT) -> bool:
        return any(fetching.uses(session) for fetching in self._fetches)

    # --- serving

    def _begin_supply(self) -> Supply:
        """One more fetcher is served, or told that there are enough."""
        self._supply_count += 1
        return Supply(self, self.make_parking_lot(), busy=self._closed or self._supply_count > MOST_SUPPLIES)

    def _refuse(self, stream: BaseStream, reason: str) -> None:
        """A fetcher breaks the rules."""
        logger.info("stopped serving %r: %s", stream, reason)
        stream.reset(ErrorCode.PROTOCOL_VIOLATION)

    def introduced(self, supply: Supply, content_id: bytes) -> None:
        """A fetcher has said what it wants: from now on it hears what is gained."""
        self._supplies.setdefault(content_id, set()).add(supply)

    def _end_supply(self, supply: Supply) -> None:
        self._supply_count -= 1
        supplies = self._supplies.get(supply.content_id or b"", set())
        supplies.discard(supply)
        if not supplies:
            self._supplies.pop(supply.content_id or b"", None)

    def _reserve(self, supply: Supply, size: int) -> float:
        """Seconds to wait before so many bytes may be sent."""
        supply.sent += size
        self._sent += size
        return self._budget.reserve(size, self.clock())

    def tell_gained(self, content_id: bytes, piece: int) -> None:
        """There is one more piece of a content: for those who fetch it from here."""
        for supply in self._supplies.get(content_id, ()):
            supply.gained(piece)

    # --- the end

    def _close(self) -> list[SessionT]:
        """Let go of everything; the sessions that were made for fetching, to be closed."""
        if self._closed:
            return []
        self._closed = True
        for fetching in list(self._fetches):
            fetching.abandon()
        for supplies in self._supplies.values():
            for supply in supplies:
                supply.over = True
                supply.news.wake_all()
        sessions = [session for session in self._sessions.values() if session.alive]
        self._sessions.clear()
        return sessions

    def _close_store(self) -> None:
        if self._owns_store:
            self.store.close()


class Importing:
    """A content on its way into a store, slice by slice. All of it blocks."""

    def __init__(self, store: ContentStore, source: memoryview | BinaryIO) -> None:
        self._import: Import = store.importing()
        self._source = source
        self._slices = _slices(source)

    def step(self) -> bool:
        """Take in the next slice; False at the end.

        :raises StoreError: if it can't be stored; ``OSError`` if the file can't be read.
        """
        data = next(self._slices, None)
        if data is None:
            return False
        self._import.write(data)
        return True

    def commit(self, *, pinned: bool) -> Manifest:
        """That was all.

        :raises StoreFullError: if it doesn't fit.
        """
        manifest = self._import.commit()
        if pinned:
            self._import.store.pin(manifest.content_id)
        return manifest

    def end(self) -> None:
        """Leave nothing behind that wasn't committed."""
        self._import.abandon()
        if not isinstance(self._source, memoryview):
            self._source.close()


class Exporting:
    """A content on its way from a store to a file, verified once more: disks forget. All of it blocks.

    :raises StoreError: if it isn't here, or not all of it; ``OSError`` where the file can't be made, or without
        ``replace`` where one is there already.
    """

    def __init__(self, store: ContentStore, content_id: bytes, path: Path, *, replace: bool) -> None:
        found = store.find(content_id)
        if found is None or not found.complete:
            raise StoreError(f"content {content_id.hex()} isn't here, or not all of it")
        self._store = store
        self._content_id = content_id
        self._path = path
        self._replace = replace
        self._offsets = iter(range(0, found.manifest.size, SLICE))
        self._builder = TreeBuilder()
        if not replace and os.path.lexists(path):
            raise FileExistsError(EEXIST, os.strerror(EEXIST), str(path))
        self._part = path.with_name(f"{path.name}.part")
        self._file = self._part.open("wb")

    def step(self) -> bool:
        """Write the next slice; False at the end, when the file stands under its name.

        :raises StoreError: if it isn't any more what it was: it is removed then. ``OSError``: if it can't be written.
        """
        offset = next(self._offsets, None)
        if offset is not None:
            data = self._store.read(self._content_id, offset, SLICE)
            self._builder.update(data)
            self._file.write(data)
            return True
        if Manifest.from_builder(self._builder).content_id != self._content_id:
            self._store.remove(self._content_id)
            raise StoreError(f"content {self._content_id.hex()} was damaged on this disk, and is forgotten")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._replace:
            self._part.replace(self._path)
        else:
            os.link(self._part, self._path)  # unlike a rename, this never replaces anything
            self._part.unlink()
        return False

    def end(self) -> None:
        """Leave nothing behind that isn't whole."""
        if not self._file.closed:
            self._file.close()
            self._part.unlink(missing_ok=True)


def _slices(source: memoryview | BinaryIO) -> Iterator[bytes | memoryview]:
    if isinstance(source, memoryview):
        for at in range(0, len(source), SLICE):
            yield source[at : at + SLICE]
        return
    while data := source.read(SLICE):
        yield data


def _opened(path: Path) -> BinaryIO:
    """A file to read. A pipe would make a thread wait for ever: nothing but a regular file will do.

    :raises ConfigurationError: where it is none; ``OSError`` where it can't be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ConfigurationError(f"{path} is no regular file")
    return path.open("rb", buffering=0)


def _directory(owner: object, directory: str | os.PathLike[str] | None) -> Path:
    """The store's directory; where there is none, a temporary one that lives as long as ``owner``."""
    if directory is not None:
        return Path(directory)
    try:
        made = tempfile.mkdtemp(prefix="stt-content-")
    except OSError as error:
        raise StoreError(f"can't make a temporary directory for the store: {error.strerror or error}") from error
    weakref.finalize(owner, rmtree, made, ignore_errors=True)
    return Path(made)
