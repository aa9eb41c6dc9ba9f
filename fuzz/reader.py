"""Reads a fuzzer's bytes as decisions. Past the end everything is zero, so any prefix is a whole story too."""

from __future__ import annotations


class Reader:
    """Takes small numbers and strings off the front of ``data``."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """0 to 255."""
        return int.from_bytes(self.take(1), "big")

    def short(self) -> int:
        """0 to 65,535."""
        return int.from_bytes(self.take(2).rjust(2, b"\0"), "big")

    def take(self, size: int) -> bytes:
        """At most ``size`` bytes."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
