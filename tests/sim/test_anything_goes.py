"""Two applications do anything the interface allows, at random, over a random bad network: streams keep their word.

A stream that nobody abandoned arrives whole; one that somebody did arrives as a beginning of what was sent. Unreliable
messages arrive at most once. No session ends by itself, and when all are closed nothing is left of them.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from stt_core.errors import StateError, StreamError
from stt_core.events import (
    AnyEvent,
    DatagramsReadable,
    SessionClosed,
    SessionEstablished,
    StreamReadable,
    StreamWritable,
)
from stt_core.types import SessionKey, StreamMode
from tests.sim import Host, Lab, payload

Name = tuple[bytes, int]
"""A stream, as both sides call it: session id and stream id."""
STEPS = 40


class Party:
    """One side's application. What it says on a stream are pieces, which in bytes mode run together."""

    def __init__(self, choose: Random) -> None:
        self._choose = choose
        self._unsaid: dict[Name, list[bytes]] = {}
        self.said: dict[Name, list[bytes]] = {}
        self.heard: dict[Name, list[bytes]] = {}
        self.over: set[Name] = set()
        self.abandoned: set[Name] = set()
        """Streams this side reset or stopped, or was told of that the other did."""
        self.datagrams_said: list[bytes] = []
        self.datagrams_heard: list[bytes] = []
        self.keys: dict[bytes, SessionKey] = {}

    def on_event(self, host: Host, event: AnyEvent) -> None:
        if isinstance(event, SessionEstablished):
            self.keys[event.session_id] = event.session_key
        elif isinstance(event, DatagramsReadable):
            while (data := host.session(event.session_key).read_datagram()) is not None:
                self.datagrams_heard.append(data)
        elif isinstance(event, StreamReadable | StreamWritable):
            name = (host.session(event.session_key).session_id, event.stream_id)
            try:
                if isinstance(event, StreamReadable):
                    self._listen(host, name)
                else:
                    self._speak(host, name)
            except StreamError:
                self.abandoned.add(name)

    def _mode(self, host: Host, name: Name) -> StreamMode:
        return host.modes[self.keys[name[0]], name[1]]

    def _listen(self, host: Host, name: Name) -> None:
        session, stream = host.session(self.keys[name[0]]), name[1]
        heard = self.heard.setdefault(name, [])
        if self._mode(host, name) is StreamMode.MESSAGES:
            while (piece := session.read_message(stream)) is not None:
                heard.append(piece)
            if session.at_end(stream):
                self.over.add(name)
            return
        while piece := session.read(stream, self._choose.choice([100, 61_440])):
            heard.append(piece)
        if piece is not None:
            self.over.add(name)

    def _speak(self, host: Host, name: Name) -> None:
        session, stream = host.session(self.keys[name[0]]), name[1]
        unsaid = self._unsaid.get(name)
        if unsaid is None:
            return
        while unsaid:
            if self._mode(host, name) is StreamMode.MESSAGES:
                if not session.send_message(stream, unsaid[0]):
                    return
            elif (accepted := session.write(stream, unsaid[0])) < len(unsaid[0]):
                unsaid[0] = unsaid[0][accepted:]
                return
            del unsaid[0]
        del self._unsaid[name]
        session.finish(stream)

    def act(self, host: Host, now: float) -> None:
        """Do one thing. Being told that it can't be done is part of the game."""
        choose = self._choose
        session_id = choose.choice(list(self.keys))
        session = host.session(self.keys[session_id])
        streams = sorted(name for name in {*self.said, *self.heard} if name[0] == session_id)
        deed = choose.choices(["say", "answer", "datagram", "reset", "stop", "update keys"], [8, 2, 4, 2, 1, 1])[0]
        name = choose.choice(streams) if streams else (session_id, 0)
        try:
            if deed == "say":
                wanted = choose.choice([None, None, choose.randint(1, 40)])
                if (session_id, wanted) not in self.said:
                    mode = choose.choice(list(StreamMode))
                    stream = host.open_stream(self.keys[session_id], stream_id=wanted, mode=mode)
                    self._say(host, (session_id, stream))
            elif deed == "datagram":
                data = payload(choose.randint(0, session.max_datagram_size), "datagram", host.name, choose.random())
                if session.send_datagram(data):
                    self.datagrams_said.append(data)
            elif deed == "update keys":
                session.update_keys(now)
            elif not name[1]:
                return
            elif deed == "answer" and name not in self.said:
                self._say(host, name)
            elif deed == "reset":
                session.reset_stream(name[1], 77)
                self.abandoned.add(name)
            elif deed == "stop":
                session.stop_stream(name[1], 78)
                self.abandoned.add(name)
        except (StreamError, StateError, ValueError):
            return
        finally:
            host.wake()

    def _say(self, host: Host, name: Name) -> None:
        sizes = self._choose.choices([0, 1, 100, 5000, 60_000], k=self._choose.randint(0, 5))
        pieces = [payload(size, host.name, name, number) for number, size in enumerate(sizes)]
        self.said[name] = pieces
        self._unsaid[name] = list(pieces)
        self._speak(host, name)


def settings(choose: Random) -> dict[str, Any]:
    return {
        "stream_window": choose.choice([4096, 16_384, 262_144]),
        "session_window": choose.choice([262_144, 1_048_576]),
        "send_buffer": choose.choice([4096, 65_536, 1_048_576]),
        "max_streams": choose.choice([4, 16, 128]),
        "receive_buffer_hint": choose.choice([4096, 65_536, 212_992, 4_194_304]),
        "max_ack_delay": choose.choice([0.0, 0.025, 0.1]),
        "datagram_queue": choose.choice([1200, 65_536]),
    }


def weather(choose: Random) -> dict[str, Any]:
    return {
        "delay": choose.choice([0.001, 0.02, 0.1]),
        "jitter": choose.choice([0.0, 0.005, 0.05]),
        "loss": choose.choice([0.0, 0.02, 0.1, 0.2]),
        "reorder": choose.choice([0.0, 0.05, 0.3]),
        "duplicate": choose.choice([0.0, 0.02, 0.2]),
        "corrupt": choose.choice([0.0, 0.0, 0.01]),
        "rate": choose.choice([None, 100_000, 1_000_000]),
        "queue": choose.choice([8000, 64_000]),
    }


def check(lab: Lab, one: Party, other: Party, *, done: bool) -> bool:
    """Whether all that ``one`` said has come to ``other``, or (where not ``done``) could still come."""
    for name, pieces in one.said.items():
        given_up = name in one.abandoned or name in other.abandoned
        if not given_up and name not in other.over:
            return False
        if not done:
            continue
        said, heard = b"".join(pieces), b"".join(other.heard.get(name, []))
        if not (said.startswith(heard) if given_up else said == heard):
            raise lab.failure(f"stream {name[1]}: {len(said)} bytes were said, {len(heard)} heard, or others")
    if not set(other.datagrams_heard) <= set(one.datagrams_said):
        raise lab.failure("a datagram that nobody sent")
    if len(other.datagrams_heard) > len(one.datagrams_said):
        raise lab.failure("a datagram came twice")
    return True


@pytest.mark.parametrize("story", range(30))
def test_whatever_applications_do_streams_keep_their_word(story: int) -> None:
    lab = Lab(capture=False)
    choose = Random(lab.seed)
    parties = [Party(choose), Party(choose)]
    hosts = [lab.endpoint(name, party, **settings(choose)) for name, party in zip("ab", parties, strict=True)]
    for host in hosts:
        host.coalesce = choose.random() < 0.7
        host.max_segments = choose.choice([1, 2, 64])
    lab.link(*hosts, delay=0.01)
    sessions = choose.choice([1, 1, 3])
    for _ in range(sessions):
        hosts[0].connect(hosts[1])
    lab.run_until(lambda: all(len(party.keys) == sessions for party in parties))
    lab.link(*hosts, **weather(choose))
    for _ in range(STEPS):
        side = choose.randrange(2)
        parties[side].act(hosts[side], lab.now)
        if choose.random() < 0.05:
            lab.rebind(hosts[0], change=choose.choice(["port", "address"]))
        lab.run_for(choose.choice([0.0, 0.001, 0.05, 0.5]))
    one, other = parties
    lab.run_until(lambda: check(lab, one, other, done=False) and check(lab, other, one, done=False), timeout=600.0)
    check(lab, one, other, done=True)
    check(lab, other, one, done=True)
    lab.run_for(30.0)
    for host in hosts:
        assert not host.saw(SessionClosed)
        assert len(host.endpoint.sessions()) == sessions
    lab.link(*hosts, delay=0.01)  # a close is tried for three probe timeouts only, and may go unheard in such weather
    for side in (0, 1) if choose.random() < 0.5 else (choose.randrange(2),):
        for key in parties[side].keys.values():
            hosts[side].session(key).close()
    lab.run_for(120.0)
    for host in hosts:
        assert [event.reason for event in host.all(SessionClosed)] == ["graceful"] * sessions
        assert host.endpoint.sessions() == []
        assert host.endpoint.idle
