"""The tables of docs/protocol.md say what the code says: frames, codes, parameters, limits, and tests that exist."""

from __future__ import annotations

import re

from stt_core import ErrorCode, RateLimits
from stt_core.frames import NOT_ACK_ELICITING, FrameType
from stt_core.packet import HandshakeType, RejectCode
from stt_core.parameters import Tlv
from tests.docs.markdown import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of all table rows under this heading, up to the next one of any level."""
    section = PAGE.split(f"# {heading}\n", 1)[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_frame_is_listed_with_its_type_and_whether_it_asks_for_an_ack() -> None:
    listed = {row[1]: (int(row[0], 16), row[3] == "E") for row in rows("Frames")[1:]}
    assert listed == {kind.name: (kind.value, kind not in NOT_ACK_ELICITING) for kind in FrameType}


def test_every_code_is_listed() -> None:
    assert {row[1]: int(row[0], 16) for row in rows("Codes")[1:]} == {code.name: code.value for code in ErrorCode}


def test_every_parameter_of_the_sealed_part_is_listed() -> None:
    listed = {row[1].upper(): int(row[0]) for row in rows("The sealed part")[1:]}
    assert listed == {kind.name: kind.value for kind in Tlv if kind is not Tlv.END}


def test_every_handshake_message_is_listed_with_its_type() -> None:
    described = {row[0] for row in rows("Handshake") if row[0].isupper()}
    assert described == {kind.name for kind in HandshakeType}
    assert all(f"{kind.value} {kind.name}" in PAGE for kind in (*HandshakeType, *RejectCode))


def test_the_limits_named_are_the_defaults() -> None:
    limits = RateLimits()
    text = "\n".join(" ".join(row) for row in rows("Rate limits"))
    assert f"{limits.hello_rate:g}/s, burst {limits.hello_burst}" in text
    assert f"{limits.validated_hello_rate:g}/s, burst" in text
    assert f"{limits.validated_proof_rate:g}/s, burst" in text
    assert f"burst {limits.failure_burst}, then one per {limits.failure_interval:g} s" in text
    assert f"burst {limits.global_failure_burst}, then one per {limits.global_failure_interval:g} s" in text
    assert f"burst {limits.target_burst}, then one per {limits.target_interval:g} s" in text
    assert str(limits.half_open) in text
    assert f"{limits.used_nonces:,}" in PAGE


def test_each_threat_names_a_test_that_exists() -> None:
    named = [path for row in rows("Threats")[1:] for path in re.findall("`([^`]+)`", row[-1])]
    assert len(named) >= len(rows("Threats")) - 1
    assert not [path for path in named if not (ROOT / path).is_file()]
