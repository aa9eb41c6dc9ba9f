"""Injector: resets. Nobody is told a session's reset token but its peer, and a reset ends one session only."""

from __future__ import annotations

import random

from stt_backends.pyca import PycaCrypto
from stt_core import Endpoint, EndpointConfig, Path
from stt_core.events import SessionClosed, SessionEstablished
from stt_core.types import SessionKey

ALICE, BOB, STRANGER = (Path("udp", (f"192.0.2.{number}", 4433)) for number in (1, 2, 3))


class Pair:
    """Two endpoints, a datagram at a time; ``seen`` is what a listener has."""

    def __init__(self) -> None:
        entropy = random.Random(7).randbytes
        self.alice, self.bob = (
            Endpoint(EndpointConfig(shared_seed=b"a shared seed", node_id=name), crypto=PycaCrypto(), entropy=entropy)
            for name in (b"alice", b"bob")
        )
        self.seen: list[bytes] = []
        self.key: SessionKey = self.alice.connect(BOB.address, now=0.0)

    def step(self, now: float) -> bool:
        """Carry what both have to say now; False where that was nothing."""
        out = [(self.bob, ALICE, sent) for sent in iter(lambda: self.alice.poll_transmit(now), None)]
        out += [(self.alice, BOB, sent) for sent in iter(lambda: self.bob.poll_transmit(now), None)]
        for end, path, sent in out:
            self.seen.append(sent.data)
            end.receive_datagrams(sent.data, sent.segment_size, path, now)
        return bool(out)


def test_no_handshake_message_lets_a_stranger_ask_for_a_reset_token() -> None:
    pair = Pair()
    now = 0.0
    told: set[bytes] = set()
    while not pair.bob.sessions():
        assert pair.step(now)
        now += 0.01
        cids = {data[start : start + 8] for data in pair.seen if data[0] >= 0xC0 for start in (5, 13)}
        for end in (pair.alice, pair.bob):
            for cid in sorted(cids):
                end.receive_datagram(b"\x40" + cid + bytes(60), STRANGER, now)
            # What a stranger is told comes before the session's own next words.
            while reply := end._replies.popleft() if end._replies and end._replies[0].path == STRANGER else None:
                told.add(reply.data[-16:])
    real = {t for end in (pair.alice, pair.bob) for session in end.sessions() for t in session.reset_tokens}
    assert len(real) == 2
    assert not told & real


def test_a_reset_in_the_turn_of_the_first_packet_ends_that_session_and_nothing_else() -> None:
    pair = Pair()
    now = 0.0
    while not pair.bob.sessions():
        assert pair.step(now)
        now += 0.01
    [session] = pair.bob.sessions()
    (token,) = session.reset_tokens
    pair.bob.receive_datagram(b"\x40" + bytes(40) + token, STRANGER, now)
    established = pair.bob.next_event()
    assert isinstance(established, SessionEstablished)
    assert pair.bob.session(established.session_key) is session
    assert isinstance(pair.bob.next_event(), SessionClosed)
    assert pair.bob.next_event() is None
    assert not pair.bob.sessions()


def test_sessions_that_linger_after_their_end_are_bounded() -> None:
    pair = Pair()
    pair.bob = Endpoint(
        EndpointConfig(shared_seed=b"a shared seed", node_id=b"bob", max_sessions=3),
        crypto=PycaCrypto(),
        entropy=random.Random(8).randbytes,
    )
    now = 0.0
    for _ in range(12):
        while not pair.bob.sessions():
            assert pair.step(now)
            now += 0.001
        for session in pair.bob.sessions():
            session.close()
        while pair.step(now):
            now += 0.001
        while pair.bob.next_event() is not None or pair.alice.next_event() is not None:
            continue
        assert len(pair.bob._sessions) <= 2 * 3
        now += 0.5  # the responder rations proofs by the second
        pair.alice.connect(BOB.address, now=now)
