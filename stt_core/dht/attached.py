"""A DHT node on an endpoint's socket: its messages go beside the packets of sessions, or inside sessions.

With the carrier ``"udp"`` a message is a datagram of its own. With ``"session"``, which is private mode, it is a DHT
frame in a session with the node at that address: any that is there will do, else one is made for it, which says so in
its handshake and of which no application hears. Whoever doesn't hold the seed has no session, and so no part in it:
nothing that is no frame of a session is listened to or answered.

Rule: a message that can't leave is lost, as any may be; what waits for a session is bounded, and a session that was
made for messages ends when there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from stt_core.dht.events import DHTEvent
from stt_core.dht.ids import Address
from stt_core.dht.node import Dht, address_of
from stt_core.endpoint import Endpoint
from stt_core.errors import ErrorCode, StateError
from stt_core.events import (
    AnyEvent,
    DatagramsReadable,
    DhtReadable,
    HandshakeFailed,
    PathChanged,
    SessionClosed,
    SessionEstablished,
    StreamOpened,
)
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.types import Path, SessionKey

MOST_OPEN: Final = 256
"""Sessions made for messages, being made or open; the one unused longest makes room."""
MOST_WAITING: Final = 8
"""Messages that wait for one session to be made."""
UNUSED: Final = 60.0
"""Seconds without a message either way, after which a session made for messages is closed by who made it."""


@dataclass(slots=True)
class _Dial:
    """A session that is being made, and what is to be said over it."""

    key: SessionKey
    messages: list[bytes] = field(default_factory=list)


class AttachedDht:
    """``dht`` on the socket of ``endpoint``. Its carrier says how its messages travel.

    The endpoint drives it, by its own verbs; give it each event of the endpoint's, too (:meth:`handle_event`), and call
    :meth:`flush` after each command to ``dht``. What the DHT has to tell goes to ``on_event``. ``reaches_ipv6`` says
    whether the socket does: others may name nodes that it doesn't.

    :raises StateError: where the endpoint has a DHT already.
    """

    def __init__(
        self, dht: Dht, endpoint: Endpoint, on_event: Callable[[DHTEvent], None], *, reaches_ipv6: bool = True
    ) -> None:
        endpoint.attach(self)
        self.dht = dht
        self.private = dht.config.carrier == "session"
        self._endpoint = endpoint
        self._on_event = on_event
        self._reaches_ipv6 = reaches_ipv6
        self._at: dict[Address, SessionKey] = {}
        self._where: dict[SessionKey, Address] = {}
        self._dials: dict[Address, _Dial] = {}
        self._used: dict[SessionKey, float] = {}  # those we made, and when; the one unused longest first
        self.counters = {"outsiders": 0, "lost": 0, "sessions_made": 0}

    def detach(self) -> None:
        """Leave the endpoint, and close all sessions that were there for this."""
        self._endpoint.attach(None)
        for dial in list(self._dials.values()):
            self._close(dial.key)
        for session in self._endpoint.sessions():
            if session.dht_only:
                self._close(session.key)
        self._dials.clear()
        self._used.clear()

    # --- what happened: called by the endpoint

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        """See :class:`~stt_core.guest.Guest`."""
        if self.private:
            self.counters["outsiders"] += 1
            return
        self.dht.receive_datagram(data, path, now)
        self.flush(now)

    def handle_timer(self, now: float) -> None:
        """See :class:`~stt_core.guest.Guest`."""
        for key, since in list(self._used.items()):
            if since + UNUSED > now:
                break
            self._close(key)
        self.dht.handle_timer(now)
        self.flush(now)

    def next_timer(self) -> float | None:
        """See :class:`~stt_core.guest.Guest`."""
        due = self.dht.next_timer()
        for since in self._used.values():
            return since + UNUSED if due is None else min(due, since + UNUSED)
        return due

    # --- what happened: told by who takes the endpoint's events

    def handle_event(self, event: AnyEvent, now: float) -> None:
        """The endpoint told this. Sessions whose ``SessionEstablished`` says ``dht_only`` are for nobody else."""
        if isinstance(event, SessionEstablished):
            self._on_established(event, now)
        elif isinstance(event, DhtReadable):
            self._on_readable(event.session_key, now)
        elif isinstance(event, PathChanged):
            self._note(event.session_key, event.path)
        elif isinstance(event, SessionClosed | HandshakeFailed):
            self._forget(event.session_key)
        elif isinstance(event, StreamOpened | DatagramsReadable):
            session = self._session(event.session_key)
            if session is not None and session.dht_only:  # nobody would ever read them
                session.close(ErrorCode.PROTOCOL_VIOLATION, "this session is for DHT messages")
        else:
            return
        self.flush(now)

    def _on_established(self, event: SessionEstablished, now: float) -> None:
        if event.dht_only and not self.private:
            refuse(self._endpoint, event.session_key)
            return
        self._note(event.session_key, event.path)
        address = address_of(event.path)
        dial = None if address is None else self._dials.get(address)
        if dial is not None and dial.key == event.session_key and address is not None:
            del self._dials[address]
            self._used[event.session_key] = now
            for message in dial.messages:
                self._send(message, address, now)

    def _on_readable(self, key: SessionKey, now: float) -> None:
        session = self._session(key)
        if session is None:
            return
        address = self._note(key, session.path)
        while (message := session.read_dht()) is not None:
            if self.private and address is not None:  # who has only a WebSocket can't be told others of
                self.dht.receive_datagram(message, Path("session", address), now)
        self._touch(key, now)

    # --- what to do

    def flush(self, now: float) -> None:
        """Send what the DHT has to say, and tell what it has to tell."""
        while (out := self.dht.poll_transmit(now)) is not None:
            address = address_of(out.path)
            if address is None or (":" in address[0] and not self._reaches_ipv6):
                self.counters["lost"] += 1
            elif self.private:
                self._send(out.data, address, now)
            else:
                self.counters["lost"] += not self._endpoint.send_raw(out.data, out.path)
        while (event := self.dht.next_event()) is not None:
            self._on_event(event)

    def _send(self, message: bytes, address: Address, now: float) -> None:
        """In a session with the node at this address, once there is one."""
        key = self._at.get(address)
        session = None if key is None else self._session(key)
        if session is not None and session.state is SessionState.ESTABLISHED:
            self.counters["lost"] += not session.send_dht(message)
            self._touch(session.key, now)
            return
        dial = self._dials.get(address)
        if dial is None:
            dial = self._dial(address, now)
        if dial is None or len(dial.messages) >= MOST_WAITING:
            self.counters["lost"] += 1
        else:
            dial.messages.append(message)

    def _dial(self, address: Address, now: float) -> _Dial | None:
        if len(self._used) + len(self._dials) >= MOST_OPEN:
            if not self._used:
                return None
            self._close(next(iter(self._used)))
        try:
            key = self._endpoint.connect(address, now=now, timeout=self.dht.config.rpc_timeout, dht_only=True)
        except StateError:  # max_sessions
            return None
        self.counters["sessions_made"] += 1
        self._where[key] = address
        dial = self._dials[address] = _Dial(key)
        return dial

    # --- book-keeping

    def _session(self, key: SessionKey) -> Session | None:
        try:
            return self._endpoint.session(key)
        except LookupError:
            return None

    def _note(self, key: SessionKey, path: Path) -> Address | None:
        """Where this session leads to now, if by UDP."""
        address = address_of(path) if path.transport == "udp" else None
        before = self._where.get(key)
        if address != before:
            self._leave(key)
            if address is not None:
                self._where[key] = address
        if address is not None:
            self._at[address] = key
        return address

    def _leave(self, key: SessionKey) -> None:
        before = self._where.pop(key, None)
        if before is not None and self._at.get(before) == key:
            del self._at[before]

    def _forget(self, key: SessionKey) -> None:
        """It is over, or never was."""
        address = self._where.get(key)
        dial = None if address is None else self._dials.get(address)
        if dial is not None and dial.key == key and address is not None:
            self.counters["lost"] += len(self._dials.pop(address).messages)
        self._leave(key)
        self._used.pop(key, None)

    def _touch(self, key: SessionKey, now: float) -> None:
        if self._used.pop(key, None) is not None:
            self._used[key] = now

    def _close(self, key: SessionKey) -> None:
        self._used.pop(key, None)
        session = self._session(key)
        if session is not None:
            session.close()


def refuse(endpoint: Endpoint, key: SessionKey) -> None:
    """Somebody made a session for DHT messages with a node that has nothing to say to them."""
    endpoint.session(key).close(ErrorCode.APPLICATION, "no private DHT is here")
