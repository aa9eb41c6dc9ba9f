"""Ticket keys and spent tickets in Redis: what the processes of one service share on several machines.

Rule: one question is one round trip, bounded by ``timeout``, and a Redis that didn't answer is left alone for a while,
so that an event loop is held up by it for a few per cent of its time at the very worst. Where Redis can't answer, no
ticket counts as unspent; where it has lost what it knew, all tickets are void.

Under ``{name}:`` there are ``since`` (a random value, made with the first key and never changed), ``key:N`` (the key of
the Nth twelve hours since 1970) and ``spent:ID``. All but the first expire by themselves. Whoever can read them and
knows the seed can resume sessions: give Redis a password, and TLS where the network isn't yours (docs/resumption.md).
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stt_core.errors import ConfigurationError, StoreError
from stt_core.resumption import KEY_LIFE, KeyRing, TicketKey
from stt_core.resumption.store import KEY_ID_SIZE, OLD_KEYS, SECRET_SIZE

logger = logging.getLogger("stt.tickets")

SKEW: Final = 300.0
"""Seconds by which the machines' clocks may differ: for so much longer than it must, Redis remembers."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds in which a Redis that didn't answer isn't asked again, doubled each time it still doesn't."""

_KEY: Final = Struct(f">{KEY_ID_SIZE}s{SECRET_SIZE}sd")


class RedisTicketStore:
    """A :class:`~stt_core.resumption.TicketStore` in the Redis at ``url``, under keys that begin with ``{name}:``.

    :param url: ``redis://host:port/db``, ``rediss://`` for TLS, or ``unix:///path``; user and password may be in it. A
        host's name is resolved by the system, whose patience isn't ``timeout``: better give an address.
    :param timeout: seconds that connecting and each answer may take.
    :raises ConfigurationError: on a wrong argument. Redis itself is first asked when it is needed, or by :meth:`check`.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "stt",
        timeout: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < timeout <= 10:
            raise ConfigurationError(f"timeout is {timeout!r}, expected up to 10 seconds")
        if not name or not name.isprintable() or set("{}") & set(name):
            raise ConfigurationError(f"name is {name!r}, expected printable characters other than braces")
        try:
            self._redis = redis.Redis.from_url(
                url,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                # Once more, at once, on a connection that had been closed meanwhile; never after waiting in vain.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),  # type: ignore[no-untyped-call, unused-ignore]
            )
        except ValueError as error:
            raise ConfigurationError(f"the URL of the ticket store is none that Redis has: {error}") from None
        self._prefix = f"{{{name}}}:"
        self._clock = clock
        self._pause = 0.0
        self._mute_until = -math.inf
        self._ring = KeyRing()
        self._since: bytes | None = None
        """Of which of its lives our ring is: a Redis that lost its memory has another, or none."""

    def __repr__(self) -> str:
        return f"<RedisTicketStore {self._prefix}>"

    def check(self) -> None:
        """Ask whether it can be used: for the start of a service, which goes on without, too.

        :raises StoreError: if Redis can't be reached, or is set to forget what hasn't expired.
        """
        (memory,) = self._ask(lambda ask: ask.info("memory"))
        policy = memory.get("maxmemory_policy", "noeviction")
        if memory.get("maxmemory", 0) and policy != "noeviction":
            raise StoreError(
                f"Redis forgets what it has no room for (maxmemory-policy {policy}), spent tickets, too: "
                "they could be used again. Set noeviction"
            )

    # --- see TicketStore

    def current(self, wall: float) -> TicketKey:
        """See :class:`~stt_core.resumption.TicketStore`. Asks Redis twice a day."""
        if not self._ring.is_fresh(wall):
            slot = int(wall // KEY_LIFE)
            made = _KEY.pack(os.urandom(KEY_ID_SIZE), os.urandom(SECRET_SIZE), slot * KEY_LIFE)
            life = _milliseconds((1 + OLD_KEYS) * KEY_LIFE + SKEW)

            def ask(redis: Any) -> None:
                redis.set(self._name("since"), os.urandom(16), nx=True)
                redis.get(self._name("since"))
                redis.set(self._key_name(slot), made, nx=True, px=life)  # whoever is first makes it for all
                redis.get(self._key_name(slot))

            _, since, _, found = self._ask(ask)
            self._is_same(since)
            self._ring = KeyRing((self._key(found), *self._ring.keys[:OLD_KEYS]))
        return self._ring.keys[0]

    def find(self, key_id: bytes, wall: float) -> TicketKey | None:
        """See :class:`~stt_core.resumption.TicketStore`. Asks Redis for a key that this process hasn't met."""
        found = self._ring.find(key_id, wall)
        if found is None:
            newest = int(wall // KEY_LIFE)
            slots = range(newest + 1, newest - OLD_KEYS - 2, -1)  # a clock that goes before has made the next

            def ask(redis: Any) -> None:
                redis.get(self._name("since"))
                redis.mget([self._key_name(slot) for slot in slots])

            since, values = self._ask(ask)
            self._is_same(since)
            self._ring = KeyRing(tuple(self._key(value) for value in values if value is not None))
            found = self._ring.find(key_id, wall)
        return found

    def is_spent(self, ticket_id: bytes, wall: float) -> bool:
        """See :class:`~stt_core.resumption.TicketStore`."""

        def ask(redis: Any) -> None:
            redis.get(self._name("since"))
            redis.exists(self._spent_name(ticket_id))

        since, spent = self._ask(ask)
        self._hold_to(since)
        return bool(spent)

    def spend(self, ticket_id: bytes, expires: float, wall: float) -> bool:
        """See :class:`~stt_core.resumption.TicketStore`."""
        mark = os.urandom(16)  # by which we know our own again, where it was asked twice

        def ask(redis: Any) -> None:
            redis.get(self._name("since"))
            redis.set(self._spent_name(ticket_id), mark, nx=True, px=_milliseconds(max(expires - wall, 0.0) + SKEW))
            redis.get(self._spent_name(ticket_id))

        since, _, found = self._ask(ask)
        self._hold_to(since)
        return bool(found == mark)

    # --- Redis

    def _name(self, what: str) -> str:
        return self._prefix + what

    def _key_name(self, slot: int) -> str:
        return self._name(f"key:{slot}")

    def _spent_name(self, ticket_id: bytes) -> str:
        return self._name(f"spent:{ticket_id.hex()}")

    def _key(self, value: Any) -> TicketKey:
        if not isinstance(value, bytes) or len(value) != _KEY.size:
            raise StoreError(f"what Redis has under {self._prefix}key is no ticket key: another uses this name")
        return TicketKey(*_KEY.unpack(value))

    def _is_same(self, since: Any) -> bool:
        """Whether Redis still has what it had when we first asked; where not, so that we forget it, too."""
        same = since is not None and self._since in (None, since)
        if not same:
            self._ring = KeyRing()
        self._since = since
        return same

    def _hold_to(self, since: Any) -> None:
        if not self._is_same(since):
            raise StoreError("Redis has lost which tickets were spent: those given before are void")

    def _ask(self, ask: Callable[[Any], object]) -> list[Any]:
        """One transaction, in one round trip.

        :raises StoreError: where Redis doesn't answer, or not soon enough, or refuses.
        """
        now = self._clock()
        if now < self._mute_until:
            raise StoreError(f"Redis didn't answer, and is not asked again for {self._mute_until - now:.1f} s")
        try:
            with self._redis.pipeline(transaction=True) as pipeline:
                ask(pipeline)
                answers = pipeline.execute()
        except redis.RedisError as error:
            self._pause = min(max(2 * self._pause, FIRST_PAUSE), LONGEST_PAUSE)
            self._mute_until = self._clock() + self._pause
            logger.warning("the ticket store doesn't answer, for %g s it is not asked: %s", self._pause, error)
            raise StoreError(f"Redis doesn't answer: {error}") from error
        if self._pause:
            logger.info("the ticket store answers again")
            self._pause = 0.0
        return list(answers)


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)
