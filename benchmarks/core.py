"""What the core costs per packet, without sockets: two endpoints in one process, one stream, 1200-byte datagrams.

Prints the AEAD's own time beside it, measured in the same run: a packet can't cost less than one AEAD call each way.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from time import perf_counter

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stt_backends.pyca import PycaCrypto
from stt_core.config import EndpointConfig
from stt_core.endpoint import Endpoint
from stt_core.session import Session
from stt_core.types import Path, StreamMode

CHUNK = os.urandom(1 << 20)
STEP = 0.0002


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

    def __init__(self) -> None:
        self.now = 0.0
        self.ends = [self._endpoint(b"one"), self._endpoint(b"two")]
        self.paths = [Path("udp", ("127.0.0.1", 1)), Path("udp", ("127.0.0.1", 2))]
        self.key = self.ends[0].connect(self.paths[1].address, now=0.0)
        while not self.ends[1].sessions():
            self.now += STEP
            self.carry(0)
            self.carry(1)

    @staticmethod
    def _endpoint(name: bytes) -> Endpoint:
        config = EndpointConfig(shared_seed=b"seed of a benchmark", node_id=name, receive_buffer_hint=4 << 20)
        return Endpoint(config, crypto=PycaCrypto(), entropy=os.urandom)

    def carry(self, sender: int) -> None:
        """Everything one end has to say goes to the other."""
        self.ends[sender].handle_timer(self.now)
        while (out := self.ends[sender].poll_transmit(self.now)) is not None:
            self.ends[1 - sender].receive_datagrams(out.data, out.segment_size, self.paths[sender], self.now)

    def sessions(self) -> tuple[Session, Session]:
        """Both ends of the session."""
        return self.ends[0].session(self.key), self.ends[1].sessions()[0]


def _aead_time() -> float:
    encrypt, plain = AESGCM(bytes(32)).encrypt, bytes(1171)
    begun = perf_counter()
    for _ in range(20_000):
        encrypt(b"twelve bytes", plain, b"thirteen more")
    return (perf_counter() - begun) / 20_000


def run(megabytes: int) -> CoreResult:
    """Move that many MB (10^6 bytes) and divide."""
    pair = Pair()
    sender, receiver = pair.sessions()
    stream = sender.open_stream(mode=StreamMode.BYTES)
    spent = [0.0, 0.0, 0.0]
    left = megabytes * 1_000_000
    aead = _aead_time()
    while left > 0:
        marks = [perf_counter()]
        while sender.write(stream, CHUNK) == len(CHUNK):
            continue
        batches = []
        while (out := pair.ends[0].poll_transmit(pair.now)) is not None:
            batches.append(out)
        marks.append(perf_counter())
        for out in batches:
            pair.ends[1].receive_datagrams(out.data, out.segment_size, pair.paths[0], pair.now)
        while data := receiver.read(stream):
            left -= len(data)
        marks.append(perf_counter())
        pair.now += STEP
        pair.carry(1)
        pair.ends[0].handle_timer(pair.now)
        for end in pair.ends:
            while end.next_event() is not None:
                continue
        marks.append(perf_counter())
        spent = [total + after - before for total, before, after in zip(spent, marks, marks[1:], strict=False)]
    packets = sender.statistics().packets_sent
    send, receive, acknowledge = (1e6 * total / packets for total in spent)
    return CoreResult(1e6 * (aead + _aead_time()) / 2, send, receive, acknowledge, packets)
