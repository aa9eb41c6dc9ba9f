"""Ticket keys and spent tickets: what all processes of one service share, behind one synchronous interface.

Rule: a ticket key is random, never derived from a seed, and rotates; a ticket that was spent stays spent for as long as
it would have been good. Whoever can't tell says so with :class:`StoreError`, and the session begins afresh.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from stt_core.errors import StoreError
from stt_core.types import Entropy

KEY_LIFE: Final = 12 * 3600.0
"""Seconds for which a key makes tickets."""
OLD_KEYS: Final = 2
"""Earlier keys whose tickets are accepted: with a day for a ticket, none is refused for its key before its time."""
KEY_ID_SIZE: Final = 4
SECRET_SIZE: Final = 32
MOST_SPENT: Final = 1 << 17
"""Spent tickets remembered in memory. Where there are more, no ticket is taken: to forget one could let it in twice."""


class TicketKey(NamedTuple):
    """A key for tickets: 4 bytes of name, 32 of secret, and when it was made, in seconds since 1970."""

    key_id: bytes
    secret: bytes
    made: float

    def __repr__(self) -> str:
        return f"<TicketKey {self.key_id.hex()}>"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys in use, the newest first."""

    keys: tuple[TicketKey, ...] = field(default=(), repr=False)

    def is_fresh(self, wall: float) -> bool:
        """Whether the newest may still make tickets."""
        return bool(self.keys) and wall < self.keys[0].made + KEY_LIFE

    def rotated(self, wall: float, entropy: Entropy) -> KeyRing:
        """With a new key in front, and no more old ones than are accepted."""
        key = TicketKey(entropy(KEY_ID_SIZE), entropy(SECRET_SIZE), wall)
        return KeyRing((key, *self.keys[:OLD_KEYS]))

    def find(self, key_id: bytes, wall: float) -> TicketKey | None:
        """The key of that name, where its tickets are accepted."""
        for key in self.keys:
            if key.key_id == key_id and wall < key.made + (1 + OLD_KEYS) * KEY_LIFE:
                return key
        return None


class TicketStore(Protocol):
    """Where an endpoint gets its ticket keys from and asks whether a ticket was spent.

    ``wall`` is the time in seconds since 1970. An implementation may do I/O, and the endpoint waits for it: it must be
    a matter of microseconds, or be bounded and rare. Where it can't answer it raises :class:`StoreError`; no ticket is
    given then, and none opens streams.
    """

    def current(self, wall: float) -> TicketKey:
        """The key to make tickets with, less than :data:`KEY_LIFE` old."""
        ...

    def find(self, key_id: bytes, wall: float) -> TicketKey | None:
        """The key of that name, where its tickets are accepted."""
        ...

    def is_spent(self, ticket_id: bytes, wall: float) -> bool:
        """Whether the ticket of that id (16 bytes) was spent. May err towards no: :meth:`spend` doesn't."""
        ...

    def spend(self, ticket_id: bytes, expires: float, wall: float) -> bool:
        """Spend it, in one step for all who share the store; False where somebody did before.

        It must be remembered until ``expires``.
        """
        ...


class MemoryTicketStore:
    """The store of a process that shares it with nobody: a restart makes its tickets worthless."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._ring = KeyRing()
        self._spent: dict[bytes, float] = {}

    def current(self, wall: float) -> TicketKey:
        """See :class:`TicketStore`."""
        if not self._ring.is_fresh(wall):
            self._ring = self._ring.rotated(wall, self._entropy)
        return self._ring.keys[0]

    def find(self, key_id: bytes, wall: float) -> TicketKey | None:
        """See :class:`TicketStore`."""
        return self._ring.find(key_id, wall)

    def is_spent(self, ticket_id: bytes, wall: float) -> bool:
        """See :class:`TicketStore`."""
        return ticket_id in self._spent

    def spend(self, ticket_id: bytes, expires: float, wall: float) -> bool:
        """See :class:`TicketStore`.

        :raises StoreError: where too many are remembered.
        """
        if ticket_id in self._spent:
            return False
        if len(self._spent) >= MOST_SPENT:
            self._spent = {spent: until for spent, until in self._spent.items() if until > wall}
            if len(self._spent) >= MOST_SPENT:
                raise StoreError(f"{MOST_SPENT} tickets were spent within a day")
        self._spent[ticket_id] = expires
        return True

    def __repr__(self) -> str:
        return f"<MemoryTicketStore, {len(self._spent)} spent>"
