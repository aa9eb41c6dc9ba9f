"""Target: fuzzed plaintexts, sealed again under the session's keys, so that they get past the AEAD.

This is what a hostile holder of the seed can do to an endpoint: anything.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from fuzz.entropy import entropy_of
from fuzz.reader import Reader
from stt_backends.pyca import PycaCrypto
from stt_core.config import EndpointConfig
from stt_core.endpoint import Endpoint
from stt_core.errors import STTError
from stt_core.events import AnyEvent, SessionClosed, SessionEstablished, StreamOpened, StreamReadable
from stt_core.frames import encode_ack, parse_frames_untrusted
from stt_core.session import Session
from stt_core.state import SessionState
from stt_core.types import Path, SessionKey, StreamMode, Transmit

START: Final = 1000.0
MEMORY: Final = 2 * 1024 * 1024
"""Bytes an input may make an endpoint hold: 16 send buffers and the receive window, full, and as much again."""
AFTERWARDS: Final = 120.0
"""Seconds of silence after which every session must be over."""

_ADDRESSES: Final = {"i": ("192.0.2.1", 1), "r": ("192.0.2.2", 2)}
_CRYPTO: Final = PycaCrypto()


def endpoint(name: str) -> Endpoint:
    """One of the two, with settings that make limits easy to reach."""
    config = EndpointConfig(
        b"a seed of the fuzzers", name.encode(), node_seed=name.encode() * 16, rate_limits=None, max_streams=16,
        stream_window=16_384, session_window=65_536, max_window=262_144, max_message=4096, send_buffer=65_536,
        datagram_queue=8192,
    )  # fmt: skip
    return Endpoint(config, crypto=_CRYPTO, entropy=entropy_of(name))


def datagrams(transmit: Transmit) -> Iterator[bytes]:
    """The datagrams of a batch."""
    for at in range(0, len(transmit.data), transmit.segment_size):
        yield transmit.data[at : at + transmit.segment_size]


class Duel:
    """An honest endpoint and its application on one side, the fuzzer with the other side's keys on the other."""

    def __init__(self, *, responder_attacks: bool) -> None:
        names = ("r", "i") if responder_attacks else ("i", "r")
        ends = {name: endpoint(name) for name in "ir"}
        self.now = START
        key = ends["i"].connect(_ADDRESSES["r"], now=self.now)
        moved = True
        while moved:
            moved = False
            for name, other in (("i", "r"), ("r", "i")):
                while (transmit := ends[name].poll_transmit(self.now)) is not None:
                    moved = True
                    for datagram in datagrams(transmit):
                        ends[other].receive_datagram(datagram, Path("udp", _ADDRESSES[name]), self.now)
        keys = {"i": key, "r": SessionKey(1)}
        self.victim = ends[names[1]]
        self.session: Session = self.victim.session(keys[names[1]])
        self.path = Path("udp", _ADDRESSES[names[0]])
        attacker = ends[names[0]].session(keys[names[0]])._channel
        assert attacker is not None
        self.keys = attacker.protection
        self.sending = attacker.outbound.peer_mask
        self.receiving = next(iter(ends[names[0]].session(keys[names[0]]).masks.values()))
        self.heard: set[int] = set()
        self.last = b""
        self.closed: list[SessionClosed] = []
        self.eager = True
        self.modes: dict[int, StreamMode] = {}
        assert self.session.state is SessionState.ESTABLISHED
        assert any(isinstance(event, SessionEstablished) for event in iter(self.victim.next_event, None))

    # --- the attacker

    def attack(self, plains: list[bytes]) -> None:
        """Seal and deliver, as one batch where they are equally long."""
        data = self.keys.seal(plains, self.sending, self.now)
        size = len(plains[0]) + 29
        self.last = data[:size]
        if len(plains) > 1:
            self.victim.receive_datagrams(bytearray(data), size, self.path, self.now)
        else:
            self.victim.receive_datagram(data, self.path, self.now)
        self.settle()

    def acknowledge(self) -> None:
        """What an honest peer would: all that was heard."""
        if self.heard:
            numbers = sorted(self.heard, reverse=True)
            ranges = [[numbers[0], numbers[0]]]
            for number in numbers[1:]:
                if number == ranges[-1][0] - 1:
                    ranges[-1][0] = number
                else:
                    ranges.append([number, number])
            self.attack([encode_ack([(first, last) for first, last in ranges], 0)])

    # --- the honest side

    def settle(self) -> None:
        """The application reacts, and the victim says what it has to say: all of it genuine and well-formed."""
        for _ in range(1000):
            busy = False
            while (event := self.victim.next_event()) is not None:
                busy = True
                self.react(event)
            while (transmit := self.victim.poll_transmit(self.now)) is not None:
                busy = True
                for datagram in datagrams(transmit):
                    opened = self.keys.open_one(datagram, self.receiving, self.now)
                    if opened is not None:
                        self.heard.add(opened[0])
                        parse_frames_untrusted(opened[1])
            if not busy:
                return
        raise AssertionError("the endpoint never comes to rest")

    def react(self, event: AnyEvent) -> None:
        """The victim's application: reads what can be read."""
        if isinstance(event, SessionClosed):
            self.closed.append(event)
        elif isinstance(event, StreamOpened):
            self.modes[event.stream_id] = event.mode
        elif isinstance(event, StreamReadable) and self.eager:
            self.read(event.stream_id)

    def read(self, stream_id: int) -> None:
        """Everything that waits on one stream."""
        read = self.session.read if self.modes.get(stream_id) is StreamMode.BYTES else self.session.read_message
        with suppress(STTError):
            for _ in range(10_000):
                if not read(stream_id):
                    self.session.at_end(stream_id)
                    return

    def command(self, choice: int, argument: int) -> None:
        """One call of the victim's application. It may be refused, as any caller's mistake is."""
        session, stream_id = self.session, argument & 0x1F
        with suppress(STTError, ValueError, LookupError):
            if choice == 0:
                mode = StreamMode(argument >> 5 & 1)
                opened = session.open_stream(stream_id=stream_id or None, mode=mode)
                self.modes[opened] = mode
            elif choice == 1:
                session.send_message(stream_id, bytes(argument * 40))
            elif choice == 2:
                session.write(stream_id, bytes(argument * 40))
            elif choice == 3:
                session.finish(stream_id)
            elif choice == 4:
                session.reset_stream(stream_id)
            elif choice == 5:
                session.stop_stream(stream_id)
            elif choice == 6:
                session.send_datagram(bytes(argument))
            elif choice == 7:
                self.eager = not self.eager
            elif choice == 8:
                self.read(stream_id)
            elif choice == 9:
                session.read_datagram()
            elif choice == 10:
                session.watch(stream_id)
            elif choice == 11:
                session.update_keys(self.now)
            elif choice == 12:
                session.close(argument, "enough")
        self.settle()

    def wait(self, seconds: float) -> None:
        """Let time pass, with every timer on the way."""
        until = self.now + seconds
        for _ in range(20_000):
            at = self.victim.next_timer()
            if at is None or at > until:
                self.now = until
                return
            self.now = max(self.now, at)
            self.victim.handle_timer(self.now)
            self.settle()
        raise AssertionError("timers without end")


def play(duel: Duel, reader: Reader) -> None:
    """The story the bytes tell."""
    while reader:
        choice = reader.byte()
        if choice < 0x80:
            duel.attack([reader.take((choice & 7) << 8 | reader.byte())])
        elif choice < 0x90:
            plain = reader.take(reader.byte())
            duel.attack([plain] * ((choice & 0xF) + 1))
        elif choice < 0xA0:
            duel.wait((choice & 0xF) ** 3 * 0.01)
        elif choice < 0xB0:
            duel.command(choice & 0xF, reader.byte())
        elif choice < 0xC0:
            duel.keys.next_number += reader.short()
        elif choice < 0xD0:
            duel.keys.update_keys(duel.now)
        elif choice < 0xE0:
            duel.keys._update_send_keys(duel.now)  # against the rules
        elif choice < 0xF0:
            duel.victim.receive_datagram(duel.last, duel.path, duel.now)
            duel.settle()
        else:
            duel.acknowledge()


def target_sealed(data: bytes) -> None:
    """No exception, bounded memory, a session that is alive or closed with a code, and that ends when all is silent.

    The first byte's lowest bit: whether the responder is the hostile side.
    """
    reader = Reader(data)
    duel = Duel(responder_attacks=bool(reader.byte() & 1))
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start(1)
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        play(duel, reader)
        assert tracemalloc.get_traced_memory()[1] - before < MEMORY + 64 * len(data), "too much memory"
    finally:
        if not tracing:
            tracemalloc.stop()
    if not duel.closed:
        assert duel.session.state in (SessionState.ESTABLISHED, SessionState.CLOSING)
    duel.wait(AFTERWARDS)
    assert len(duel.closed) == 1, "a session ends once"
    assert 0 <= duel.closed[0].code <= 0xFFFF
    assert duel.session.state is SessionState.CLOSED
    assert duel.victim.idle
    assert duel.victim.next_timer() is None or not duel.victim.sessions()
