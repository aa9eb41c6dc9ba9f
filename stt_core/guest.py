"""Who shares an endpoint's sockets: what comes in datagrams that are no packets of sessions.

Rule: the first byte tells whose a datagram is (docs/protocol.md, "Datagrams"), so what is for the sessions never passes
by here.
"""

from __future__ import annotations

from typing import Protocol

from stt_core.types import Path


class Guest(Protocol):
    """A state machine that lives on an endpoint: :class:`~stt_core.dht.AttachedDht`."""

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        """A datagram whose first byte is below 0x40 came on ``path``. Never raises on what the network sent."""
        ...

    def handle_timer(self, now: float) -> None:
        """Act on what is due at ``now``; harmless when nothing is."""
        ...

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`; None for never."""
        ...
