"""TCP connections through a session: what a stream of such a session asks for, and what is allowed (docs/command.md).

Rule: a target has one spelling, and is connected to where exactly that one was allowed. What the other side asks for
chooses among what was allowed here and can never add to it.

A connection is a stream of bytes whose purpose is ``stt.tcp HOST:PORT``. Nothing is said before the connection's own
bytes; where it can't be had the stream is reset, with the code of a :class:`Refusal`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv6Address
from typing import Final, NamedTuple, Self

from stt_core.errors import ConfigurationError, protocol_violation

PURPOSE: Final = "stt.tcp "
MAX_HOST: Final = 240
"""Characters: what the purpose of a stream, of 255 bytes, has room for."""
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


class Refusal(IntEnum):
    """Stream codes: why a connection can't be had, or why it ended before its end."""

    BROKEN = 0x200
    NOT_ALLOWED = 0x201
    UNREACHABLE = 0x202
    TOO_MANY = 0x203


WORDS: Final = {
    Refusal.BROKEN: "the connection broke at the other end",
    Refusal.NOT_ALLOWED: "the other side doesn't allow connections to it",
    Refusal.UNREACHABLE: "the other side can't reach it",
    Refusal.TOO_MANY: "the other side has as many connections as it takes",
}
"""What a code says to people."""


class Target(NamedTuple):
    """Where a connection goes. Made by :meth:`parse`, two of the same host and port are equal."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """``HOST:PORT``, or ``[IPV6]:PORT``, in any spelling.

        :raises ConfigurationError: if it is neither, or the host is longer than 240 characters.
        """
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            try:
                plain = str(IPv6Address(host[1:-1]))
            except ValueError:
                plain = ""
        else:
            plain = host.lower() if _NAME.fullmatch(host) else ""
        if not plain or len(plain) > MAX_HOST or not _PORT.fullmatch(port) or int(port) > 65535:
            raise ConfigurationError(
                f"the target is {text!r}, expected HOST:PORT or [IPV6]:PORT, with a host of at most {MAX_HOST} "
                "characters and a port 1 to 65535"
            )
        return cls(plain, int(port))

    def __str__(self) -> str:
        """The one spelling."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def purpose(self) -> str:
        """That of a stream which asks for a connection to it."""
        return PURPOSE + str(self)


def parse_request_untrusted(purpose: str) -> Target:
    """The target that a stream of this purpose asks for.

    :raises Violation: if it asks for none, or spells it in another way than :class:`Target` does.
    """
    spelled = purpose.removeprefix(PURPOSE)
    try:
        target = Target.parse(spelled)
    except ConfigurationError:
        raise protocol_violation("a stream that asks for no connection") from None
    if target.purpose != purpose:
        raise protocol_violation("a target that is not spelled as it should be")
    return target


class Admission:
    """What is allowed, and how much of it at once: ``most`` connections."""

    __slots__ = ("_allowed", "most", "now")

    def __init__(self, allowed: Iterable[Target], most: int) -> None:
        self._allowed = frozenset(allowed)
        self.most = most
        self.now = 0
        """Connections that there are."""

    @property
    def full(self) -> bool:
        """Whether there are as many as there may be."""
        return self.now >= self.most

    def admit(self, target: Target) -> Refusal | None:
        """Why there can't be a connection to ``target``; None counts one more, until :meth:`release`."""
        if target not in self._allowed:
            return Refusal.NOT_ALLOWED
        if self.full:
            return Refusal.TOO_MANY
        self.now += 1
        return None

    def release(self) -> None:
        """One that was admitted is over."""
        self.now -= 1
