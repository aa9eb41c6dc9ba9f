"""What happened, as :meth:`Endpoint.next_event` reports it. Every event names its session; all are immutable.

``StreamReadable`` is edge-triggered with a memory: one per stream until something is read from that stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from stt_core.errors import CloseReason, STTError
from stt_core.types import Path, Resumed, SessionKey, StreamMode


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events. ``session_key`` is what :meth:`Endpoint.session` takes."""

    session_key: SessionKey


@dataclass(frozen=True, slots=True)
class SessionEstablished(Event):
    """The handshake is done and the peer proved the seed. ``initiated`` is true on the side that connected."""

    session_id: bytes
    peer_node_id: bytes
    peer_identity_key: bytes | None
    path: Path
    initiated: bool
    resumed: Resumed = Resumed.NO
    """IDENTITY where the peer was shown to be that of an earlier session, whose streams are lost."""
    dht_only: bool = False
    """Whether it was made to carry DHT messages, and is no affair of the application's."""


@dataclass(frozen=True, slots=True)
class SessionDetached(Event):
    """The peer is silent or was restarted; the session keeps its streams until it is resumed, or too old."""

    session_id: bytes
    message: str


@dataclass(frozen=True, slots=True)
class SessionResumed(Event):
    """A session has new keys and goes on with its streams. ``attempt`` is what ``resume`` returned here, or None."""

    session_id: bytes
    path: Path
    attempt: SessionKey | None


@dataclass(frozen=True, slots=True)
class TicketReceived(Event):
    """``Session.resumption_token`` is new: what was stored of the last one is better replaced."""


@dataclass(frozen=True, slots=True)
class HandshakeFailed(Event):
    """A ``connect`` ended without a session; ``error`` is what to raise at its caller."""

    error: STTError
    path: Path


@dataclass(frozen=True, slots=True)
class PeerRejected:
    """Somebody tried to connect to us and failed authentication; there is no session and never was."""

    error: STTError
    path: Path


@dataclass(frozen=True, slots=True)
class SessionClosed(Event):
    """The session is over and its resources are freed. ``code`` and ``message`` are from the wire or our own."""

    session_id: bytes
    reason: CloseReason
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class StreamOpened(Event):
    """The peer opened a stream (or sent on one of the shared application-chosen ids first).

    Where this side had opened the same id already, with another purpose: the initiator's is what counts from now on.
    """

    stream_id: int
    mode: StreamMode
    purpose: str
    priority: int


@dataclass(frozen=True, slots=True)
class StreamReadable(Event):
    """Bytes, a whole message, the end of the stream or a reset can be read."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamWritable(Event):
    """A write that was turned down or cut short may be tried again."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamStopped(Event):
    """The peer will not read any further; sending on this stream fails from here on."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamAcknowledged(Event):
    """Everything up to the watched ``offset`` is in the peer's reassembly buffer (see ``Session.watch``)."""

    stream_id: int
    offset: int


@dataclass(frozen=True, slots=True)
class StreamFinished(Event):
    """Both directions are done and the stream's state is freed."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamsAvailable(Event):
    """The peer raised its limit after ``open_stream`` failed with ``StreamLimitError``."""


@dataclass(frozen=True, slots=True)
class DatagramsReadable(Event):
    """One or more unreliable DATAGRAMs wait in ``Session.read_datagram``."""


@dataclass(frozen=True, slots=True)
class DhtReadable(Event):
    """DHT messages of the peer's wait: ``Session.read_dht`` until None."""


@dataclass(frozen=True, slots=True)
class PathChanged(Event):
    """The session now sends over another path. Of several that wait to be taken, only the newest is kept."""

    path: Path


@dataclass(frozen=True, slots=True)
class PathValidated(Event):
    """A path that the session moves to has answered: the peer is there."""

    path: Path


@dataclass(frozen=True, slots=True)
class PathFailed(Event):
    """A path that the session was told to move to doesn't answer, and nothing has changed; or the one it uses is gone.

    Then what was not acknowledged is sent again once there is another, for which the session waits until the peer's
    silence ends it.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class LinkWanted(Event):
    """UDP is silent, or the connection in use is gone: open a connection to the peer, and give its name to
    ``Session.fall_back``. Comes again, ever more slowly, as long as nothing has changed.

    Only for sessions of which ``Session.allow_fallback`` said that this side knows a URL.
    """


@dataclass(frozen=True, slots=True)
class PathReleased:
    """No session needs this reliable path any longer: close the connection once what it was given is sent."""

    path: Path


AnyEvent = Event | PeerRejected | PathReleased
