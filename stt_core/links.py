"""Reliable paths: which session each connection serves, and which can take nothing for now, nor can the UDP socket.

Rule: one session to a connection, so that one that is full holds up nobody else, and one that ends takes nobody along.
A connection is trusted once it is the path of its session; that it carried a handshake, or a copy of a packet that
opened, proves nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum

from stt_core.types import Path, SessionKey, Transmit

NOBODY = SessionKey(0)
"""The key of no session: they count from 1."""


class LinkState(Enum):
    """What is known of who is at the other end of a reliable path."""

    SILENT = "silent"
    """Nothing that made sense has come."""
    SPEAKING = "speaking"
    """A handshake is under way, or a packet of a session came that has yet to move there."""
    TRUSTED = "trusted"
    """A session goes over it."""


class Links:
    """One endpoint's reliable paths; those that never spoke are not in here.

    ``owners`` tells the session of each that has one, ``trusted`` and ``blocked`` hold those that are.
    """

    __slots__ = ("_of", "_speaking", "blocked", "held", "owners", "trusted")

    def __init__(self) -> None:
        self.owners: dict[Path, SessionKey] = {}
        self.trusted: set[Path] = set()
        self.blocked: set[Path] = set()
        """Those whose writer is full."""
        self.held: deque[SessionKey] | None = None
        """Sessions with something to say over UDP, while its socket is full; None while it isn't."""
        self._speaking: set[Path] = set()
        self._of: dict[SessionKey, list[Path]] = {}
        """Those of each session: a few at most, while it moves."""

    def __len__(self) -> int:
        return len(self._speaking)

    def state(self, path: Path) -> LinkState:
        """What is known of this one."""
        if path in self.trusted:
            return LinkState.TRUSTED
        return LinkState.SPEAKING if path in self._speaking else LinkState.SILENT

    def owned(self, key: SessionKey) -> list[Path]:
        """The connections of a session."""
        return self._of.get(key, [])

    def note(self, path: Path) -> None:
        """A message of a handshake made sense."""
        self._speaking.add(path)

    def claim(self, path: Path, key: SessionKey) -> None:
        """From here on this one is ``key``'s alone, but not yet trusted."""
        self._speaking.add(path)
        if path not in self.owners:
            self.owners[path] = key
            self._of.setdefault(key, []).append(path)

    def hand_over(self, path: Path, key: SessionKey) -> None:
        """From here on this one is ``key``'s, whosever it was: the handshake on it was for that session."""
        self._disown(path)
        self.claim(path, key)

    def block(self, path: Path) -> None:
        """The writer of this one is full; of any UDP path: the socket they all share."""
        if path.reliable:
            self.blocked.add(path)
        elif self.held is None:
            self.held = deque()

    def unblock(self, path: Path) -> Iterable[SessionKey]:
        """It isn't any more; returns the sessions that were held up, if it was the socket."""
        if path.reliable:
            self.blocked.discard(path)
            return ()
        held, self.held = self.held or (), None
        return held

    def take(self, replies: deque[Transmit]) -> Transmit | None:
        """The first of these that need not wait for the socket."""
        if self.held is None:
            return replies.popleft()
        reply = next((reply for reply in replies if reply.path.reliable), None)
        if reply is not None:
            replies.remove(reply)
        return reply

    def close(self, path: Path) -> SessionKey:
        """Forget this one; returns the session it served, or :data:`NOBODY`."""
        self.blocked.discard(path)
        self.trusted.discard(path)
        self._speaking.discard(path)
        return self._disown(path)

    def _disown(self, path: Path) -> SessionKey:
        key = self.owners.pop(path, NOBODY)
        paths = self._of.get(key)
        if paths is not None:
            paths.remove(path)
            if not paths:
                del self._of[key]
        return key
