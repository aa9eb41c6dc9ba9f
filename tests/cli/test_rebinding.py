"""Real processes, and a NAT between them that forgets its bindings in the middle of a transfer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Receiver, last_json, outcome, receiving, running
from tests.cli.files import MIB, make_file
from tests.support.relay import RelayProcess

SIZE = 64 * MIB
TIMES = 3


def test_a_transfer_ends_over_websocket_where_udp_falls_silent_in_the_middle(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "big.bin", SIZE)
    with (
        receiving(inbox, "--transport", "both") as receiver,
        RelayProcess(("127.0.0.1", receiver.port), delay=0.002) as relay,
        running(
            "send", str(source), f"127.0.0.1:{relay.address[1]}", "--fallback", f"ws://{receiver.address}/", "--json"
        ) as sender,
    ):
        wait_for(receiver, source.name, SIZE // 3)
        relay.pause()
        code, stdout, stderr = outcome(sender)
        received = receiver.finish()
    assert (code, received[0]) == (0, 0), stderr + received[2]
    assert last_json(stdout)["transport"] == last_json(received[1])["transport"] == "websocket"
    assert (inbox / source.name).read_bytes() == source.read_bytes()


def wait_for(receiver: Receiver, name: str, size: int) -> None:
    """Until so many bytes of a file are there."""
    part = receiver.directory / f"{name}.stt.part"
    while not part.exists() or part.stat().st_size < size:
        assert receiver.process.poll() is None
        assert not (receiver.directory / name).exists(), "it was faster than this test"


@pytest.mark.parametrize("loss", [0.0, 0.01])
def test_a_file_arrives_whole_though_its_sender_appears_under_other_ports(
    tmp_path: Path, inbox: Path, loss: float
) -> None:
    source = make_file(tmp_path, "big.bin", SIZE)
    with (
        receiving(inbox) as receiver,
        RelayProcess(("127.0.0.1", receiver.port), loss=loss, delay=0.002, seed=7) as relay,
        running("send", str(source), f"127.0.0.1:{relay.address[1]}", "--json") as sender,
    ):
        for turn in range(TIMES):
            wait_for(receiver, source.name, (turn + 1) * SIZE // (TIMES + 2))
            relay.rebind()
        code, stdout, stderr = outcome(sender)
        received = receiver.finish()
        counts = relay.stop()
    assert (code, received[0]) == (0, 0), stderr + received[2]
    assert counts["rebound"] == TIMES
    assert (inbox / source.name).read_bytes() == source.read_bytes()
    assert last_json(stdout)["ok"] is True
