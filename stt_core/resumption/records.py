"""Which sessions can be resumed by whom, and which of them are detached: tables of keys, without the sessions.

Rule: everything found by something the peer showed is found in one look-up. Of detached sessions the one that was
detached first makes room when they hold too much, and nothing else does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from stt_core.types import SessionKey


@dataclass(slots=True)
class Record:
    """A responder's note on one session. ``epoch`` counts how often it was resumed: tickets of earlier ones are void.

    ``identity_key`` is its peer's, where that lasts.
    """

    record_id: bytes
    key: SessionKey
    identity_key: bytes | None
    epoch: int = 0
    spent: bytes = b""
    """The ticket by which it was resumed last."""


class Records:
    """All of one endpoint's records."""

    __slots__ = ("_by_id", "_by_identity")

    def __init__(self) -> None:
        self._by_id: dict[bytes, Record] = {}
        self._by_identity: dict[bytes, dict[SessionKey, Record]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, record: Record) -> None:
        """Note a session; one of the same id takes the place of the other."""
        self._by_id[record.record_id] = record
        if record.identity_key is not None:
            self._by_identity.setdefault(record.identity_key, {})[record.key] = record

    def discard(self, record: Record) -> None:
        """That session is over."""
        if self._by_id.get(record.record_id) is record:
            del self._by_id[record.record_id]
        of_identity = self._by_identity.get(record.identity_key or b"")
        if of_identity is not None:
            of_identity.pop(record.key, None)
            if not of_identity:
                del self._by_identity[record.identity_key or b""]

    def by_id(self, record_id: bytes) -> Record | None:
        """The record of that id."""
        return self._by_id.get(record_id)

    def by_identity(self, identity_key: bytes) -> list[Record]:
        """All records of that peer, the oldest first."""
        return list(self._by_identity.get(identity_key, {}).values())


class Detached:
    """Detached sessions and what each holds, in bytes; the one that was detached longest ago first."""

    __slots__ = ("_limit", "_sizes", "total")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: OrderedDict[SessionKey, int] = OrderedDict()
        self.total = 0

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[SessionKey]:
        return iter(self._sizes)

    def __contains__(self, key: SessionKey) -> bool:
        return key in self._sizes

    def newest(self, keys: list[SessionKey]) -> SessionKey | None:
        """Of these, the one that was detached last."""
        detached = [key for key in keys if key in self._sizes]
        if len(detached) < 2:
            return detached[0] if detached else None
        wanted = set(detached)
        return next(key for key in reversed(self._sizes) if key in wanted)

    def add(self, key: SessionKey, size: int) -> list[SessionKey]:
        """Note one that was detached just now; returns those that have to go, which may include itself."""
        self.discard(key)
        self._sizes[key] = size
        self.total += size
        evicted = []
        while self.total > self._limit:
            oldest, held = self._sizes.popitem(last=False)
            self.total -= held
            evicted.append(oldest)
        return evicted

    def discard(self, key: SessionKey) -> None:
        """That one was resumed, or is over."""
        self.total -= self._sizes.pop(key, 0)
