"""Introductions: what one side says about itself, and when the other side believes it."""

from __future__ import annotations

import pytest

from stt_core.errors import Violation
from stt_core.handshake.identity import Binding, Identity, node_id_of
from stt_core.handshake.sealed import parse_sealed_untrusted, seal_content
from stt_core.handshake.seed import weak_seed_reason
from stt_core.keys import lv
from stt_core.packet import PROOF_ROOM
from stt_core.parameters import Tlv, TransportParameters, encode_tlvs
from stt_core.types import Role
from tests.handshake.pair import CRYPTO, entropy_of

BINDING = Binding(b"1" * 32, b"a" * 32, b"b" * 32)
PARAMETERS = TransportParameters(initial_max_data=77, reset_token=b"t" * 16)
IDENTITY = Identity(b"0123456789abcdef", CRYPTO, entropy_of("identity"))


def sealed(node_id: bytes = b"me", role: Role = Role.INITIATOR, binding: Binding = BINDING) -> bytes:
    return seal_content(role, node_id, PARAMETERS, IDENTITY, binding, PROOF_ROOM)


@pytest.mark.parametrize("node_id", [b"m", b"m" * 127, b"m" * 128, b"m" * 255])
def test_an_introduction_reads_back_as_it_was_made(node_id: bytes) -> None:
    content = sealed(node_id)
    assert len(content) == PROOF_ROOM
    found = parse_sealed_untrusted(content, CRYPTO, Role.INITIATOR, BINDING)
    assert (found.node_id, found.parameters, found.identity_key) == (node_id, PARAMETERS, IDENTITY.public)


@pytest.mark.parametrize(
    ("role", "binding"),
    [
        (Role.RESPONDER, BINDING),
        (Role.INITIATOR, BINDING._replace(th1=b"2" * 32)),
        (Role.INITIATOR, BINDING._replace(ya=b"2" * 32)),
        (Role.INITIATOR, BINDING._replace(yb=b"2" * 32)),
    ],
)
def test_an_identity_proof_holds_in_its_own_handshake_and_role_only(role: Role, binding: Binding) -> None:
    with pytest.raises(Violation, match="identity proof"):
        parse_sealed_untrusted(sealed(), CRYPTO, role, binding)


def test_an_identity_proof_is_for_one_node_id() -> None:
    with pytest.raises(Violation, match="identity proof"):
        parse_sealed_untrusted(sealed(b"me").replace(b"\x02me", b"\x02us", 1), CRYPTO, Role.INITIATOR, BINDING)


def test_an_introduction_without_identity_is_taken_as_such() -> None:
    nobody = Identity(None, CRYPTO, entropy_of("random"))
    content = seal_content(Role.INITIATOR, b"me", PARAMETERS, nobody, BINDING, PROOF_ROOM)
    assert content == (lv(b"me") + PARAMETERS.encode()).ljust(len(sealed()), b"\0")
    assert parse_sealed_untrusted(content, CRYPTO, Role.INITIATOR, BINDING).identity_key is None


def test_a_derived_node_id_belongs_to_its_key() -> None:
    own = node_id_of(IDENTITY.public)
    assert parse_sealed_untrusted(sealed(own), CRYPTO, Role.INITIATOR, BINDING).node_id == own
    for claimed in (sealed(node_id_of(b"k" * 32)), lv(own) + PARAMETERS.encode()):
        with pytest.raises(Violation, match="another identity key"):
            parse_sealed_untrusted(claimed, CRYPTO, Role.INITIATOR, BINDING)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"\x05four",
        b"\x80\x00" + bytes(200),
        b"\x85\x00short",
        b"\x80\x02" + b"x" * 256,
        b"\xff\xff" + b"x" * 900,
        lv(b"me") + encode_tlvs({Tlv.IDENTITY: bytes(95)}),
        lv(b"me") + b"\x01\0\x01",
    ],
    ids=["empty", "no id", "cut short", "zero in two", "long form of 5", "256", "16383", "identity size", "tlv"],
)
def test_a_malformed_introduction_is_a_violation(content: bytes) -> None:
    with pytest.raises(Violation):
        parse_sealed_untrusted(content, CRYPTO, Role.INITIATOR, BINDING)


def test_one_node_seed_is_one_identity_and_none_is_a_new_one_each_time() -> None:
    again = Identity(b"0123456789abcdef", CRYPTO, entropy_of("another"))
    assert again.public == IDENTITY.public
    assert again.configured
    entropy = entropy_of("random")
    random = [Identity(None, CRYPTO, entropy) for _ in range(2)]
    assert random[0].public != random[1].public
    assert not random[0].configured


def test_the_identity_shows_its_public_half_only() -> None:
    assert repr(IDENTITY) == f"<Identity {IDENTITY.public.hex()}>"


@pytest.mark.parametrize("seed", [b"", b"1234567", b"correct-horse-battery-staple", b"seed_default"])
def test_weak_seeds_are_named_as_such(seed: bytes) -> None:
    assert weak_seed_reason(seed)


def test_nothing_is_said_against_a_seed_of_its_own() -> None:
    assert weak_seed_reason(b"12345678") is None
