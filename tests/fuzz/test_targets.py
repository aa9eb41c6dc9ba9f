"""The targets see what they are there to see: each breaks when the code behind it is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

import fuzz.__main__ as command
from fuzz.mutate import mutations
from fuzz.registry import corpus, targets
from stt_core import frames
from stt_core.content.manifest import Manifest
from stt_core.datagrams import Datagrams
from stt_core.handshake import Initiator
from stt_core.packing import Token
from stt_core.streams.map import StreamMap


def breaks(name: str, runs: int = 300) -> bool:
    """Whether the target fails on its corpus or on a mutation of it."""
    target = targets()[name]
    for data in [*corpus(name), *islice(mutations(corpus(name), 1), runs)]:
        try:
            target(data)
        except Exception:  # noqa: BLE001 - any is a find
            return True
    return False


def without_length_check(plain: bytes, position: int, length: int) -> bytes:
    return plain[position : position + length]


def raising(self: Datagrams, data: bytes) -> bool:
    raise OverflowError("a bug")


def forgetful(self: StreamMap, token: Token) -> None:
    """Losses are not repeated."""


def credulous(self: Manifest, first: int, data: bytes, hashes: tuple[bytes, ...]) -> None:
    """Whatever a provider sends is taken for the content."""


def stubborn(self: Initiator, data: bytes, now: float) -> None:
    """Nothing that arrives is looked at."""


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "broken"),
    [
        ("frames", frames, "_take", without_length_check),
        ("sealed", Datagrams, "receive", raising),
        ("dht_frames", Datagrams, "receive_rpc", raising),
        ("streams", StreamMap, "on_lost", forgetful),
        ("handshake", Initiator, "receive_packet", stubborn),
        ("content_exchange", Manifest, "check_run_untrusted", credulous),
    ],
    ids=["frames", "sealed", "dht_frames", "streams", "handshake", "content"],
)
def test_a_bug_is_found(
    name: str, owner: object, attribute: str, broken: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, attribute, broken)
    assert breaks(name)


def test_the_command_keeps_what_broke_a_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "FINDINGS", tmp_path / "findings")
    monkeypatch.setattr(frames, "_take", without_length_check)
    assert command.main(["--engine", "seeded", "--seconds", "30", "frames"]) == 1
    (finding,) = (tmp_path / "findings").iterdir()
    assert f"--replay {finding} frames" in capsys.readouterr().err
    with pytest.raises(AssertionError):
        command.main(["--replay", str(finding), "frames"])
    monkeypatch.undo()
    assert command.main(["--replay", str(finding), "frames"]) == 0


def test_the_command_is_content_where_everything_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "FINDINGS", tmp_path / "findings")
    assert command.main(["--engine", "seeded", "--seconds", "0.02", "frames", "message_length"]) == 0
    assert "runs held" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_target_is_named_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["nonsense"])
    assert "no target nonsense; there are frames, packet" in capsys.readouterr().err
