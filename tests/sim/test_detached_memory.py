"""What detached sessions hold is what the endpoint believes they hold, and no more than it may."""

from __future__ import annotations

import gc
import tracemalloc

from stt_core.events import SessionEstablished
from stt_core.state import SessionState
from stt_core.types import StreamMode
from tests.core.pair import Pair, dead

LIMIT = 4 << 20
SESSIONS = 100
EACH = 64_000
"""Bytes that wait to be sent in each: together more than all may hold."""


def test_detached_sessions_stay_within_their_memory() -> None:
    pair = Pair(bob={"detached_memory": LIMIT, "resumable": True})
    for _ in range(SESSIONS):
        pair.connect()
    pair.rest()
    gc.collect()
    tracemalloc.start()
    pair.wire = dead
    for told in pair.bob.told(SessionEstablished):
        session = pair.bob.endpoint.session(told.session_key)
        session.write(session.open_stream(mode=StreamMode.BYTES), bytes(EACH))
    del session
    pair.run(40.0)
    pair.sent.clear()
    pair.bob.events.clear()
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    statistics = pair.bob.endpoint.statistics()
    assert statistics["detached"] == LIMIT // (EACH + 8192 + 2048)
    assert statistics["detached"] + statistics["detached_evicted"] == SESSIONS
    assert statistics["detached_bytes"] <= LIMIT
    assert held <= LIMIT
    states = {session.state for session in pair.bob.endpoint._sessions.values()}
    assert states == {SessionState.DETACHED}
