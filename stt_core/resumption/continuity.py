"""A session that is named by seeds: who holds them goes on with it, from whatever device, address or transport.

Rule: nothing here comes from the shared seed, for whatever does and is shown can be tested guesses against. The name
and the token are made of ``node_seed``, and the token is worth nothing without it (chapter, "Cryptographic Session
Continuity").
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from struct import Struct
from typing import Final

from stt_core.errors import ConfigurationError
from stt_core.keys import expand, extract, lv

ID_SIZE: Final = 8

_SALT: Final = b"STT1 continuity"
_MAGIC: Final = b"STTC\x01"
_FIXED: Final = Struct(">8sQIB")
_TAG: Final = 32


def continuity_id(node_seed: bytes, peer_node_id: bytes) -> bytes:
    """What names the session of this identity with that peer, 8 bytes: the same on all devices that hold the seed, and
    through every resume."""
    return expand(extract(_SALT, node_seed), "session", peer_node_id)[:ID_SIZE]


class ContinuityToken(bytes):
    """What ``create_resumable_session`` gives: ``bytes`` that don't show what they are. ``bytes(token)`` is what to
    store."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<ContinuityToken, {len(self)} bytes>"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class ContinuityContent:
    """What is in one: the session's name and peer, and until when it is good. ``issued`` is in seconds since 1970,
    ``lifetime`` in seconds."""

    session_id: bytes
    peer_node_id: bytes
    issued: float
    lifetime: int

    def is_good(self, wall: float) -> bool:
        """Whether it may still be used; a little before it was made, too, by a clock that goes behind."""
        return wall < self.issued + self.lifetime

    def seal(self, node_seed: bytes) -> ContinuityToken:
        """As bytes, for holders of that seed."""
        fixed = _FIXED.pack(self.session_id, round(self.issued * 1000), self.lifetime, len(self.peer_node_id))
        content = _MAGIC + fixed + self.peer_node_id
        return ContinuityToken(content + _tag(node_seed, content))

    @classmethod
    def of(cls, token: bytes, node_seed: bytes) -> ContinuityContent:
        """Read a token that an application kept.

        :raises ConfigurationError: if it is none, is damaged, or was made with another seed.
        """
        if not isinstance(token, bytes):
            raise ConfigurationError(f"a resume token is bytes, not {type(token).__name__}")
        content, tag = token[:-_TAG], token[-_TAG:]
        head = len(_MAGIC) + _FIXED.size
        if content[: len(_MAGIC)] != _MAGIC or len(content) < head:
            raise ConfigurationError("this is no resume token of create_resumable_session")
        if not hmac.compare_digest(_tag(node_seed, content), tag):
            raise ConfigurationError("the resume token is damaged, or belongs to another node_seed")
        session_id, issued, lifetime, size = _FIXED.unpack_from(content, len(_MAGIC))
        if len(content) != head + size:
            raise ConfigurationError("the resume token contradicts itself")
        return cls(session_id, content[head:], issued / 1000, lifetime)


def _tag(node_seed: bytes, content: bytes) -> bytes:
    return hmac.digest(expand(extract(_SALT, node_seed), "token"), lv(content), "sha256")
