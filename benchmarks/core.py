"""What the core costs per packet, without sockets: two endpoints in one process, one stream, 1200-byte datagrams.

Prints the AEAD's own time beside it, measured in the same run: a packet can't cost less than one AEAD call each way.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from benchmarks.aead import aead_time
from stt_backends.driver import MOST_SEGMENTS, MOST_SENT
from stt_backends.pyca import PycaCrypto
from stt_core.config import EndpointConfig
from stt_core.endpoint import Endpoint
from stt_core.session import Session
from stt_core.types import Entropy, Path, StreamMode

CHUNK = bytes(range(256)) * 4096
STEP = 0.0002
PHASES = ("send", "receive", "acknowledge")


@dataclass
class CoreResult:
    """Microseconds per packet; ``aead`` is one call on 1200 bytes."""

    aead: float
    send: float
    receive: float
    acknowledge: float
    packets: int


class Pair:
    """Two endpoints that hand each other their datagrams at once, in virtual time."""

    def __init__(self, *entropy: Entropy) -> None:
        self.now = 0.0
        names = (b"one", b"two")
        self.ends = [self._endpoint(name, source) for name, source in zip(names, entropy, strict=True)]
        self.paths = [Path("udp", ("127.0.0.1", 1)), Path("udp", ("127.0.0.1", 2))]
        self.key = self.ends[0].connect(self.paths[1].address, now=0.0)
        while not self.ends[1].sessions():
            self.now += STEP
            self.carry(0)
            self.carry(1)

    @staticmethod
    def _endpoint(name: bytes, entropy: Entropy) -> Endpoint:
        config = EndpointConfig(
            shared_seed=b"seed of a benchmark", node_id=name, receive_buffer_hint=4 << 20, max_udp_payload=1200
        )
        return Endpoint(config, crypto=PycaCrypto(), entropy=entropy)

    def carry(self, sender: int) -> None:
        """Everything one end has to say goes to the other."""
        self.ends[sender].handle_timer(self.now)
        while (out := self.ends[sender].poll_transmit(self.now)) is not None:
            self.ends[1 - sender].receive_datagrams(out.data, out.segment_size, self.paths[sender], self.now)

    def drop_events(self) -> None:
        """Take what both ends have to tell."""
        for end in self.ends:
            while end.next_event() is not None:
                continue

    def sessions(self) -> tuple[Session, Session]:
        """Both ends of the session."""
        return self.ends[0].session(self.key), self.ends[1].sessions()[0]


def transfer(pair: Pair, size: int, begin: Callable[[str], None]) -> int:
    """Move at least ``size`` bytes over a new stream; ``begin`` is told each phase of :data:`PHASES` as it begins.

    Returns the number of packets it took, the handshake's included.
    """
    sender, receiver = pair.sessions()
    stream = sender.open_stream(mode=StreamMode.BYTES)
    left = size
    while left > 0:
        begin("send")
        while sender.write(stream, CHUNK) == len(CHUNK):
            continue
        batches = []
        while (out := pair.ends[0].poll_transmit(pair.now, MOST_SEGMENTS, MOST_SENT)) is not None:
            batches.append(out)
        begin("receive")
        for out in batches:
            pair.ends[1].receive_datagrams(out.data, out.segment_size, pair.paths[0], pair.now)
        while data := receiver.read(stream):
            left -= len(data)
        begin("acknowledge")
        pair.now += STEP
        pair.carry(1)
        pair.ends[0].handle_timer(pair.now)
        pair.drop_events()
    return sender.statistics().packets_sent


def run(megabytes: int) -> CoreResult:
    """Move that many MB (10^6 bytes) and divide."""
    spent = dict.fromkeys(PHASES, 0.0)
    phase, since = PHASES[-1], perf_counter()

    def begin(name: str) -> None:
        nonlocal phase, since
        now = perf_counter()
        spent[phase] += now - since
        phase, since = name, now

    pair = Pair(os.urandom, os.urandom)
    aead = aead_time()
    since = perf_counter()
    packets = transfer(pair, megabytes * 1_000_000, begin)
    begin("send")
    each = {name: 1e6 * total / packets for name, total in spent.items()}
    return CoreResult((aead + aead_time()) / 2, each["send"], each["receive"], each["acknowledge"], packets)
