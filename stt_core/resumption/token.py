"""What an application keeps to resume a session later: opaque bytes, to be treated as a secret.

Rule: whoever has the token and the seed has the session, so nothing of it shows in a ``repr`` or a log. It is
versioned, so that a later release can tell an old one; a checksum tells one that was damaged where it lay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from stt_core.errors import ConfigurationError
from stt_core.keys import transcript_hash

_MAGIC: Final = b"STTR\x01"
_FIXED: Final = Struct(">32s32s8sIQIB32sBH")
_CHECK: Final = 8


class ResumptionToken(bytes):
    """``Session.resumption_token``: ``bytes`` that don't show what they are. ``bytes(token)`` is what to store."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<ResumptionToken, {len(self)} bytes, secret>"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class TokenContent:
    """What is in one. ``issued`` is in seconds since 1970, ``lifetime`` in seconds.

    ``peer_key`` is the identity the peer has to prove again; None where it has none that lasts. ``heir`` is what shows
    that it was we who spent the ticket, where we tried; else empty.
    """

    rpsk: bytes = field(repr=False)
    heir: bytes = field(repr=False)
    session_id: bytes
    epoch: int
    issued: float
    lifetime: int
    peer_key: bytes | None
    peer_node_id: bytes
    ticket: bytes = field(repr=False)

    def seal(self) -> ResumptionToken:
        """As bytes."""
        fixed = _FIXED.pack(
            self.rpsk,
            self.heir or bytes(32),
            self.session_id,
            self.epoch,
            round(self.issued * 1000),
            self.lifetime,
            self.peer_key is not None,
            self.peer_key or bytes(32),
            len(self.peer_node_id),
            len(self.ticket),
        )
        content = _MAGIC + fixed + self.peer_node_id + self.ticket
        return ResumptionToken(content + _checksum(content))

    @classmethod
    def of(cls, token: bytes) -> TokenContent:
        """Read a token that an application kept.

        :raises ConfigurationError: if it is none, or not whole.
        """
        if not isinstance(token, bytes):
            raise ConfigurationError(f"a resumption token is bytes, not {type(token).__name__}")
        content, check = token[:-_CHECK], token[-_CHECK:]
        if token[: len(_MAGIC)] != _MAGIC:
            raise ConfigurationError("this is no resumption token, or one of another version")
        if len(token) < len(_MAGIC) + _FIXED.size + _CHECK or _checksum(content) != check:
            raise ConfigurationError("the resumption token is damaged: it is not what session.resumption_token gave")
        rpsk, heir, session_id, epoch, issued, lifetime, kept, peer_key, id_size, size = _FIXED.unpack_from(
            content, len(_MAGIC)
        )
        rest = content[len(_MAGIC) + _FIXED.size :]
        if len(rest) != id_size + size:
            raise ConfigurationError("the resumption token contradicts itself")
        key = peer_key if kept else None
        return cls(
            rpsk,
            heir if any(heir) else b"",
            session_id,
            epoch,
            issued / 1000,
            lifetime,
            key,
            rest[:id_size],
            rest[id_size:],
        )


def _checksum(content: bytes) -> bytes:
    """Against damage, not against forgery: who can write it knows the secret in it."""
    return transcript_hash("resumption token", content)[:_CHECK]
