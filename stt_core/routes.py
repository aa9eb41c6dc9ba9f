"""Which session a packet is for, by its connection id; and what to make of a packet that is for none.

Rule: an answer to a stranger costs no state and is smaller than what it answers. A reset token is given to nobody for
an id that may yet become a session.
"""

from __future__ import annotations

from collections.abc import Mapping

from stt_core.cids import CidMint
from stt_core.config import EndpointConfig
from stt_core.handshake.limits import TokenBucket
from stt_core.keys import mac
from stt_core.outbound import OVERHEAD
from stt_core.parameters import RESET_TOKEN_SIZE
from stt_core.session import Session
from stt_core.types import Entropy, SessionKey

SMALLEST_RESET = OVERHEAD + 1
"""As long as the smallest packet. A KEEP_ALIVE is 34 bytes, and it is what an idle peer of ours sends."""
LARGEST_RESET = OVERHEAD + RESET_TOKEN_SIZE
"""A reset is as long as a small packet, so that nobody can tell it from one."""


class Routes:
    """One endpoint's connection ids: a :class:`~stt_core.cids.CidRegistry` over ``known``, its sessions by their keys.

    ``sessions`` is the table itself, for those who look up once per packet.
    """

    __slots__ = ("_cids", "_entropy", "_known", "_peers_tokens", "_reset_key", "_resets", "sessions")

    def __init__(self, config: EndpointConfig, entropy: Entropy, known: Mapping[SessionKey, Session]) -> None:
        self._known = known
        self.sessions: dict[bytes, Session] = {}
        self._entropy = entropy
        self._reset_key = (
            mac(config.node_seed, b"STT1 reset key")
            if config.node_seed is not None and config.stable_resets
            else entropy(32)
        )
        self._cids = CidMint(entropy)
        self._resets = None if config.rate_limits is None else TokenBucket(config.rate_limits.resets_per_second, 10)
        self._peers_tokens: dict[bytes, SessionKey] = {}

    def __len__(self) -> int:
        """How many ids and tokens are known."""
        return len(self.sessions) + len(self._peers_tokens)

    def new_cid(self, now: float) -> bytes:
        """A fresh id that nobody has."""
        cid = self._cids.mint(now)
        while cid in self.sessions:
            cid = self._cids.mint(now)
        return cid

    def reset_token(self, cid: bytes) -> bytes:
        """What tells the peer that we have lost the session with this id; 16 bytes."""
        return mac(self._reset_key, cid)[:RESET_TOKEN_SIZE]

    def issue(self, key: SessionKey, now: float) -> tuple[bytes, bytes]:
        """A fresh id for packets to that session, and its reset token."""
        cid = self.new_cid(now)
        self.sessions[cid] = self._known[key]
        return cid, self.reset_token(cid)

    def withdraw(self, cid: bytes) -> None:
        """Packets to this id are nobody's from here on."""
        session = self.sessions.pop(cid, None)
        if session is not None:
            session.masks.pop(cid, None)

    def expect_reset(self, token: bytes, key: SessionKey) -> None:
        """A packet that ends with ``token`` says that the peer has lost this session."""
        if token:
            self._peers_tokens[token] = key

    def forget_reset(self, token: bytes) -> None:
        """Such a packet says nothing any more."""
        self._peers_tokens.pop(token, None)

    def reset_by(self, data: bytes) -> Session | None:
        """The session whose peer says so by this packet, if it does."""
        key = self._peers_tokens.get(data[-RESET_TOKEN_SIZE:])
        return None if key is None else self._known.get(key)

    def reset_for(self, data: bytes, now: float) -> bytes | None:
        """How to tell the sender of a packet to nobody that we know of no such session; None to say nothing."""
        # A cid of a handshake under way is readable to all: a reset for it would hand out the session's reset token.
        if self._cids.is_young(data[1:9], now):
            return None
        # Smaller than its trigger, so that two endpoints without state can't keep each other busy (RFC 9000 10.3.3).
        size = min(LARGEST_RESET, len(data) - 1)
        if size < SMALLEST_RESET or (self._resets is not None and not self._resets.take(now)):
            return None
        noise = self._entropy(size - RESET_TOKEN_SIZE)
        return bytes((0x40 | noise[0] & 4,)) + noise[1:] + self.reset_token(data[1:9])

    def forget(self, session: Session) -> None:
        """That session is over."""
        for cid in session.local_cids:
            if self.sessions.get(cid) is session:  # else another goes on with it
                del self.sessions[cid]
        for token in session.reset_tokens:
            if self._peers_tokens.get(token) == session.key:
                del self._peers_tokens[token]
