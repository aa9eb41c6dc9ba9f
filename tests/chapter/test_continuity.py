"""The chapter's "Cryptographic Session Continuity": a session that is named by seeds, and goes on wherever they are."""

from __future__ import annotations

from typing import Any

import pytest

from stt_core.errors import ConfigurationError, StateError
from tests.chapter.world import SEED, World, everywhere

ALICES = b"the seed of Alice's identity, on all of her devices"
OTHER = {"udp": "websocket", "websocket": "udp"}


async def settled(world: World, session: Any) -> None:
    """The peer's ticket for it has come."""
    while session.resumption_token is None:
        await world.loop.sleep(0)


async def alice_and_peer(world: World, **alice: Any) -> tuple[Any, Any]:
    """Both at home at either transport."""
    node = await world.started(node_id=b"Alice", node_seed=ALICES, resumable=True, transport="udp", **alice)
    return node, await world.started(node_id=b"peer", resumable=True, transport="both")


@everywhere
async def test_cryptographic_session_continuity(world: World) -> None:
    """The program: on WiFi by one transport, on LTE by the other; the streams go on, byte for byte."""
    node, peer = await alice_and_peer(world)
    stc_wrapper = stc = node
    continuity = world.stt.CryptoSessionContinuity(stc_wrapper, resumption_timeout=86400)
    session_id, resume_token = continuity.create_resumable_session(
        peer_node_id=b"peer", node_seed=ALICES, shared_seed=SEED
    )
    assert len(session_id) == 8

    session = await node.connect(world.address_of(peer), b"peer")
    stream = session.open_stream()
    await stream.send(b"on WiFi")
    theirs = await (await peer.accept()).accept_stream()
    assert await theirs.receive() == b"on WiFi"
    await settled(world, session)

    resumed = await continuity.resume_session(
        resume_token,
        new_transport_type=OTHER[world.transport],
        new_peer_addr=("127.0.0.1", peer.port),
        stc_wrapper=stc,
    )
    assert resumed is session
    assert (resumed.resumed, resumed.path.transport) == ("full", OTHER[world.transport])
    await stream.send(b"on LTE")
    assert await theirs.receive() == b"on LTE"
    await theirs.send(b"heard you")
    assert await stream.receive() == b"heard you"


@everywhere
async def test_resume_across_devices(world: World) -> None:
    """Same seeds, same session: the newest device has it, and the others learn that they were superseded."""
    stt = world.stt
    laptop, peer = await alice_and_peer(world)
    phone = await world.started(node_id=b"Alice", node_seed=ALICES, transport="udp")
    address = ("127.0.0.1", peer.port)
    told: list[tuple[bytes, str]] = []
    laptop.on_session_closed(lambda *details: told.append(details))
    laptops, phones = stt.CryptoSessionContinuity(laptop), stt.CryptoSessionContinuity(phone, resumption_timeout=60)
    first = await laptop.connect(world.address_of(peer), b"peer")
    session_id, token = laptops.create_resumable_session(b"peer")  # after connecting does as well
    assert phones.create_resumable_session(b"peer", node_seed=ALICES)[0] == session_id

    taken = await phones.resume_session(bytes(token), world.transport, address)
    assert taken.resumed == "identity"
    await first.wait_closed()
    assert told == [(first.session_id, "superseded")]
    back = await laptops.resume_session(token, world.transport, address)
    assert back.resumed == "identity"
    await taken.wait_closed()
    assert back.alive
    stream = back.open_stream()
    await stream.send(b"back again")
    sessions = [await peer.accept() for _ in range(3)]
    assert await (await sessions[-1].accept_stream()).receive() == b"back again"


@everywhere
async def test_seeds_and_tokens_of_others_are_the_callers_mistake(world: World) -> None:
    """Seeds other than the node's, or none; a token of others, or damaged. One that is too old begins afresh."""
    now = [1_700_000_000.0]
    node, peer = await alice_and_peer(world)
    address = ("127.0.0.1", peer.port)
    make = world.stt.CryptoSessionContinuity
    continuity = make(node, resumption_timeout=60, clock=lambda: now[0])
    _, token = continuity.create_resumable_session(b"peer")
    wrong: list[dict[str, Any]] = [{"node_seed": ALICES[::-1]}, {"shared_seed": b"another"}, {"node_seed": "text"}]
    for seeds in wrong:
        with pytest.raises(ConfigurationError, match=r"_seed is"):
            continuity.create_resumable_session(b"peer", **seeds)
    with pytest.raises(ConfigurationError, match="takes a node with a node_seed"):
        make(peer).create_resumable_session(b"Alice")
    with pytest.raises(ConfigurationError, match="resumption_timeout"):
        make(node, resumption_timeout=86401)
    for damaged in (token[:-1], b"", b"STTC\x01", bytes(100)):
        with pytest.raises(ConfigurationError, match="resume token"):
            await continuity.resume_session(damaged, world.transport, address)
    other = await world.started(node_seed=ALICES[::-1])
    with pytest.raises(ConfigurationError, match="another node_seed"):
        await make(other).resume_session(token, world.transport, address)
    assert token.hex() not in f"{token!r} {token}"
    await node.connect(world.address_of(peer), b"peer")
    with pytest.raises(StateError, match="no ticket yet"):
        await continuity.resume_session(token, world.transport, address)
    now[0] += 60.0
    session = await continuity.resume_session(token, world.transport, address)
    assert session.resumed == "no"
