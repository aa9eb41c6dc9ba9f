"""Bulk flows, one stream each: STT's own endpoints, and aioquic's connection, which has no I/O of its own either."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from benchmarks.certificates import HOST
from benchmarks.fairness.road import DATAGRAM, Traffic
from stt_core.config import Congestion
from stt_core.crypto import Crypto
from stt_core.events import AnyEvent, SessionEstablished, StreamReadable, StreamWritable
from stt_core.types import SessionKey, StreamMode
from tests.sim.host import Host
from tests.sim.wire import Datagram, Onward

SOCKET = 4 << 20
"""Bytes of the receiver's socket buffer: what STT's adapter asks for."""
WINDOW = 16 << 20
"""The largest receive window of everybody, in bytes: no road here holds more."""
CHUNK = bytes(64 * 1024)
TICK = 1e-5
"""Seconds after which aioquic is asked again, at least: it may set a timer to a moment that has come, and leave it to
the event loop that time passes before the next turn."""


class Flow(Protocol):
    """One sender that always has more once it has started, and its receiver."""

    arrived: int
    """Bytes that the receiving application has read."""

    def start(self) -> None:
        """Begin to send."""
        ...

    @property
    def window(self) -> int:
        """The congestion window in bytes."""
        ...


class _Source:
    """Writes as much as the stream takes, for ever."""

    def __init__(self) -> None:
        self.key: SessionKey | None = None
        self._stream = 0

    def on_event(self, host: Host, event: AnyEvent) -> None:
        if isinstance(event, SessionEstablished):
            self.key = event.session_key
        elif isinstance(event, StreamWritable):
            self._write(host)

    def start(self, host: Host) -> None:
        assert self.key is not None, "the handshake had its time"
        self._stream = host.open_stream(self.key, mode=StreamMode.BYTES)
        self._write(host)
        host.wake()

    def _write(self, host: Host) -> None:
        assert self.key is not None
        session = host.session(self.key)
        while session.write(self._stream, CHUNK) == len(CHUNK):
            pass


class Stt:
    """Two endpoints and one session."""

    def __init__(self, traffic: Traffic, congestion: Congestion, crypto: Crypto | None = None, **config: Any) -> None:
        traffic.flows += 1
        lab, number = traffic.lab, traffic.flows
        self.arrived = 0
        self._source = _Source()
        settings: dict[str, Any] = {"receive_buffer_hint": SOCKET, "max_window": WINDOW, "rate_limits": None}
        settings |= {"max_udp_payload": DATAGRAM, "congestion": congestion, **config}
        self.sender = lab.endpoint(f"sender {number}", self._source, crypto=crypto, **settings)
        receiver = lab.endpoint(f"receiver {number}", self, crypto=crypto, **settings)
        lab.chain(self.sender, receiver, traffic.forth())
        lab.chain(receiver, self.sender, traffic.back())
        self.sender.connect(receiver)

    def on_event(self, host: Host, event: AnyEvent) -> None:
        """The receiver reads what there is."""
        if isinstance(event, StreamReadable):
            session = host.session(event.session_key)
            while data := session.read(event.stream_id):
                self.arrived += len(data)

    def start(self) -> None:
        self._source.start(self.sender)

    @property
    def channel(self) -> Any:
        """The sending session's insides, for looking at."""
        session: Any = self.sender.session(self._source.key)  # type: ignore[arg-type]
        return session._channel

    @property
    def window(self) -> int:
        return int(self.channel.recovery.congestion.cwnd)


class _QuicEnd:
    """One of aioquic's connections in the laboratory, driven as its asyncio protocol drives it."""

    def __init__(self, traffic: Traffic, connection: Any, on_data: Callable[[int], None]) -> None:
        self.clock = traffic.clock
        self.connection = connection
        self.onward: Onward
        self.on_data = on_data
        self._armed: float | None = None

    def deliver(self, datagram: Datagram) -> None:
        self.connection.receive_datagram(datagram.data, ("192.0.2.1", 4433), self.clock.now)
        self.transmit()

    def transmit(self) -> None:
        now = self.clock.now
        while (event := self.connection.next_event()) is not None:
            if (data := getattr(event, "data", None)) and hasattr(event, "end_stream"):
                self.on_data(len(data))
        for data, _ in self.connection.datagrams_to_send(now):
            self.onward(Datagram(None, None, data))
        at = self.connection.get_timer()
        if at is not None:
            at = max(at, now + TICK)
        if at is not None and at != self._armed:
            self._armed = at
            self.clock.at(at, lambda: self._timer(at))

    def _timer(self, at: float) -> None:
        if self._armed == at:  # else another has taken its place
            self._armed = None
            self.connection.handle_timer(self.clock.now)
            self.transmit()


class Quic:
    """aioquic: a client that sends, and a server."""

    BACKLOG = 4 << 20

    def __init__(self, traffic: Traffic, algorithm: str, certificates: Path) -> None:
        quic_configuration = import_module("aioquic.quic.configuration").QuicConfiguration  # not installed for tests
        quic_connection = import_module("aioquic.quic.connection").QuicConnection

        def configuration(*, is_client: bool) -> Any:
            return quic_configuration(
                is_client=is_client,
                alpn_protocols=["benchmark"],
                max_data=WINDOW,
                max_stream_data=WINDOW,
                max_datagram_size=DATAGRAM,
                idle_timeout=600.0,
                congestion_control_algorithm=algorithm,
            )

        ours, theirs = configuration(is_client=True), configuration(is_client=False)
        ours.server_name = HOST
        ours.load_verify_locations(cafile=str(certificates / "authority.pem"))
        theirs.load_cert_chain(str(certificates / "certificate.pem"), str(certificates / "key.pem"))
        traffic.flows += 1
        self.arrived = self._queued = 0
        self._stream: int | None = None
        client = quic_connection(configuration=ours)
        server = quic_connection(
            configuration=theirs, original_destination_connection_id=client.original_destination_connection_id
        )
        self.sender = _QuicEnd(traffic, client, lambda size: None)
        receiver = _QuicEnd(traffic, server, self._read)
        self.sender.onward = traffic.way(traffic.forth(), receiver.deliver)
        receiver.onward = traffic.way(traffic.back(), self.sender.deliver)
        client.connect(("192.0.2.1", 4433), traffic.clock.now)
        self.sender.transmit()

    def _read(self, size: int) -> None:
        self.arrived += size
        self._fill()

    def _fill(self) -> None:
        # aioquic takes whatever it is given: as the sender's own application would, see to it that there is enough.
        while self._queued - self.arrived < self.BACKLOG:
            self.sender.connection.send_stream_data(self._stream, CHUNK)
            self._queued += len(CHUNK)

    def start(self) -> None:
        self._stream = self.sender.connection.get_next_available_stream_id()
        self._fill()
        self.sender.transmit()

    @property
    def window(self) -> int:
        return int(self.sender.connection._loss.congestion_window)
