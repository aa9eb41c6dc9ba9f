"""Applications for the laboratory's hosts: what sends, echoes, reads and checks, written as event handlers.

Rule: an application obeys back-pressure as a real one must (a refused write waits for ``StreamWritable``) and reads
until nothing is there, so that a scenario that ends has shown the whole contract and not a lucky part of it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence

from stt_core.errors import StreamResetError
from stt_core.events import AnyEvent, SessionEstablished, StreamAcknowledged, StreamReadable, StreamWritable
from stt_core.types import SessionKey, StreamMode
from tests.sim.host import Host

Name = tuple[SessionKey, int]
"""One stream on one host."""


def payload(size: int, *names: object) -> bytes:
    """``size`` bytes that look random, are the same each time, and differ wherever ``names`` do."""
    return hashlib.shake_128(repr(names).encode()).digest(size)


class Sender:
    """Opens one stream in each session that comes up (or in session ``key`` alone) and sends all of ``data`` on it.

    Bytes are sent in bytes mode, a sequence of bytes as that many messages. ``acknowledged`` is true once the peer
    has it all.
    """

    def __init__(
        self,
        data: bytes | Sequence[bytes],
        *,
        key: SessionKey | None = None,
        stream_id: int | None = None,
        purpose: str = "",
        chunk: int = 64 * 1024,
        finish: bool = True,
    ) -> None:
        self.mode = StreamMode.BYTES if isinstance(data, bytes) else StreamMode.MESSAGES
        pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)] if isinstance(data, bytes) else data
        self._pieces: Sequence[bytes] = pieces
        self._key = key
        self._stream_id = stream_id
        self._purpose = purpose
        self._finish = finish
        self._waiting: dict[Name, deque[bytes]] = {}
        self._offsets: dict[Name, int] = {}
        self.turned_down = 0
        """How often back-pressure was felt."""
        self.acknowledged = 0
        """Streams whose every byte the peer has."""

    def on_event(self, host: Host, event: AnyEvent) -> None:
        if isinstance(event, SessionEstablished) and self._key in (None, event.session_key):
            stream = host.open_stream(
                event.session_key, stream_id=self._stream_id, mode=self.mode, purpose=self._purpose
            )
            name = (event.session_key, stream)
            self._waiting[name] = deque(self._pieces)
            self._pump(host, name)
        elif isinstance(event, StreamWritable) and (event.session_key, event.stream_id) in self._waiting:
            self._pump(host, (event.session_key, event.stream_id))
        elif (
            isinstance(event, StreamAcknowledged)
            and self._offsets.get((event.session_key, event.stream_id)) == event.offset
        ):
            self.acknowledged += 1

    def _pump(self, host: Host, name: Name) -> None:
        key, stream = name
        session = host.session(key)
        waiting = self._waiting[name]
        while waiting:
            piece = waiting[0]
            if self.mode is StreamMode.MESSAGES:
                if not session.send_message(stream, piece):
                    self.turned_down += 1
                    return
            elif (accepted := session.write(stream, piece)) < len(piece):
                waiting[0] = piece[accepted:]
                self.turned_down += 1
                return
            waiting.popleft()
        del self._waiting[name]
        self._offsets[name] = session.watch(stream)
        if self._finish:
            session.finish(stream)


class Reader:
    """Reads every stream of a host to its end, and keeps what came."""

    def __init__(self) -> None:
        self.data: dict[Name, bytearray] = {}
        self.messages: dict[Name, list[bytes]] = {}
        self.ended: set[Name] = set()
        self.reset: dict[Name, int] = {}
        self.received = 0
        """Bytes read, of all streams."""

    def on_event(self, host: Host, event: AnyEvent) -> None:
        if isinstance(event, StreamReadable):
            name = (event.session_key, event.stream_id)
            try:
                self._read(host, name)
            except StreamResetError as error:
                self.reset[name] = error.code

    def _read(self, host: Host, name: Name) -> None:
        key, stream = name
        session = host.session(key)
        if host.modes[name] is StreamMode.MESSAGES:
            kept = self.messages.setdefault(name, [])
            while (message := session.read_message(stream)) is not None:
                kept.append(message)
                self.received += len(message)
            if session.at_end(stream):
                self.ended.add(name)
            return
        body = self.data.setdefault(name, bytearray())
        while data := session.read(stream):
            body += data
            self.received += len(data)
        if data is not None:
            self.ended.add(name)


class Echo:
    """Sends back whatever comes, on the stream it came on, and finishes when the peer does.

    Holds at most one read of each stream that it could not yet send: its back-pressure becomes the peer's.
    """

    def __init__(self) -> None:
        self._held: dict[Name, bytes] = {}
        self._over: set[Name] = set()
        self.echoed = 0
        """Bytes sent back."""

    def on_event(self, host: Host, event: AnyEvent) -> None:
        if isinstance(event, StreamReadable | StreamWritable):
            name = (event.session_key, event.stream_id)
            if name not in self._over:
                self._pump(host, name)

    def _pump(self, host: Host, name: Name) -> None:
        key, stream = name
        session = host.session(key)
        messages = host.modes[name] is StreamMode.MESSAGES
        while True:
            data = self._held.pop(name, None)
            if data is None:
                data = session.read_message(stream) if messages else session.read(stream)
            ended = session.at_end(stream) if messages else data == b""
            if data is None or (ended and not data and not messages):
                break
            accepted = self._send(host, name, data)
            self.echoed += accepted
            if messages and accepted < 0:
                self.echoed -= accepted
                self._held[name] = data
                return
            if not messages and accepted < len(data):
                self._held[name] = data[accepted:]
                return
        if ended:
            self._over.add(name)
            session.finish(stream)

    @staticmethod
    def _send(host: Host, name: Name, data: bytes) -> int:
        """Bytes accepted; -1 where a message was turned down."""
        key, stream = name
        session = host.session(key)
        if host.modes[name] is StreamMode.BYTES:
            return session.write(stream, data)
        return len(data) if session.send_message(stream, data) else -1


class Traffic:
    """Streams between two hosts, and the check that each arrived whole: what most scenarios are about.

    >>> traffic = Traffic(a, b)
    >>> traffic.stream(a, 300_000); traffic.messages(b, [b"one", b"", b"three"])
    >>> key = a.connect(b); lab.run_until(traffic.done); traffic.check()
    """

    def __init__(self, *hosts: Host) -> None:
        self._readers = {host: Reader() for host in hosts}
        self._sent: list[tuple[Host, str, bytes | tuple[bytes, ...]]] = []
        self._senders: list[Sender] = []
        self._hosts = hosts
        for host, reader in self._readers.items():
            host.add(reader)

    def stream(self, sender: Host, size: int, *, stream_id: int | None = None) -> None:
        """Send ``size`` bytes on a stream in bytes mode, once the session is up."""
        self._add(sender, payload(size, sender.name, len(self._sent)), stream_id)

    def messages(self, sender: Host, messages: Iterable[bytes], *, stream_id: int | None = None) -> None:
        """Send messages on a stream, once the session is up."""
        self._add(sender, tuple(messages), stream_id)

    def _add(self, sender: Host, data: bytes | tuple[bytes, ...], stream_id: int | None) -> None:
        purpose = f"{sender.name} {len(self._sent)}"
        self._sent.append((sender, purpose, data))
        app = Sender(data, stream_id=stream_id, purpose=purpose)
        self._senders.append(app)
        sender.add(app)

    def reader(self, host: Host) -> Reader:
        """What that host has read."""
        return self._readers[host]

    def done(self) -> bool:
        """Whether every stream ended at its reader and was acknowledged to its sender."""
        return sum(len(reader.ended) for reader in self._readers.values()) >= len(self._sent) and all(
            sender.acknowledged for sender in self._senders
        )

    def check(self) -> None:
        """Every byte that was sent is what was read, and nothing else was.

        :raises LabFailure: naming the stream, and where it first differs.
        """
        arrived: dict[object, tuple[Host | None, object]] = {}
        for host, reader in self._readers.items():
            for event in host.stream_openings:
                name = (event.session_key, event.stream_id)
                got: object = (
                    bytes(reader.data.get(name, b""))
                    if event.mode is StreamMode.BYTES
                    else tuple(reader.messages.get(name, ()))
                )
                arrived[event.purpose] = (host, got)
        for sender, purpose, data in self._sent:
            where, got = arrived.pop(purpose, (None, None))
            if where is sender or got != data:
                raise sender.lab.failure(f"stream {purpose!r} of {sender.name}: {_difference(data, got)}")
        if arrived:
            raise self._hosts[0].lab.failure(f"streams nobody sent: {sorted(map(str, arrived))}")


def _difference(sent: object, got: object) -> str:
    if not isinstance(got, bytes | tuple) or not isinstance(sent, bytes | tuple):
        return "never opened at the peer"
    at = next((i for i, (one, other) in enumerate(zip(sent, got, strict=False)) if one != other), None)
    if at is None:
        return f"{len(sent)} items were sent, {len(got)} read"
    return f"differs first at {at} (sent {len(sent)}, read {len(got)})"
