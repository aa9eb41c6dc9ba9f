"""Several addresses of one name: in which order they are tried, and when the next is (RFC 8305, "Happy Eyeballs").

Rule: an address that doesn't answer costs a quarter of a second and no more, and one that does is not tried twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any, Final

Found = Sequence[tuple[int, int, int, str, tuple[Any, ...]]]
"""What ``getaddrinfo`` finds."""

ATTEMPT_DELAY: Final = 0.25
"""Seconds until the next address is tried as well (the Connection Attempt Delay of RFC 8305 section 5)."""


def interleaved(found: Found) -> list[tuple[int, tuple[Any, ...]]]:
    """Families and addresses of ``found``, the families by turns, beginning with the first; none twice.

    The system has sorted them by how well it reaches them (RFC 6724), but all of one family may be out of reach: RFC
    8305 section 4.
    """
    families: dict[int, dict[tuple[Any, ...], None]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, {})[tuple(address)] = None
    ranks: Iterable[tuple[Any, ...]] = zip_longest(
        *([(family, address) for address in addresses] for family, addresses in families.items())
    )
    return [entry for entry in chain.from_iterable(ranks) if entry is not None]
