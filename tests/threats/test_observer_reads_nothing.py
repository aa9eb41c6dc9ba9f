"""An observer records every datagram: no id, name or data is in any of them, and sessions can't be linked."""

from __future__ import annotations

from itertools import combinations

from stt_core.events import SessionClosed, SessionEstablished
from stt_core.types import SessionKey
from tests.sim import Host, Lab, Traffic, payload
from tests.support.capture import connection_ids, find_leaks, handshake_type, is_protected, looks_random, reused_nonces

SEED = b"what only the two of them know"
ALICE = b"Alice from the second floor"
BOB = b"Bob of the engine room"
ALICE_SEED = bytes(range(32))
TEXT = b"Meet me where the river turns, at a quarter past nine. " * 400
REASON = "that was all for today"


def conversation(lab: Lab) -> tuple[Host, Host, SessionKey]:
    """Alice and Bob, both with identities, talk in both directions over a bad network and close."""
    a = lab.endpoint("a", shared_seed=SEED, node_id=ALICE, node_seed=ALICE_SEED)
    b = lab.endpoint("b", shared_seed=SEED, node_id=BOB, node_seed=bytes(reversed(range(32))))
    lab.link(a, b, delay=0.02, jitter=0.005, loss=0.05, reorder=0.05, duplicate=0.02)
    return a, b, talk(lab, a, b)


def talk(lab: Lab, a: Host, b: Host) -> SessionKey:
    traffic = Traffic(a, b)
    traffic.messages(a, [TEXT, b"short and secret", payload(20_000, "random")])
    traffic.messages(b, [TEXT[::-1]])
    key = a.connect(b, peer_node_id=BOB)
    lab.run_until(traffic.done, timeout=120)
    traffic.check()
    a.session(key).close(reason=REASON)
    lab.run_until(lambda: a.saw(SessionClosed, key) and b.closed is not None)
    return key


def test_ids_names_and_data_are_in_no_byte_sent() -> None:
    lab = Lab()
    a, b, key = conversation(lab)
    established = b.established
    assert established is not None
    assert established.peer_node_id == ALICE
    secrets = {
        "shared seed": SEED,
        "Alice's node id": ALICE,
        "Bob's node id": BOB,
        "Alice's identity key": established.peer_identity_key or b"",
        "Alice's node seed": ALICE_SEED,
        "session id": a.session(key).session_id,
        "text": TEXT,
        "short message": b"short and secret",
        "random message": payload(20_000, "random"),
        "close reason": REASON.encode(),
        "purpose of a stream": b.stream_openings[0].purpose.encode().ljust(6),
    }
    assert find_leaks((sent.data for sent in lab.transcript), secrets) == []


def test_protected_packets_look_random_and_no_number_seals_two_texts() -> None:
    lab = Lab()
    conversation(lab)
    datagrams = [sent.data for sent in lab.transcript]
    assert all(handshake_type(data) is not None or is_protected(data) for data in datagrams)
    assert looks_random(b"".join(data[13:] for data in datagrams if is_protected(data)))
    assert reused_nonces(datagrams) == []


def test_sessions_of_one_pair_share_no_connection_id_and_no_random_value() -> None:
    lab = Lab()
    a, b, first = conversation(lab)
    captures = [[sent.data for sent in lab.transcript]]
    ids = {a.session(first).session_id}
    for _ in range(2):  # the later ones use address tokens that the earlier ones brought
        for host in (a, b):
            host.apps.clear()
            host.events.clear()
        lab.transcript.clear()
        ids.add(a.session(talk(lab, a, b)).session_id)
        captures.append([sent.data for sent in lab.transcript])
    assert len(ids) == 3
    for one, other in combinations(captures, 2):
        assert len(connection_ids(one)) >= 2
        assert connection_ids(one).isdisjoint(connection_ids(other))
        assert _random_parts(one).isdisjoint(_random_parts(other))


def _random_parts(datagrams: list[bytes]) -> set[bytes]:
    """Nonces, shares, cookies, tags, ciphertexts, wherever they stand: 16 bytes at a time, padding left out."""
    windows = {data[at : at + 16] for data in set(datagrams) for at in range(21, len(data) - 15)}
    return {window for window in windows if window.count(0) < 8}


def test_the_search_would_have_found_them() -> None:
    """The same search in what only a holder of the keys can see, so that finding nothing above means something."""
    lab = Lab()
    a, b, key = conversation(lab)
    seen = [event.peer_node_id for event in b.all(SessionEstablished)] + [TEXT]
    assert {leak.name for leak in find_leaks(seen, {"id": ALICE, "text": TEXT, "other": BOB})} == {"id", "text"}
    assert find_leaks([b"the id is " + a.session(key).session_id], {"session id": a.session(key).session_id})
