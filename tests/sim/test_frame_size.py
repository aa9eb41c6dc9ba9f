"""``max_frame_size``: how much of a stream one packet carries, whatever the path would take."""

from __future__ import annotations

import pytest

from stt_core.events import SessionEstablished, StreamOpened
from stt_core.frames import DATA_OVERHEAD
from stt_core.outbound import OVERHEAD
from stt_core.session import Session
from stt_core.types import SessionKey
from tests.core.pair import Flight, Pair, channel_of, send_all
from tests.sim import Host, Lab, Link
from tests.sim.links import LinkEnd

AROUND = OVERHEAD + DATA_OVERHEAD
LARGEST = 65_472


class Recorder:
    """The sizes of what a connection's end is given to send."""

    def __init__(self, end: LinkEnd) -> None:
        self.sizes: list[int] = []
        self._send = end.send
        end.send = self.send  # type: ignore[method-assign]

    def send(self, data: bytes) -> None:
        self.sizes.append(len(data))
        self._send(data)


def joined(lab: Lab) -> tuple[Host, Host, SessionKey, Recorder]:
    client, server = lab.endpoint("client"), lab.endpoint("server")
    link = Link(lab, client, server)
    key = link.connect()
    lab.run_until(lambda: bool(server.all(SessionEstablished)))
    lab.run_for(1.0)
    return client, server, key, Recorder(link.client)


def received(server: Host) -> int:
    """Bytes of all streams that have arrived."""
    (established,) = server.all(SessionEstablished)
    session = server.session(established.session_key)
    assert isinstance(session, Session)
    return sum(session.stream_info(opened.stream_id).received for opened in server.stream_openings)


@pytest.mark.parametrize("size", [1200, 4096, 16_384])
def test_frames_are_no_larger_than_asked_for(size: int) -> None:
    lab = Lab()
    client, server, key, recorder = joined(lab)
    stream = client.session(key).open_stream(max_frame_size=size, purpose="p" * 255)
    client.session(key).send_message(stream, bytes(100_000))
    lab.run_until(lambda: received(server) > 100_000)
    assert max(recorder.sizes) == size + AROUND
    assert len(recorder.sizes) < 1.3 * 100_000 / size + 10


@pytest.mark.parametrize("size", [65_536, None])
def test_65536_is_as_large_as_a_path_takes_and_so_is_the_default(size: int | None) -> None:
    lab = Lab()
    client, server, key, recorder = joined(lab)
    stream = client.session(key).open_stream(max_frame_size=size)
    client.session(key).send_message(stream, bytes(200_000))
    lab.run_until(lambda: received(server) > 200_000)
    assert max(recorder.sizes) == LARGEST


@pytest.mark.parametrize("limited_first", [True, False])
def test_a_stream_with_small_frames_leaves_the_others_theirs(limited_first: bool) -> None:
    lab = Lab()
    client, server, key, recorder = joined(lab)
    session = client.session(key)
    sizes = [2000, None] if limited_first else [None, 2000]
    streams = [session.open_stream(max_frame_size=size) for size in sizes]
    for stream in streams:
        session.send_message(stream, bytes(300_000))
    session.send_datagram(b"x" * 30_000)
    lab.run_until(lambda: received(server) > 600_000)
    large = [size for size in recorder.sizes if size > 2000 + AROUND]
    assert max(large) == LARGEST
    assert sum(large) < 300_000 + 30_000 + 20 * 100, "not a byte of the one with small frames was in these"


@pytest.mark.parametrize("size", [1199, 65_537, 0, -1])
def test_a_size_out_of_range_raises_and_opens_nothing(size: int) -> None:
    lab = Lab()
    client, server, key, _ = joined(lab)
    with pytest.raises(ValueError, match=r"max_frame_size is .*, expected 1200 to 65536"):
        client.session(key).open_stream(max_frame_size=size)
    lab.run_for(1.0)
    assert not server.stream_openings


def test_over_a_lossy_path_what_is_repeated_is_no_larger() -> None:
    pair = Pair(mtu_search=True)
    ours, theirs = pair.connect()
    send_all(pair, ours, theirs, bytes(400_000))
    pair.rest()
    assert channel_of(ours).recovery.mtu.size > 1300 + AROUND
    count = 0

    def every_seventh_is_lost(flight: Flight) -> tuple[Flight, ...]:
        nonlocal count
        count += 1
        return () if count % 7 == 0 else (flight,)

    pair.wire = every_seventh_is_lost
    pair.sent.clear()
    stream = ours.open_stream(max_frame_size=1300)
    ours.send_message(stream, bytes(100_000))
    pair.run_until(
        lambda: len(pair.bob.told(StreamOpened)) == 2 and theirs.stream_info(stream).received > 100_000, 60.0
    )
    assert max(len(flight.data) for flight in pair.sent if flight.sender is pair.alice) == 1300 + AROUND
