"""Who takes up how much of a store: entries by whom they came from.

Rule: everything here takes the same time however many there are, for strangers decide how often it is asked.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

E = TypeVar("E", bound=Hashable)


class Shares(Generic[E]):
    """Entries by source, the oldest of each first."""

    __slots__ = ("_entries", "_levels", "_top")

    def __init__(self) -> None:
        self._entries: dict[Hashable, dict[E, None]] = {}
        self._levels: dict[int, dict[Hashable, None]] = {}
        """The sources by how many entries they have."""
        self._top = 0

    def __len__(self) -> int:
        return len(self._entries)

    def count(self, source: Hashable) -> int:
        """How many entries came from there."""
        return len(self._entries.get(source, ()))

    def add(self, source: Hashable, entry: E) -> None:
        """One that wasn't there."""
        entries = self._entries.setdefault(source, {})
        self._leave(source, len(entries))
        entries[entry] = None
        self._enter(source, len(entries))

    def remove(self, source: Hashable, entry: E) -> None:
        """One that is there."""
        entries = self._entries[source]
        self._leave(source, len(entries))
        del entries[entry]
        if entries:
            self._enter(source, len(entries))
        else:
            del self._entries[source]
        while self._top and self._top not in self._levels:
            self._top -= 1

    def surplus(self, source: Hashable) -> E | None:
        """What should give way to one more from ``source``: the oldest of whoever has the most. None where nobody has
        two more than ``source``."""
        if self._top < self.count(source) + 2:
            return None
        heaviest = next(iter(self._levels[self._top]))
        return next(iter(self._entries[heaviest]))

    def _leave(self, source: Hashable, count: int) -> None:
        level = self._levels.get(count)
        if level is not None and source in level:
            del level[source]
            if not level:
                del self._levels[count]

    def _enter(self, source: Hashable, count: int) -> None:
        self._levels.setdefault(count, {})[source] = None
        self._top = max(self._top, count)
