"""Private mode: an outsider sees nothing, is told nothing and takes no part; an insider may lie, within limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from stt_core.datagrams import RPC_QUEUE
from stt_core.dht import DHTNode, NodesFound, ProvidersFound, Stored, id_of
from stt_core.dht.ids import Address
from stt_core.dht.wire import Kind, Query, Reply, build_query, build_reply, parse_query_untrusted
from stt_core.errors import CloseReason
from stt_core.events import DhtReadable, SessionClosed
from stt_core.session import Session
from tests.core.pair import End, Flight, Pair
from tests.dht.members import Member, town
from tests.dht.network import CheapCrypto

CONTENT = b"c" * 32
MALLORY = CheapCrypto().ed25519(b"mallory")


def test_whoever_has_another_seed_gets_no_answer_of_any_kind() -> None:
    net, (alice, _) = town(2)
    stranger = End("stranger", ("66.6.6.6", 666), shared_seed=b"another seed")
    net.ends.append(stranger)
    net.run(1)
    before, answered = len(net.sent), alice.dht.statistics()["answered"]
    for recipient in (None, alice.dht.node_id):
        for kind in Kind:
            query = Query(kind, b"12345678", MALLORY.public, addressed=recipient is not None, target=CONTENT)
            if kind not in (Kind.ANNOUNCE, Kind.PUT):
                net.put(Flight(stranger, stranger.path, alice.address, build_query(query, MALLORY, recipient)))
    net.run(5)
    assert [flight for flight in net.sent[before:] if flight.to == stranger.address] == []
    assert alice.attached.counters["outsiders"] == 8
    assert alice.dht.statistics()["answered"] == answered


def test_an_observer_finds_no_id_no_key_and_no_content_id_in_what_is_sent() -> None:
    net, members = town(4)
    members[1].run(Stored, members[1].dht.announce(CONTENT, net.now))
    assert members[3].run(ProvidersFound, members[3].dht.find_providers(CONTENT, net.now)).providers
    everything = b"".join(flight.data for flight in net.sent)
    for member in members:
        assert member.dht.node_id not in everything
        assert member.dht.public_key not in everything
    assert CONTENT not in everything


def test_an_insider_that_floods_a_session_with_messages_fills_no_more_than_its_queue() -> None:
    pair = Pair()
    ours, theirs = pair.connect()
    for _ in range(100):
        for _ in range(50):
            ours.send_dht(bytes(1000))
        pair.run(0.2)
    assert len(pair.bob.told(DhtReadable)) == 1
    waiting = []
    while (message := theirs.read_dht()) is not None:
        waiting.append(message)
    assert 0 < sum(map(len, waiting)) <= RPC_QUEUE
    for _ in range(10):
        for _ in range(2000):
            ours.send_dht(b"")
        pair.run(0.2)
    waiting.clear()
    while (message := theirs.read_dht()) is not None:
        waiting.append(message)
    assert 0 < len(waiting) <= RPC_QUEUE // 64


def test_an_insider_has_the_ration_of_its_address_whatever_sessions_it_makes() -> None:
    net, (alice, _, mallory) = town(3)
    query = Query(Kind.PING, b"12345678", MALLORY.public, addressed=False)
    answered = alice.dht.statistics()["answered"]
    for _ in range(12):
        key = mallory.endpoint.connect(alice.address, now=net.now, dht_only=True)
        net.run(0.2)
        for _ in range(40):
            mallory.endpoint.session(key).send_dht(build_query(query, MALLORY, None))
        net.run(0.05)
    assert alice.dht.statistics()["answered"] - answered <= 200 + 50 * 4
    assert alice.dht.statistics()["limited"] > 0


def test_a_session_for_the_dht_that_carries_anything_else_is_closed() -> None:
    """No application knows of it, so nobody would ever read that, or let the session go."""
    abuses: list[Callable[[Session], object]] = [
        lambda session: session.send_message(session.open_stream(), b"take this"),
        lambda session: session.send_datagram(b"take this"),
    ]
    for abuse in abuses:
        net, (alice, mallory) = town(2)
        key = mallory.endpoint.connect(alice.address, now=net.now, dht_only=True)
        net.run(0.5)
        abuse(mallory.endpoint.session(key))
        net.run(0.5)
        (closed,) = [event for event in mallory.told(SessionClosed) if event.session_key == key]
        assert closed.reason is CloseReason.ERROR
        assert "for DHT messages" in closed.message


class Liar(Member):
    """Whatever it is asked, it names twenty nodes at one address, which is somebody else's."""

    victim: Address = ("66.6.6.6", 53)

    def answer(self, data: bytes, session: Any) -> None:
        query = parse_query_untrusted(data)
        nodes = tuple(DHTNode(id_of(b"%d" % number), *self.victim) for number in range(20))
        signer = self.dht._signer
        reply = Reply(
            query.kind, query.transaction, signer.public, session.path.address, token=b"8 bytes.", nodes=nodes
        )
        session.send_dht(build_reply(reply, signer, id_of(query.public), data, 1168))


def test_what_an_insiders_word_sends_to_a_stranger_is_little_and_ends() -> None:
    """It is the one way in which private mode reaches outside: to make a session with whom somebody named."""
    net, (alice, bob) = town(2)
    liar = Liar(net, 2)
    liar.join(alice.address)
    net.run(1)
    heard = Counter[bool]()

    def lie(event: Any, now: float) -> None:
        if isinstance(event, DhtReadable):
            session = liar.endpoint.session(event.session_key)
            while (message := session.read_dht()) is not None:
                if not message[0] & 0x20:
                    liar.answer(message, session)
                    heard[True] += 1

    liar.attached.handle_event = lie  # type: ignore[method-assign]
    before = len(net.sent)
    for _ in range(3):
        alice.run(NodesFound, alice.dht.find_node(id_of(b"7"), net.now))
    net.run(60)
    sent = [flight.data for flight in net.sent[before:] if flight.to == Liar.victim]
    assert heard[True] > 0
    assert 0 < len(sent) <= 3 * 4, "four HELLOs in three seconds, for each of the look-ups"
    assert {data[0] for data in sent} == {0xC1}
    assert alice.attached._dials == {}
    assert bob.dht.statistics()["contacts"] >= 1
