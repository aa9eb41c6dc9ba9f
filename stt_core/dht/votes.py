"""Where this node is, as others see it.

Rule: one vote for each neighbourhood of addresses, the latest; a liar with many addresses in one place has one voice.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from stt_core.dht.ids import Address, Neighbourhoods

VOTERS: Final = 32
QUORUM: Final = 3


class Votes:
    """The latest votes of at most 32 neighbourhoods."""

    __slots__ = ("_neighbourhoods", "_votes")

    def __init__(self, neighbourhoods: Neighbourhoods) -> None:
        self._neighbourhoods = neighbourhoods
        self._votes: dict[object, Address] = {}

    def add(self, voter: Address, observed: Address) -> None:
        """``voter`` saw us at ``observed``."""
        key = self._neighbourhoods.of(voter[0]) or voter
        self._votes.pop(key, None)
        if len(self._votes) >= VOTERS:
            del self._votes[next(iter(self._votes))]
        self._votes[key] = observed

    @property
    def winner(self) -> Address | None:
        """The address that more than half of the voters, and three at least, have seen; None where there is none."""
        if not self._votes:
            return None
        ((address, count),) = Counter(self._votes.values()).most_common(1)
        return address if count >= QUORUM and 2 * count > len(self._votes) else None
