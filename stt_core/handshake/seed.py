"""What can be said against a shared seed by looking at it.

Rule: this warns and never refuses: a short seed is the user's to choose, and no check here can tell a good one.
"""

from __future__ import annotations

from typing import Final

SHORT: Final = 8
PUBLISHED: Final = frozenset(
    {
        b"correct-horse-battery-staple",
        b"correct horse battery staple",
        b"seed_default",
        b"shared_seed",
        b"shared_secret",
        b"change-me-please",
        b"password",
        b"secret",
        b"a seed both sides share",
    }
)
"""Seeds printed in documentation, which are the first an attacker tries."""


def weak_seed_reason(seed: bytes) -> str | None:
    """Why a node should not rely on this seed, in words to follow "the shared seed"; None if nothing is known."""
    if seed in PUBLISHED:
        return "is printed in the documentation, where an attacker reads it too"
    if len(seed) < SHORT:
        return f"has {len(seed)} bytes: at under {SHORT} it can be guessed, each attempt to connect tries one"
    return None
