"""How one session ends, and everything there is to know of it meanwhile.

Rule: an end is told once. Whatever happens, the application hears of one reason, nothing waits for what can't come any
more, and the last words are bounded (:mod:`stt_core.closing`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stt_core import frames
from stt_core.budget import RemoteBudget
from stt_core.channel import Channel
from stt_core.closing import Farewell, code_name, reason_of
from stt_core.commands import Commands
from stt_core.context import Context
from stt_core.errors import CloseReason, ConnectError, ErrorCode, SessionClosedError, STTError
from stt_core.events import HandshakeFailed, SessionClosed
from stt_core.handshake import HandshakeResult, Initiator, Peer
from stt_core.keys import CidMask
from stt_core.resumption import Record, ResumptionToken, TokenContent
from stt_core.state import SESSION, SessionState, SessionTrigger, advance
from stt_core.statistics import SessionStatistics
from stt_core.timers import Timer, Timers
from stt_core.types import Path, Resumed, Role, SessionKey

_CLOSE_ACK: Final = frames.SessionCloseAck().encode()


class Life(Commands):
    """What :class:`~stt_core.session.Session` is built on."""

    __slots__ = (
        "_attempt", "_awaiting", "_begin", "_close_request", "_epoch", "_farewell", "_gives_up_at", "_initiator",
        "_owes_welcome", "_path", "_peer", "_untold", "dht_only", "local_cid", "masks", "record",
        "resumption_secret", "resumed", "role", "scheduled_at", "ticket", "timers",
    )  # fmt: skip

    def __init__(self, context: Context, key: SessionKey, role: Role, path: Path, local_cid: bytes) -> None:
        super().__init__(context, key)
        self.role = role
        self.local_cid = local_cid
        self.dht_only = False
        """Whether it was made to carry DHT messages, by us or by the peer: no application knows of it."""
        self.masks: dict[bytes, CidMask] = {}
        """How packets to those of our connection ids are masked that any came to; empty before there are keys."""
        self.scheduled_at: float | None = None
        """The endpoint's own note: where it stands in its agenda."""
        self._path = path
        self.timers = Timers()
        """All this session waits for."""
        self._begin: Callable[[float], Initiator] | None = None
        self._initiator: Initiator | None = None
        self._peer: Peer | None = None
        self._farewell: Farewell | None = None
        self._close_request: tuple[int, str, float] | None = None
        self.resumed = Resumed.NO
        """How much of an earlier session goes on in this one."""
        self.record: Record | None = None
        """The endpoint's own note on whom a ticket was given to."""
        self._awaiting: HandshakeResult | None = None  # to be resumed, once a packet shows that it was no replay
        self._attempt: SessionKey | None = None  # what brought the new keys, until the peer confirmed them
        self._untold = False  # to be reported once the peer confirmed
        self._owes_welcome = False  # what the peer may need another time is yet to be sent
        self.ticket: TokenContent | None = None
        """What the peer gave to resume it with; :attr:`resumption_token` is for the application."""
        self._epoch = 0
        self.resumption_secret = b""
        """What the secrets of its tickets come from, 32 bytes; kept while it is detached."""
        self._gives_up_at = 0.0

    def __repr__(self) -> str:
        return f"<Session {self.session_id.hex() or self.key} {self.state.value} {self.role.name.lower()}>"

    # --- getters

    @property
    def session_id(self) -> bytes:
        """8 bytes, the same on both sides; public, for logs and the API. Empty before the handshake is done."""
        return self._peer.session_id if self._peer else b""

    @property
    def peer_node_id(self) -> bytes:
        """The label the peer gave itself; any holder of the seed can claim any label. Empty before the handshake."""
        return self._peer.node_id if self._peer else b""

    @property
    def peer_identity_key(self) -> bytes | None:
        """The peer's proven Ed25519 public key, 32 bytes, where it has one."""
        return self._peer.identity_key if self._peer else None

    @property
    def path(self) -> Path:
        """Where packets go now."""
        return self._channel.paths.active if self._channel else self._path

    @property
    def first_path(self) -> Path:
        """Where the session was made."""
        return self._path

    @property
    def challenged(self) -> bool:
        """Whether it is being made, and somebody has answered: there is something at that address."""
        return self._initiator is not None and self._initiator.challenged

    @property
    def budget(self) -> RemoteBudget | None:
        """What this session shares with all others to the same socket; None before there are keys."""
        return self._channel.outbound.budget if self._channel else None

    @property
    def local_cids(self) -> list[bytes]:
        """All connection ids that packets for this session may come to."""
        return [self.local_cid, *(self._channel.migration.local if self._channel else ())]

    @property
    def reset_tokens(self) -> list[bytes]:
        """What a packet ends with by which the peer says that it has lost this session; 16 bytes each."""
        return self._channel.migration.reset_tokens if self._channel else []

    def mask_for(self, cid: bytes) -> CidMask | None:
        """How packets to our ``cid`` are masked; None while there are no keys."""
        if self._channel is not None:
            self.masks[cid] = self._channel.receive_mask(cid)
        return self.masks.get(cid)

    @property
    def error(self) -> STTError | None:
        """Why the session is over; None while it lives."""
        return self._error

    @property
    def resumption_token(self) -> ResumptionToken | None:
        """What resumes this session later, here or elsewhere: a secret. None before the peer has given a ticket, which
        takes a round trip, and always None where the peer connected to us.
        """
        return None if self.ticket is None else self.ticket.seal()

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory its streams take."""
        return 0 if self._streams is None else self._streams.held_bytes

    @property
    def peer_identity_kept(self) -> bool:
        """Whether the peer's identity key outlives its process."""
        return self._peer is not None and self._peer.identity_kept

    @property
    def max_datagram_size(self) -> int:
        """The longest DATAGRAM the path carries now, in bytes; may change with the path."""
        return self._require_channel().max_datagram

    def statistics(self) -> SessionStatistics:
        """What was sent, received and measured so far.

        :raises StateError: before the handshake is done.
        """
        return SessionStatistics.of(self._require_channel())

    # --- the end

    def _give_up(self, error: STTError) -> None:
        """Before it was established. Who connects is told; of somebody else's attempt nobody ever heard."""
        self._error = error
        if self.role is Role.INITIATOR:
            self._context.events.append(HandshakeFailed(self.key, error, self._path))
        self._forget(SessionTrigger.LOST)

    def _on_peer_close(self, channel: Channel, now: float) -> None:
        code, message = channel.peer_closed or (0, "")
        channel.peer_closed = None
        if code == ErrorCode.TICKET_SPENT and (attempt := self.key if self._untold else self._attempt) is not None:
            self._attempt = None
            self._context.succession.on_ticket_spent(self.key, attempt, now)
            return
        if self._farewell is not None:
            self._farewell.on_peer_close(_CLOSE_ACK)
            self._after_farewell(now)
            return
        if self.state is SessionState.ESTABLISHED:
            self.state = advance(SESSION, self.state, SessionTrigger.CLOSE)
        self._say_farewell(channel, _CLOSE_ACK, initiated=False, now=now)
        reason = reason_of(code)
        self._report_closed(reason, code, message or f"the peer closed the session ({code_name(code)})")
        self._after_farewell(now)

    def _fail(self, code: ErrorCode, message: str, now: float) -> None:
        """The peer broke the protocol: tell it once, tell the application, linger quietly."""
        channel = self._channel
        if channel is None or self._farewell is not None:
            return
        if self.state is SessionState.HANDSHAKING:
            # Genuine packets under new keys, but broken: never reported, so nobody waits for its end.
            self._forget(SessionTrigger.LOST)
            return
        if self.state is SessionState.ESTABLISHED:
            self.state = advance(SESSION, self.state, SessionTrigger.CLOSE)
        self._say_farewell(channel, frames.SessionClose(code, message).encode(), initiated=True, now=now)
        self._report_closed(CloseReason.ERROR, code, f"the peer broke the protocol: {message} ({code.name})")
        self.mark_ready()

    def _lose(self, message: str, now: float) -> None:
        """The peer fell silent, and may come back."""
        if self.state is not SessionState.ESTABLISHED or not self._context.succession.on_silence(
            self.key, message, now
        ):
            self._die(CloseReason.TIMEOUT, message)

    def _die(self, reason: CloseReason, message: str) -> None:
        """The peer is gone: nobody to say farewell to."""
        self._report_closed(reason, ErrorCode.NO_ERROR, message)
        self._forget(SessionTrigger.LOST)

    def _say_farewell(self, channel: Channel, frame: bytes, *, initiated: bool, now: float) -> None:
        self._farewell = Farewell(frame, initiated=initiated, now=now, pto=channel.pto)
        channel.quiet = True
        channel.outbound.release()
        self.timers.clear()
        self.timers.set(Timer.CLOSE, self._farewell.next_timer())

    def _report_closed(self, reason: CloseReason, code: int, message: str) -> None:
        if self._error is None:
            number = int(code)  # one of our own may be an ErrorCode, the peer's never is: they are to look the same
            self._error = SessionClosedError(message, reason=reason, code=number)
            self._context.events.append(SessionClosed(self.key, self.session_id, reason, number, message))
            self._end_resumption(ConnectError(f"the session was resumed, and ended at once: {message}"))

    def _end_resumption(self, error: STTError | None) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._context.succession.release(attempt, error)

    def _after_farewell(self, now: float) -> None:
        if (farewell := self._farewell) is None:
            return
        if farewell.done and self.state is SessionState.CLOSING:
            code, message, _ = self._close_request or (ErrorCode.NO_ERROR, "", 0.0)
            self.state = advance(SESSION, self.state, SessionTrigger.DONE)
            self._report_closed(CloseReason.GRACEFUL, code, message or "closed by this side")
        self.timers.set(Timer.CLOSE, farewell.next_timer())

    def _forget(self, trigger: SessionTrigger) -> None:
        """Straight to CLOSED, with nothing left to say."""
        self.state = advance(SESSION, self.state, trigger)
        self.timers.clear()
        self._initiator = self._begin = None
        if self._channel is not None:
            self._channel.quiet = True
            self._channel.outbound.release()
        self.finished = True
        self.mark_ready()

    def close(self, code: int = ErrorCode.NO_ERROR, reason: str = "", *, linger: float = 0.0) -> None:
        """End the session: SESSION_CLOSE, acknowledged by the peer, or given up after three PTOs.

        Up to ``linger`` seconds are spent first on getting everything already accepted acknowledged. A second call
        with a shorter ``linger`` hurries the first. Does nothing on a session that is over.

        :raises ValueError: for a ``code`` that is not 0 to 65535.
        """
        if not 0 <= code <= 0xFFFF:
            raise ValueError(f"code is {code}, expected 0 to 65535")
        if self.state is SessionState.DETACHED:
            self._die(CloseReason.GRACEFUL, reason or "closed by this side while it was detached")
            return
        if self.state in (SessionState.INIT, SessionState.HANDSHAKING):
            self._give_up(SessionClosedError("closed before it was established", code=code))
            return
        if self.state is SessionState.ESTABLISHED:
            self.state = advance(SESSION, self.state, SessionTrigger.CLOSE)
        elif self._farewell is not None or self._close_request is None or linger >= self._close_request[2]:
            return
        self.timers.cancel(Timer.CLOSE)
        self._close_request = (code, reason, linger)
        self.mark_ready()

    def abandon(self, reason: str) -> None:
        """End it here and now: nothing can be sent any more."""
        if self.finished:
            return
        if self.state is SessionState.CLOSED:
            self.finished = True
        elif self.state is SessionState.HANDSHAKING:
            self._give_up(SessionClosedError(reason))
        else:
            self._die(CloseReason.GRACEFUL, reason)

    def _proceed_to_close(self, channel: Channel, now: float, code: int, reason: str, linger: float) -> None:
        if self._farewell is not None:
            return
        if linger > 0 and (channel.streams.has_unacknowledged or channel.datagrams.outgoing):
            if Timer.CLOSE not in self.timers:
                self.timers.set(Timer.CLOSE, now + linger)
            if now < self.timers[Timer.CLOSE]:
                return
        self._say_farewell(channel, frames.SessionClose(code, reason).encode(), initiated=True, now=now)
