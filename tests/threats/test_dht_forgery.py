"""A hostile DHT node: forged ids, records, sequence numbers and tokens, and reflection."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from stt_backends.pyca import PycaCrypto
from stt_core.dht import Bootstrapped, DHTNode, NodesFound, ProvidersFound, RecordFound, Stored, id_of
from stt_core.dht.ids import Address
from stt_core.dht.wire import (
    NOBODY,
    Kind,
    Provider,
    Query,
    Reply,
    Status,
    build_query,
    build_reply,
    is_reply,
    parse_query_untrusted,
    parse_reply_untrusted,
    provider_statement,
    sign_record,
)
from stt_core.types import Path
from tests.dht.network import Host, Network

CONTENT = b"c" * 32
CRYPTO = PycaCrypto()
MALLORY = CRYPTO.ed25519(b"mallory's seed, 32 bytes of it..")
FROM: Address = ("66.6.6.6", 666)


def say(host: Host, data: bytes, source: Address = FROM) -> list[bytes]:
    """Hand a message to a node; what it sends back to that source at once, pings aside."""
    host.node.receive_datagram(data, Path("udp", source), host.network.clock.now)
    heard = []
    while (out := host.node.poll_transmit(host.network.clock.now)) is not None:
        if out.path.address == source and is_reply(out.data):
            heard.append(out.data)
    return heard


def victim() -> Host:
    network = Network(crypto=CRYPTO)
    hosts = [network.add() for _ in range(4)]
    for host in hosts[1:]:
        network.until(host, Bootstrapped, host.node.bootstrap([hosts[0].address], network.clock.now))
    return hosts[0]


def query(host: Host, kind: Kind, **fields: object) -> bytes:
    made = Query(kind, b"12345678", MALLORY.public, addressed=True, target=CONTENT)
    return build_query(replace(made, **fields), MALLORY, host.node.node_id)  # type: ignore[arg-type]


def token(host: Host, source: Address = FROM) -> bytes:
    (reply,) = say(host, query(host, Kind.GET), source)
    return parse_reply_untrusted(reply).token


def announcement(host: Host, given: bytes, wall: float) -> bytes:
    expires = int(wall) + 3600
    proof = MALLORY.sign(provider_statement(CONTENT, 80, expires, b""))
    return query(host, Kind.ANNOUNCE, token=given, port=80, expires=expires, proof=proof)


def status(replies: list[bytes]) -> Status:
    (reply,) = replies
    return parse_reply_untrusted(reply).status


def wall(host: Host) -> float:
    return host.network.clock.now + 1.7e9


# --- forged ids


def test_nobody_can_speak_for_anothers_key() -> None:
    host = victim()
    genuine = query(host, Kind.FIND_NODE)
    other = CRYPTO.ed25519(b"o" * 32).public
    assert len(say(host, genuine)) == 1
    assert say(host, genuine[:9] + other + genuine[41:]) == []
    assert say(host, genuine[:-1] + bytes((genuine[-1] ^ 1,))) == []
    assert host.node.statistics()["forged"] == 2


def test_a_query_to_one_node_cannot_be_shown_to_another() -> None:
    host = victim()
    elsewhere = build_query(Query(Kind.PING, b"12345678", MALLORY.public, addressed=True), MALLORY, b"x" * 32)
    assert say(host, elsewhere) == []


def test_a_reply_by_another_key_than_was_asked_for_is_not_believed() -> None:
    """Mallory sits on the way, answers in another's place, and all it gains is to be taken for nobody."""
    host = victim()
    network = host.network
    asked = next(other for other in network.hosts.values() if other is not host)

    def forge(data: bytes, source: Address, destination: Address) -> None:
        if source == host.address and destination == asked.address and not is_reply(data):
            wanted = parse_query_untrusted(data)
            reply = Reply(wanted.kind, wanted.transaction, MALLORY.public, source, token=b"8 bytes.")
            host.node.receive_datagram(
                build_reply(reply, MALLORY, host.node.node_id, data), Path("udp", destination), network.clock.now
            )

    network.tap = forge
    network.until(host, NodesFound, host.node.find_node(CONTENT, network.clock.now))
    assert host.node.statistics()["refused_replies"] > 0
    assert host.node.table.contact(id_of(MALLORY.public)) is None


def test_a_reply_to_an_earlier_query_is_not_one_to_this() -> None:
    host = victim()
    network = host.network
    heard: list[tuple[bytes, Address]] = []
    network.tap = lambda data, source, destination: (
        heard.append((data, source)) if destination == host.address else None
    )
    network.until(host, NodesFound, host.node.find_node(CONTENT, network.clock.now))
    before = host.node.statistics()["refused_replies"]
    replies = [(data, source) for data, source in heard if is_reply(data)]
    for data, source in replies:
        host.node.receive_datagram(data, Path("udp", source), network.clock.now)
    assert host.node.statistics()["refused_replies"] == before + len(replies)


def test_who_only_asks_gets_into_no_bucket() -> None:
    host = victim()
    for number in range(200):
        signer = CRYPTO.ed25519(b"%032d" % number)
        made = Query(Kind.PING, b"12345678", signer.public, addressed=True)
        say(host, build_query(made, signer, host.node.node_id), (f"77.{number}.1.1", 1))
    host.network.run(10)
    assert len(host.node.table) == 3


# --- forged records


def test_a_record_that_its_owner_did_not_sign_is_not_kept() -> None:
    host = victim()
    record = sign_record(MALLORY, b"value", b"", 1, int(wall(host)) + 3600)
    put = query(host, Kind.PUT, token=token(host), record=replace(record, value=b"other"))
    assert status(say(host, put)) is Status.REFUSED
    other = CRYPTO.ed25519(b"o" * 32).public
    put = query(host, Kind.PUT, token=token(host), record=replace(record, public=other))
    assert status(say(host, put)) is Status.REFUSED
    assert status(say(host, query(host, Kind.PUT, token=token(host), record=record))) is Status.STORED


@pytest.mark.parametrize("forged", ["value", "target", "over", "for ever"])
def test_a_record_that_is_not_what_was_looked_for_is_not_believed(forged: str) -> None:
    """The nodes that keep it lie; the seeker checks for itself."""
    network = Network(crypto=CRYPTO)
    seeker, liar = network.add(), network.add()
    network.until(seeker, Bootstrapped, seeker.node.bootstrap([liar.address], network.clock.now))
    genuine = sign_record(MALLORY, b"value", b"", 5, int(network.clock.now + 1.7e9) + 3600)
    lies = {
        "value": replace(genuine, value=b"other"),
        "target": sign_record(MALLORY, b"value", b"another salt", 5, genuine.expires),
        "over": sign_record(MALLORY, b"value", b"", 5, genuine.expires - 7200),
        "for ever": sign_record(MALLORY, b"value", b"", 5, genuine.expires + 10 * 86_400),
    }
    liar.node.store._records[genuine.target] = (lies[forged], None)
    if forged == "over":
        liar.node.store.record = lambda target, wall: lies[forged]  # type: ignore[method-assign]
    event = network.until(seeker, RecordFound, seeker.node.get(genuine.target, network.clock.now))
    assert event.record is None
    liar.node.store._records[genuine.target] = (genuine, None)
    if forged != "over":
        event = network.until(seeker, RecordFound, seeker.node.get(genuine.target, network.clock.now))
        assert event.record == genuine


def test_a_provider_that_did_not_announce_itself_is_not_believed() -> None:
    network = Network(crypto=CRYPTO)
    seeker, liar = network.add(), network.add()
    network.until(seeker, Bootstrapped, seeker.node.bootstrap([liar.address], network.clock.now))
    expires = int(network.clock.now + 1.7e9) + 3600
    proof = MALLORY.sign(provider_statement(b"other content".ljust(32), 80, expires, b""))
    liar.node.store.add_provider(
        CONTENT, Provider(MALLORY.public, "66.6.6.6", 80, expires, b"", proof), "x", network.clock.now + 1.7e9
    )
    event = network.until(seeker, ProvidersFound, seeker.node.find_providers(CONTENT, network.clock.now))
    assert event.providers == ()


def test_a_strangers_word_sends_nobody_to_its_own_loopback() -> None:
    network = Network(crypto=CRYPTO)
    seeker, liar = network.add(), network.add()
    network.until(seeker, Bootstrapped, seeker.node.bootstrap([liar.address], network.clock.now))
    now = network.clock.now
    liar.node.table.answered(DHTNode(id_of(b"service"), "127.0.0.1", 53), now, 1e9)
    expires = int(wall(liar)) + 3600
    proof = MALLORY.sign(provider_statement(CONTENT, 53, expires, b""))
    liar.node.store.add_provider(
        CONTENT, Provider(MALLORY.public, "127.0.0.1", 53, expires, b"", proof), "x", wall(liar)
    )
    asked = Counter[str]()
    network.tap = lambda data, source, destination: asked.update([destination[0]])
    event = network.until(seeker, ProvidersFound, seeker.node.find_providers(CONTENT, network.clock.now))
    assert event.providers == ()
    assert asked[liar.address[0]] > 0
    assert asked["127.0.0.1"] == 0


# --- forged sequence numbers and times


def test_an_old_record_does_not_replace_a_new_one() -> None:
    host = victim()
    expires = int(wall(host)) + 3600
    new, old = (sign_record(MALLORY, b"%d" % number, b"", number, expires) for number in (5, 4))
    assert status(say(host, query(host, Kind.PUT, token=token(host), record=new))) is Status.STORED
    assert status(say(host, query(host, Kind.PUT, token=token(host), record=old))) is Status.REFUSED
    assert host.node.store.record(new.target, wall(host)) == new


@pytest.mark.parametrize("lifetime", [-1, 0, 86_400 + 60])
def test_nothing_is_kept_that_is_over_or_that_would_be_kept_longer_than_a_day(lifetime: int) -> None:
    host = victim()
    record = sign_record(MALLORY, b"", b"", 1, int(wall(host)) + lifetime)
    assert status(say(host, query(host, Kind.PUT, token=token(host), record=record))) is Status.REFUSED


# --- forged tokens


def test_a_token_is_good_for_its_address_and_its_node_for_ten_minutes_at_most() -> None:
    host = victim()
    given = token(host)
    assert status(say(host, announcement(host, b"8 bytes.", wall(host)))) is Status.BAD_TOKEN
    assert status(say(host, announcement(host, given, wall(host)), ("66.6.6.7", 666))) is Status.BAD_TOKEN
    assert status(say(host, announcement(host, given, wall(host)))) is Status.STORED
    host.network.run(601)
    assert status(say(host, announcement(host, given, wall(host)))) is Status.BAD_TOKEN
    assert host.node.statistics()["bad_tokens"] == 3


def test_nobody_can_announce_another_host() -> None:
    """A message from a forged source address never learns that address's token, so the victim's is in no record."""
    host = victim()
    mine = token(host)
    assert status(say(host, announcement(host, mine, wall(host)), ("8.8.8.8", 80))) is Status.BAD_TOKEN
    assert host.node.known_providers(CONTENT) == ()
    say(host, announcement(host, mine, wall(host)))
    assert host.node.known_providers(CONTENT) == (DHTNode(id_of(MALLORY.public), FROM[0], 80),)


# --- reflection


def test_no_reply_is_longer_than_twice_its_query() -> None:
    host = victim()
    for number in range(200):
        host.node.table.answered(
            DHTNode(id_of(b"%d" % number), f"2001:db8:{number:x}::1", 1), host.network.clock.now, 1e9
        )
    for kind in (Kind.PING, Kind.FIND_NODE, Kind.FIND_PROVIDERS, Kind.GET):
        data = query(host, kind)
        for cut in (len(data), len(data) - 1, 100, 1):
            for reply in say(host, data[:cut]):
                assert len(reply) <= 2 * cut


def test_with_the_ping_that_follows_it_a_reply_is_three_times_its_query() -> None:
    """To an address that never answers, which may be forged, no more goes out than that, however long one waits."""
    host = victim()
    for number in range(200):
        host.node.table.answered(
            DHTNode(id_of(b"%d" % number), f"2001:db8::{number:x}", 1), host.network.clock.now, 1e9
        )
    sent = Counter[Address]()
    host.network.tap = lambda data, source, destination: sent.update({destination: len(data)})
    received = 0
    for number in range(40):
        signer = CRYPTO.ed25519(b"%032d" % number)
        made = Query(Kind.FIND_NODE, b"12345678", signer.public, addressed=True, target=CONTENT)
        data = build_query(made, signer, host.node.node_id)
        host.receive(data, FROM)
        received += len(data)
    host.network.run(60)
    assert received < sent[FROM] <= 3 * received


def test_a_reply_is_never_answered() -> None:
    host = victim()
    (reply,) = say(host, query(host, Kind.FIND_NODE))
    sent = Counter[str]()
    host.network.tap = lambda data, source, destination: sent.update([source[0]])
    host.node.receive_datagram(reply, Path("udp", FROM), host.network.clock.now)
    host.turn()
    assert not sent


def test_a_node_does_not_answer_itself() -> None:
    host = victim()
    signer = host.node._signer
    own = build_query(Query(Kind.PING, b"12345678", signer.public, addressed=False), signer, None)
    assert bytes(32) == NOBODY
    assert say(host, own) == []


def test_each_source_has_a_ration() -> None:
    host = victim()
    data = query(host, Kind.PING)
    answered = sum(len(say(host, data)) for _ in range(500))
    assert answered == host.node.config.query_burst
    assert len(say(host, data, ("66.6.6.8", 1))) == 1, "others have their own"


# --- memory


def test_a_source_can_fill_an_eighth_of_what_is_kept_and_no_more() -> None:
    network = Network()
    host = network.add(config=replace(victim().node.config, most_records=80, query_burst=10_000))
    signer = network.crypto.ed25519(b"greedy")
    expires = int(wall(host)) + 3600
    outcomes = Counter[Status]()
    for number in range(100):
        made = Query(Kind.GET, b"12345678", signer.public, addressed=True, target=CONTENT)
        (found,) = say(host, build_query(made, signer, host.node.node_id))
        put = replace(
            made,
            kind=Kind.PUT,
            token=parse_reply_untrusted(found).token,
            record=sign_record(signer, b"", b"%d" % number, 1, expires),
        )
        outcomes[status(say(host, build_query(put, signer, host.node.node_id)))] += 1
    assert outcomes == {Status.STORED: 10, Status.REFUSED: 90}
    handle, _ = host.node.put(b"own", network.clock.now)
    assert network.until(host, Stored, handle).stored == 0
