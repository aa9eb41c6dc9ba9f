"""Threat "seed holder claims another's node id", where identities are pinned on first use."""

from __future__ import annotations

from typing import Any

import pytest

from stt_core.errors import ConnectError, PeerKeyError, StoreError
from stt_core.events import HandshakeFailed, PeerRejected, SessionEstablished
from stt_core.pins import MemoryPinStore
from tests.core.pair import End, Pair

ALICES, BOBS = b"the seed of alice herself", b"the seed of bob alone, his"
OTHERS = b"the seed of one who holds the shared seed, too"


class BrokenStore(MemoryPinStore):
    def pinned(self, node_id: bytes) -> bytes | None:
        raise StoreError("the disk is gone")

    def pin(self, node_id: bytes, key: bytes) -> bytes:
        raise StoreError("the disk is gone")


def told(end: End) -> list[Any]:
    return [*end.told(SessionEstablished), *end.told(HandshakeFailed)]


def rejected(end: End) -> list[Exception]:
    return [event.error for event in end.events if isinstance(event, PeerRejected)]


def attempt(alice: dict[str, Any], bob: dict[str, Any]) -> Pair:
    """Alice connects to Bob, however that ends."""
    pair = Pair(alice=alice, bob=bob)
    pair.alice.endpoint.connect(pair.bob.address, now=pair.now)
    pair.run_until(lambda: bool(told(pair.alice)))
    pair.run(1.0)
    return pair


def test_who_answers_as_a_pinned_peer_must_prove_its_key() -> None:
    pins = MemoryPinStore()
    first = attempt({"pins": pins}, {"node_seed": BOBS})
    assert first.alice.told(SessionEstablished)
    assert first.bob.told(SessionEstablished)
    assert attempt({"pins": pins}, {"node_seed": BOBS}).alice.told(SessionEstablished)
    pinned = pins.pinned(b"bob")
    assert pinned == first.alice.told(SessionEstablished)[0].peer_identity_key
    for impostor in ({"node_seed": OTHERS}, {}, {"node_seed": BOBS[::-1], "keep_identity": False}):
        pair = attempt({"pins": pins}, impostor)
        (failed,) = pair.alice.told(HandshakeFailed)
        error = failed.error
        assert isinstance(error, PeerKeyError)
        assert (error.node_id, error.expected) == (b"bob", pinned)
        assert (error.found is None) == (impostor == {})
        assert "pinned" in str(error)
        assert not pair.bob.told(SessionEstablished)
    assert pins.pinned(b"bob") == pinned


def test_who_comes_as_a_pinned_peer_must_prove_its_key() -> None:
    pins = MemoryPinStore()
    assert attempt({"node_seed": ALICES}, {"pins": pins}).bob.told(SessionEstablished)
    pinned = pins.pinned(b"alice")
    for impostor in ({"node_seed": OTHERS}, {}):
        pair = attempt(impostor, {"pins": pins})
        assert isinstance(rejected(pair.bob)[0], PeerKeyError)
        assert isinstance(pair.alice.told(HandshakeFailed)[0].error, ConnectError)
        assert not pair.bob.told(SessionEstablished)
    assert pins.pinned(b"alice") == pinned
    assert attempt({"node_seed": ALICES}, {"pins": pins}).bob.told(SessionEstablished)


def test_an_identity_that_ends_with_its_process_is_not_pinned() -> None:
    pins = MemoryPinStore()
    for bob in ({}, {"node_seed": BOBS, "keep_identity": False}):
        assert attempt({"pins": pins}, bob).alice.told(SessionEstablished)
    assert pins.pinned(b"bob") is None


def test_a_pin_is_not_undone_by_naming_another_key() -> None:
    key = attempt({}, {"node_seed": OTHERS}).alice.told(SessionEstablished)[0].peer_identity_key
    pins = MemoryPinStore({b"bob": b"p" * 32})
    pair = Pair(alice={"pins": pins}, bob={"node_seed": OTHERS})
    pair.alice.endpoint.connect(pair.bob.address, now=pair.now, peer_key=key)
    pair.run_until(lambda: bool(told(pair.alice)))
    assert isinstance(pair.alice.told(HandshakeFailed)[0].error, PeerKeyError)
    assert pins.pinned(b"bob") == b"p" * 32


@pytest.mark.parametrize("store", [BrokenStore(), MemoryPinStore(most=0)], ids=["broken", "full"])
def test_where_the_store_cannot_tell_nobody_is_let_in(store: MemoryPinStore) -> None:
    pair = attempt({"pins": store}, {"node_seed": BOBS})
    error = pair.alice.told(HandshakeFailed)[0].error
    assert isinstance(error, ConnectError)
    assert "isn't known whose" in str(error)
    pair = attempt({"node_seed": ALICES}, {"pins": store})
    assert not pair.bob.told(SessionEstablished)
    assert isinstance(rejected(pair.bob)[0], ConnectError)
