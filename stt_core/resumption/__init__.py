"""Resuming a session: the tickets that allow it, where their keys come from, and what is kept of whom meanwhile.

Rule: a ticket alone is worth nothing. It is good once, for a day at most, together with the seed, and with the identity
it was given to where that one lasts. What decides over a session is in :mod:`stt_core.resuming`; here is what can be
said without one.
"""

from __future__ import annotations

from stt_core.resumption.records import Detached, Record, Records
from stt_core.resumption.store import KEY_LIFE, KeyRing, MemoryTicketStore, TicketKey, TicketStore
from stt_core.resumption.ticket import TICKET_SIZE, Claims, open_ticket_untrusted, seal_ticket, ticket_secret
from stt_core.resumption.token import ResumptionToken, TokenContent

__all__ = [
    "KEY_LIFE",
    "TICKET_SIZE",
    "Claims",
    "Detached",
    "KeyRing",
    "MemoryTicketStore",
    "Record",
    "Records",
    "ResumptionToken",
    "TicketKey",
    "TicketStore",
    "TokenContent",
    "open_ticket_untrusted",
    "seal_ticket",
    "ticket_secret",
]
