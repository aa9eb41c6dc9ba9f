"""What others asked this node to keep: who provides what, and signed records.

Rule: everything is bounded and everything expires, and each source has a share of at most an eighth. In what is full
one more takes the place of the oldest from whoever has the most, if its own source has less; so nobody can flush out
what others stored, nor keep them out by filling everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Final

from stt_core.dht.shares import Shares
from stt_core.dht.wire import Provider, Record, Status

SHARE: Final = 8
"""One source may fill an eighth of a store."""


class Store:
    """Providers by content id, and records by where they belong. Times are wall-clock seconds."""

    def __init__(self, *, most_records: int, most_providers: int, most_of_one: int, lifetime: float) -> None:
        self._most_records = most_records
        self._most_providers = most_providers
        self._most_of_one = most_of_one
        self._lifetime = lifetime
        self._providers: dict[bytes, dict[bytes, tuple[Provider, Hashable]]] = {}
        self._records: dict[bytes, tuple[Record, Hashable]] = {}
        self._provider_count = 0
        self._provider_shares: Shares[tuple[bytes, bytes]] = Shares()
        self._record_shares: Shares[bytes] = Shares()

    def __len__(self) -> int:
        """Provider records and signed records, together."""
        return self._provider_count + len(self._records)

    def providers(self, target: bytes, wall: float) -> list[Provider]:
        """All that hold, the one that announced last at the end."""
        known = self._providers.get(target, {})
        return [provider for provider, _ in known.values() if provider.expires > wall]

    def record(self, target: bytes, wall: float) -> Record | None:
        """The record that belongs there, if there is one."""
        found = self._records.get(target)
        return None if found is None or found[0].expires <= wall else found[0]

    def add_provider(self, target: bytes, provider: Provider, source: Hashable, wall: float) -> Status:
        """Keep what a provider announced, its signature checked, from ``source``."""
        if not wall < provider.expires <= wall + self._lifetime + 1:
            return Status.REFUSED
        before = self._providers.get(target, {}).get(provider.public)
        if before is not None:
            if before[0].expires > provider.expires:
                return Status.REFUSED  # an old announcement, sent again
            self._drop_provider(target, provider.public)
        elif not self._make_room_for_provider(target, source):
            return Status.REFUSED
        self._providers.setdefault(target, {})[provider.public] = (provider, source)
        self._provider_shares.add(source, (target, provider.public))
        self._provider_count += 1
        return Status.STORED

    def add_record(self, record: Record, source: Hashable, wall: float) -> Status:
        """Keep a record, its signature checked, unless a newer one is there."""
        if not wall < record.expires <= wall + self._lifetime + 1:
            return Status.REFUSED
        target = record.target
        before = self._records.get(target)
        if before is not None:
            if _age(before[0]) > _age(record):
                return Status.REFUSED
            self._drop_record(target)
        elif not self._make_room_for_record(source):
            return Status.REFUSED
        self._records[target] = (record, source)
        self._record_shares.add(source, target)
        return Status.STORED

    def expire(self, wall: float) -> None:
        """Drop what is over."""
        for target, known in list(self._providers.items()):
            for public in [public for public, (provider, _) in known.items() if provider.expires <= wall]:
                self._drop_provider(target, public)
        for target in [target for target, (record, _) in self._records.items() if record.expires <= wall]:
            self._drop_record(target)

    # --- room

    def _make_room_for_provider(self, target: bytes, source: Hashable) -> bool:
        if self._provider_shares.count(source) >= self._most_providers // SHARE:
            return False
        known = self._providers.get(target, {})
        if len(known) >= self._most_of_one:
            among = Counter(theirs for _, theirs in known.values())
            heaviest, count = among.most_common(1)[0]
            if count < among[source] + 2:
                return False
            self._drop_provider(target, next(public for public, (_, theirs) in known.items() if theirs == heaviest))
        elif self._provider_count >= self._most_providers:
            surplus = self._provider_shares.surplus(source)
            if surplus is None:
                return False
            self._drop_provider(*surplus)
        return True

    def _make_room_for_record(self, source: Hashable) -> bool:
        if self._record_shares.count(source) >= self._most_records // SHARE:
            return False
        if len(self._records) >= self._most_records:
            surplus = self._record_shares.surplus(source)
            if surplus is None:
                return False
            self._drop_record(surplus)
        return True

    def _drop_provider(self, target: bytes, public: bytes) -> None:
        known = self._providers[target]
        self._provider_shares.remove(known.pop(public)[1], (target, public))
        self._provider_count -= 1
        if not known:
            del self._providers[target]

    def _drop_record(self, target: bytes) -> None:
        self._record_shares.remove(self._records.pop(target)[1], target)


def newest(records: list[Record]) -> Record | None:
    """The one that replaces all others; None of none."""
    return max(records, key=_age, default=None)


def _age(record: Record) -> tuple[int, int, bytes]:
    # Of two with one number the value decides, so that all who keep it agree.
    return record.sequence, record.expires, record.value
