"""Reliable paths: which session each connection serves, and which can take nothing for now.

Rule: one session to a connection, so that one that is full holds up nobody else, and one that ends takes nobody along.
A connection is trusted once a packet of its session opened; that it carried a handshake is the peer's word alone.
"""

from __future__ import annotations

from enum import Enum

from stt_core.types import Path, SessionKey

NOBODY = SessionKey(0)
"""The key of no session: they count from 1."""


class LinkState(Enum):
    """What is known of who is at the other end of a reliable path."""

    SILENT = "silent"
    """Nothing that made sense has come."""
    SPEAKING = "speaking"
    """A handshake is under way."""
    TRUSTED = "trusted"
    """It serves a session: a packet of it opened."""


class Links:
    """One endpoint's reliable paths; those that never spoke are not in here."""

    __slots__ = ("_owners", "_states", "blocked")

    def __init__(self) -> None:
        self.blocked: set[Path] = set()
        """Those whose writer is full."""
        self._states: dict[Path, LinkState] = {}
        self._owners: dict[Path, SessionKey] = {}

    def __len__(self) -> int:
        return len(self._states)

    def state(self, path: Path) -> LinkState:
        """What is known of this one."""
        return self._states.get(path, LinkState.SILENT)

    def owner(self, path: Path) -> SessionKey | None:
        """The session that this one serves, or is being opened for."""
        return self._owners.get(path)

    def owned(self, key: SessionKey) -> list[Path]:
        """The connections of a session; a session has a few at most, while it moves."""
        return [path for path, owner in self._owners.items() if owner == key]

    def admits(self, path: Path, key: SessionKey) -> bool:
        """Whether a packet of session ``key`` may come here: nobody else has it."""
        return self._owners.get(path, key) == key

    def note(self, path: Path) -> None:
        """A message of a handshake made sense."""
        self._states.setdefault(path, LinkState.SPEAKING)

    def claim(self, path: Path, key: SessionKey) -> None:
        """From here on this one is ``key``'s alone, but not yet trusted."""
        self.note(path)
        self._owners[path] = key

    def trust(self, path: Path, key: SessionKey) -> None:
        """A packet of session ``key`` that came here opened."""
        self._owners[path] = key
        self._states[path] = LinkState.TRUSTED

    def close(self, path: Path) -> SessionKey | None:
        """Forget this one; returns the session it served."""
        self.blocked.discard(path)
        self._states.pop(path, None)
        return self._owners.pop(path, None)
