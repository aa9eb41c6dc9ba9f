"""How a responder stays stateless: what it would have to remember travels with the initiator, under a MAC.

Rule: an epoch's keys live in one process only and are gone after a minute, so a later theft of the machine opens no
recorded handshake. Times on the wire count from the birth of the key that authenticates them: they tell an observer
nothing of the machine's uptime.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache, partial
from typing import Final

from stt_core.crypto import ScalarMult
from stt_core.handshake.limits import host_of
from stt_core.keys import expand, lv, mac
from stt_core.packet import COOKIE_TH1, RETRY_TOKEN_SIZE, AuthProof, Challenge
from stt_core.types import Entropy, Path

COOKIE_LIFE: Final = 10.0
EPOCH_LIFE: Final = 30.0
ADDRESS_TOKEN_LIFE: Final = 86400.0
ADDRESS_TOKEN_SIZE: Final = 45

BOUND_SCALARS: Final = 64
"""How many are remembered between CHALLENGE and AUTH_PROOF, for as long as their epoch at the most. To bind one costs
a third of an AUTH_PROOF's X25519, and forgetting one costs no more than that."""

_MAC: Final = 16
_SALT: Final = slice(1, 9)
_AGE: Final = slice(9, 13)
_KNOWN_BIT: Final = 0x80
"""In a cookie's key_id: the HELLO carried a valid address token."""
_KEY_IDS: Final = 0x80


class TokenKind(Enum):
    """What a HELLO's token turned out to be; anything invalid is none."""

    NONE = "none"
    RETRY = "retry"
    ADDRESS = "address"


class _Epoch:
    """One random key and what is derived from it; ``key_id`` is 7 bits."""

    __slots__ = ("_bind", "_yb_key", "born", "cookie_key", "key_id", "retry_key")

    def __init__(self, key_id: int, secret: bytes, x25519: Callable[[bytes], ScalarMult], now: float) -> None:
        self.key_id = key_id
        self.born = now
        self._bind = lru_cache(maxsize=BOUND_SCALARS)(x25519)
        self._yb_key = expand(secret, "yb")
        self.cookie_key = expand(secret, "cookie")
        self.retry_key = expand(secret, "retry")

    def scalar(self, nonce_i: bytes, nonce_r: bytes) -> ScalarMult:
        """yb of the handshake with these nonces, bound."""
        return self._bind(mac(self._yb_key, lv(nonce_i, nonce_r)))

    def stamp(self, now: float) -> bytes:
        """Milliseconds since this key was born, u32."""
        return int((now - self.born) * 1000).to_bytes(4, "big")

    def issued_at(self, stamp: bytes) -> float:
        """The time that :meth:`stamp` gave these 4 bytes at, to a millisecond."""
        return self.born + int.from_bytes(stamp, "big") / 1000


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie of ours that came back unharmed, and how to get the scalar yb that goes with it, which is some work.

    ``known``: its HELLO showed an address token. ``issued_at`` is for the caller to judge.
    """

    th1: bytes
    known: bool
    issued_at: float
    scalar: Callable[[], ScalarMult] = field(repr=False)


class EpochKeys:
    """Cookies, RETRY tokens and the responder's own CPace scalars; ``x25519`` is the provider's.

    A key is made when first needed, used for 30 s and kept for 30 more; with nothing to do there is no key and no
    timer.
    """

    __slots__ = ("_current", "_entropy", "_next_id", "_previous", "_x25519")

    def __init__(self, entropy: Entropy, x25519: Callable[[bytes], ScalarMult]) -> None:
        self._entropy = entropy
        self._x25519 = x25519
        self._next_id = 0
        self._current: _Epoch | None = None
        self._previous: _Epoch | None = None

    def scalar(self, nonce_i: bytes, nonce_r: bytes, now: float) -> ScalarMult:
        """The CPace scalar yb of the handshake with these nonces, for a CHALLENGE made now."""
        return self._fresh(now).scalar(nonce_i, nonce_r)

    def issue(self, path: Path, nonce_i: bytes, challenge: Challenge, th1: bytes, now: float, *, known: bool) -> bytes:
        """The 53-byte cookie for this CHALLENGE (whose own cookie field is not looked at)."""
        epoch = self._fresh(now)
        key_id = bytes((epoch.key_id | (_KNOWN_BIT if known else 0),))
        stamp = epoch.stamp(now)
        covered = (challenge.dcid, challenge.scid, _choices(challenge.suite, challenge.flags), challenge.yb)
        tag = _cookie_mac(epoch, path, key_id + stamp, th1, nonce_i, challenge.nonce_r, *covered)
        return key_id + stamp + th1 + tag

    def check(self, path: Path, proof: AuthProof) -> Cookie | None:
        """The cookie in an AUTH_PROOF from ``path``; None if it is not ours or anything it covers was changed.

        Costs one HMAC where it is a forgery.
        """
        cookie = proof.cookie
        epoch = self._find(cookie[0] & ~_KNOWN_BIT)
        if epoch is None:
            return None
        th1 = cookie[COOKIE_TH1]
        covered = (proof.scid, proof.dcid, _choices(proof.suite, proof.flags), proof.yb)
        tag = _cookie_mac(epoch, path, cookie[:5], th1, proof.nonce_i, proof.nonce_r, *covered)
        if not hmac.compare_digest(tag, cookie[COOKIE_TH1.stop :]):
            return None
        known = bool(cookie[0] & _KNOWN_BIT)
        return Cookie(th1, known, epoch.issued_at(cookie[1:5]), partial(epoch.scalar, proof.nonce_i, proof.nonce_r))

    def retry_token(self, path: Path, nonce_i: bytes, now: float) -> bytes:
        """21 bytes that prove, for 10 s, that whoever sends them back can read what is sent to ``path``."""
        epoch = self._fresh(now)
        head = bytes((epoch.key_id,)) + epoch.stamp(now)
        return head + _retry_mac(epoch, path, head, nonce_i)

    def check_retry(self, token: bytes, path: Path, nonce_i: bytes, now: float) -> bool:
        """Whether this is a RETRY token for that path and nonce, and still good."""
        epoch = self._find(token[0]) if len(token) == RETRY_TOKEN_SIZE else None
        if epoch is None or not hmac.compare_digest(_retry_mac(epoch, path, token[:5], nonce_i), token[5:]):
            return False
        return now - epoch.issued_at(token[1:5]) < COOKIE_LIFE

    def expire(self, now: float) -> None:
        """Forget keys whose time has come."""
        if self._current is not None and now >= self._current.born + EPOCH_LIFE:
            self._previous, self._current = self._current, None
        if self._previous is not None and now >= self._previous.born + 2 * EPOCH_LIFE:
            self._previous = None

    def next_timer(self) -> float | None:
        """When :meth:`expire` next has something to forget."""
        if self._previous is not None:
            return self._previous.born + 2 * EPOCH_LIFE
        return None if self._current is None else self._current.born + EPOCH_LIFE

    def _fresh(self, now: float) -> _Epoch:
        self.expire(now)
        if self._current is None:
            self._current = _Epoch(self._next_id, self._entropy(32), self._x25519, now)
            self._next_id = (self._next_id + 1) % _KEY_IDS
        return self._current

    def _find(self, key_id: int) -> _Epoch | None:
        for epoch in (self._current, self._previous):
            if epoch is not None and epoch.key_id == key_id:
                return epoch
        return None


class _AddressKey:
    """One random key for address tokens; ``key_id`` is 8 bits."""

    __slots__ = ("_mac_key", "_mask_key", "born", "key_id")

    def __init__(self, key_id: int, secret: bytes, now: float) -> None:
        self.key_id = key_id
        self.born = now
        self._mac_key = expand(secret, "address token")
        self._mask_key = expand(secret, "address token age")

    def masked(self, age: bytes, salt: bytes) -> bytes:
        """The 4 bytes of the age hidden, or shown again."""
        mask = mac(self._mask_key, salt)
        return (int.from_bytes(age, "big") ^ int.from_bytes(mask[:4], "big")).to_bytes(4, "big")

    def mac(self, path: Path, head: bytes) -> bytes:
        """What ends the token that begins with ``head``."""
        return mac(self._mac_key, lv(head, host_of(path.address).encode()))


class AddressTokens:
    """Tokens a peer gets once it is established, and shows when it comes again: "I was here, from this address".

    They skip RETRY and mark their bearer as one that held the seed. Bound to the host, not the port; 24 h. Their age is
    hidden and no two are alike: it would tell observers which of all the sessions seen before is being followed up.
    """

    __slots__ = ("_entropy", "_keys", "_next_id")

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._next_id = 0
        self._keys: list[_AddressKey] = []

    def issue(self, path: Path, now: float) -> bytes:
        """45 bytes: key_id, random bytes, seconds since that key's birth under a mask that depends on them, MAC."""
        self._expire(now)
        if not self._keys or now >= self._keys[-1].born + ADDRESS_TOKEN_LIFE:
            self._keys.append(_AddressKey(self._next_id, self._entropy(32), now))
            self._next_id = (self._next_id + 1) % 256
        key = self._keys[-1]
        salt = self._entropy(8)
        head = bytes((key.key_id,)) + salt + key.masked(int(now - key.born).to_bytes(4, "big"), salt)
        return head + key.mac(path, head)

    def check(self, token: bytes, path: Path, now: float) -> bool:
        """Whether this is a token of ours for that host, and still good."""
        if len(token) != ADDRESS_TOKEN_SIZE:
            return False
        self._expire(now)
        for key in self._keys:
            if key.key_id == token[0] and hmac.compare_digest(key.mac(path, token[: _AGE.stop]), token[_AGE.stop :]):
                age = int.from_bytes(key.masked(token[_AGE], token[_SALT]), "big")
                return now - (key.born + age) < ADDRESS_TOKEN_LIFE
        return False

    def _expire(self, now: float) -> None:
        # A key signs for a day, and its last token lives for another.
        self._keys = [key for key in self._keys if now <= key.born + 2 * ADDRESS_TOKEN_LIFE]


def _choices(suite: int, flags: int) -> bytes:
    return suite.to_bytes(2, "big") + flags.to_bytes(2, "big")


def _cookie_mac(epoch: _Epoch, path: Path, head: bytes, *covered: bytes) -> bytes:
    return mac(epoch.cookie_key, lv(head, _path_name(path), *covered))[:_MAC]


def _retry_mac(epoch: _Epoch, path: Path, head: bytes, nonce_i: bytes) -> bytes:
    return mac(epoch.retry_key, lv(head, _path_name(path), nonce_i))[:_MAC]


@lru_cache(maxsize=64)
def _path_name(path: Path) -> bytes:
    """A path as bytes: two datagrams of one sender always give the same, two senders never do."""
    address = path.address
    if isinstance(address, tuple) and len(address) >= 2:
        # The flow label in third place may differ from packet to packet; the scope in fourth may not.
        return lv(path.transport.encode(), repr((address[:2], address[3:])).encode())
    return lv(path.transport.encode(), repr(address).encode())
