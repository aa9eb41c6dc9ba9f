"""Identities pinned on first use: who once proved a key under a name must prove the same ever after.

Rule: a pin is made once, by a proof, and undone by a person. Nothing here, and nothing that a peer says, replaces one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from stt_core.errors import StoreError


class PinStore(Protocol):
    """Where pins are kept. It is asked synchronously, once for each handshake with a proof: it must be quick."""

    def pinned(self, node_id: bytes) -> bytes | None:
        """The identity key (32 bytes) that is pinned for this node id.

        :raises StoreError: where it can't tell; nobody is let in then.
        """
        ...

    def pin(self, node_id: bytes, key: bytes) -> bytes:
        """Pin ``key`` where nothing is pinned; returns what is pinned then, which may be another.

        :raises StoreError: where it can't; nobody is let in then.
        """
        ...


class MemoryPinStore:
    """Pins that end with their process; ``pins`` are those to begin with, by node id.

    It takes ``most`` of them, and refuses whoever would be one more.
    """

    def __init__(self, pins: Mapping[bytes, bytes] | None = None, most: int = 1 << 16) -> None:
        self._pins = dict(pins or {})
        self._most = most

    def __repr__(self) -> str:
        return f"<MemoryPinStore, {len(self._pins)} pins>"

    def pinned(self, node_id: bytes) -> bytes | None:
        """See :class:`PinStore`."""
        return self._pins.get(node_id)

    def pin(self, node_id: bytes, key: bytes) -> bytes:
        """See :class:`PinStore`."""
        if node_id not in self._pins and len(self._pins) >= self._most:
            raise StoreError(f"there are {self._most} pins already")
        return self._pins.setdefault(node_id, key)
