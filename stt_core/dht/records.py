"""What others asked this node to keep: who provides what, and signed records.

Rule: everything is bounded and everything expires. What is full refuses the new, so that nobody can flush out what
others stored; each source has a share of at most an eighth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Final

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
        self._of_source: Counter[Hashable] = Counter()

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
        known = self._providers.get(target, {})
        before = known.get(provider.public)
        if before is None:
            full = self._provider_count >= self._most_providers or len(known) >= self._most_of_one
            if full or self._of_source["providers", source] >= self._most_providers // SHARE:
                return Status.REFUSED
        else:
            if before[0].expires > provider.expires:
                return Status.REFUSED  # an old announcement, sent again
            del known[provider.public]
            self._of_source["providers", before[1]] -= 1
            self._provider_count -= 1
        self._providers.setdefault(target, known)[provider.public] = (provider, source)
        self._of_source["providers", source] += 1
        self._provider_count += 1
        return Status.STORED

    def add_record(self, record: Record, source: Hashable, wall: float) -> Status:
        """Keep a record, its signature checked, unless a newer one is there."""
        if not wall < record.expires <= wall + self._lifetime + 1:
            return Status.REFUSED
        before = self._records.get(record.target)
        if before is None:
            full = len(self._records) >= self._most_records
            if full or self._of_source["records", source] >= self._most_records // SHARE:
                return Status.REFUSED
        else:
            if _age(before[0]) > _age(record):
                return Status.REFUSED
            self._of_source["records", before[1]] -= 1
        self._records[record.target] = (record, source)
        self._of_source["records", source] += 1
        return Status.STORED

    def expire(self, wall: float) -> None:
        """Drop what is over."""
        for target, known in list(self._providers.items()):
            for public, (provider, source) in list(known.items()):
                if provider.expires <= wall:
                    del known[public]
                    self._provider_count -= 1
                    self._of_source["providers", source] -= 1
            if not known:
                del self._providers[target]
        for target, (record, source) in list(self._records.items()):
            if record.expires <= wall:
                del self._records[target]
                self._of_source["records", source] -= 1
        self._of_source = +self._of_source


def newest(records: list[Record]) -> Record | None:
    """The one that replaces all others; None of none."""
    return max(records, key=_age, default=None)


def _age(record: Record) -> tuple[int, int, bytes]:
    # Of two with one number the value decides, so that all who keep it agree.
    return record.sequence, record.expires, record.value
