"""The head of an HTTP message: collected to its blank line, within a limit, before anything looks at it."""

from __future__ import annotations

from typing import Final

MAX_HEAD: Final = 8192
"""Bytes of the longest request or response head."""
_END: Final = b"\r\n\r\n"


class Head:
    """Collects one head.

    Lines must end with CR LF: a parser that is more lenient (h11's) could see two messages where this saw one.
    """

    __slots__ = ("_collected",)

    def __init__(self) -> None:
        self._collected = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Add what has arrived; the head and what came after it, once it is whole.

        :raises ValueError: saying what is wrong with it.
        """
        self._collected += data
        end = self._collected.find(_END, max(0, len(self._collected) - len(data) - 3))
        if end < 0:
            if len(self._collected) > MAX_HEAD:
                raise OverflowError(f"headers of more than {MAX_HEAD} bytes")
            if b"\n" in self._collected and b"\r\n" not in self._collected:
                raise ValueError("lines that don't end with CR LF")
            return None
        end += len(_END)
        if end > MAX_HEAD:
            raise OverflowError(f"headers of more than {MAX_HEAD} bytes")
        head = bytes(self._collected[:end])
        if head.count(b"\n") != head.count(b"\r\n") or head.count(b"\r") != head.count(b"\r\n"):
            raise ValueError("lines that don't end with CR LF")
        return head, bytes(self._collected[end:])
