"""Transfers that were cut, by a kill or worse, and go on from the bytes that both sides find to be right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from stt_anyio.cli.disk import digest
from tests.cli.command import Receiver, errors, last_json, outcome, receiving, running, stt
from tests.cli.files import MIB, make_file
from tests.cli.peer import connected, hear, offer, tell
from tests.support.relay import RelayProcess

SIZE = 24 * MIB


def part_of(source: Path, inbox: Path) -> Path:
    return inbox / f"{source.name}.stt.part"


def wait_for(receiver: Receiver, source: Path, size: int) -> None:
    """Until so many bytes of a file are there."""
    part = part_of(source, receiver.directory)
    while not part.exists() or part.stat().st_size < size:
        assert receiver.process.poll() is None
        assert not (receiver.directory / source.name).exists(), "it was faster than this test"


def cut(source: Path, inbox: Path, who: str) -> int:
    """Send ``source`` until a third of it is there, and kill one of the two processes; what is left then, in bytes."""
    with (
        receiving(inbox) as receiver,
        RelayProcess(("127.0.0.1", receiver.port), delay=0.005) as relay,
        running("send", str(source), f"127.0.0.1:{relay.address[1]}") as sender,
    ):
        wait_for(receiver, source, SIZE // 3)
        process = receiver.process if who == "receiver" else sender
        process.kill()
        process.wait()
        # And then the other one: it would wait for 10 s.
    return part_of(source, inbox).stat().st_size


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_a_transfer_goes_on_after_either_process_was_killed(tmp_path: Path, inbox: Path, who: str) -> None:
    source = make_file(tmp_path, "big.bin", SIZE)
    left = cut(source, inbox, who)
    assert SIZE // 3 <= left < SIZE
    with receiving(inbox) as receiver:
        sender = stt("send", str(source), receiver.address, "--json")
        code, stdout, stderr = receiver.finish()
    assert (sender.returncode, code) == (0, 0), sender.stderr + stderr
    for record in (last_json(sender.stdout), last_json(stdout)):
        assert (record["resumed_bytes"], record["bytes"], record["files"]) == (left, SIZE, 1)
    assert receiver.stored() == [source.name]
    assert (inbox / source.name).read_bytes() == source.read_bytes()


def test_a_killed_sender_is_noticed_and_one_that_is_started_at_once_waits_for_that(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "big.bin", SIZE)
    with receiving(inbox, once=False) as receiver:
        with (
            RelayProcess(("127.0.0.1", receiver.port), delay=0.005) as relay,
            running("send", str(source), f"127.0.0.1:{relay.address[1]}") as first,
        ):
            wait_for(receiver, source, SIZE // 3)
            first.kill()
            first.wait()
        sender = stt("send", str(source), receiver.address, "--json")
        code, stdout, stderr = receiver.interrupt()
    assert (sender.returncode, code) == (0, 130), sender.stderr + stderr
    assert last_json(sender.stdout)["resumed_bytes"] >= SIZE // 3
    assert (inbox / source.name).read_bytes() == source.read_bytes()
    assert (last_json(stdout)["files"], last_json(stdout)["failed"]) == (1, 1)
    noticed, _ = errors(stderr)
    assert noticed.startswith("stt: big.bin: the session ended: nothing heard from the peer for 10.0 s")


def test_a_sender_looks_for_a_receiver_that_is_restarted_in_the_middle(tmp_path: Path, inbox: Path) -> None:
    first, big, last = (make_file(tmp_path, name, size) for name, size in (("a", MIB), ("big.bin", SIZE), ("b", MIB)))
    with (
        receiving(inbox) as receiver,
        RelayProcess(("127.0.0.1", receiver.port), delay=0.005) as relay,
        running(
            "send", *map(str, (first, big, last)), f"127.0.0.1:{relay.address[1]}", "--json", "--retry", "60"
        ) as sender,
    ):
        wait_for(receiver, big, SIZE // 3)
        receiver.interrupt()
        left = part_of(big, inbox).stat().st_size
        with receiving(inbox, "--port", str(receiver.port)) as again:
            code, stdout, stderr = outcome(sender)
            assert again.finish()[0] == 0
    record = last_json(stdout)
    assert (code, record["files"], record["failed"], record["resumed_bytes"]) == (0, 3, 0, left)
    assert record["bytes"] == SIZE + 2 * MIB
    assert stderr == "trying again: the other side was interrupted\n"
    assert [(inbox / source.name).read_bytes() == source.read_bytes() for source in (first, big, last)] == [True] * 3


def test_a_receiver_that_stays_away_is_given_up_and_one_that_never_was_at_once(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "big.bin", SIZE)
    with (
        receiving(inbox) as receiver,
        RelayProcess(("127.0.0.1", receiver.port), delay=0.005) as relay,
        running("send", str(source), f"127.0.0.1:{relay.address[1]}", "--retry", "1", "--timeout", "0.5") as sender,
    ):
        wait_for(receiver, source, 1)
        receiver.interrupt()
        code, _, stderr = outcome(sender)
    lines = stderr.splitlines()
    assert (code, lines[0]) == (3, "trying again: the other side was interrupted")
    assert lines[-1].startswith(f"stt: can't reach 127.0.0.1:{relay.address[1]}: ")
    never = stt("send", str(source), receiver.address, "--retry", "60")
    assert never.returncode == 3
    assert errors(never.stderr) == [f"stt: can't reach {receiver.address}: nothing listens at that address"]


def test_a_batch_goes_on_with_the_file_in_which_it_was_cut(tmp_path: Path, inbox: Path) -> None:
    whole, half = make_file(tmp_path, "whole", MIB), make_file(tmp_path, "half", 2 * MIB)
    part_of(half, inbox).write_bytes(half.read_bytes()[:MIB])
    with receiving(inbox) as receiver:
        sender = stt("send", str(whole), str(half), receiver.address, "--json")
        assert receiver.finish()[0] == 0
    record = last_json(sender.stdout)
    assert (record["files"], record["bytes"], record["resumed_bytes"]) == (2, 3 * MIB, MIB)
    assert (inbox / "half").read_bytes() == half.read_bytes()


@pytest.mark.parametrize("left", [100, 1000, 1500], ids=["shorter", "as long", "longer"])
def test_what_is_left_of_another_file_is_not_trusted(tmp_path: Path, inbox: Path, left: int) -> None:
    source = make_file(tmp_path, "a", 1000)
    part_of(source, inbox).write_bytes(os.urandom(left))
    with receiving(inbox) as receiver:
        sender = stt("send", str(source), receiver.address, "--json")
        code, stdout, stderr = receiver.finish()
    assert (sender.returncode, code) == (0, 0), sender.stderr + stderr
    assert last_json(sender.stdout)["resumed_bytes"] == last_json(stdout)["resumed_bytes"] == 0
    assert (inbox / "a").read_bytes() == source.read_bytes()
    assert errors(stderr) == ["a: received from its beginning: what was left of that name is of another file"]
    said = f"{source}: sent from its beginning: what the receiver has left of that name is of another file"
    assert errors(sender.stderr) == ([said] if left <= 1000 else [])


def test_all_of_it_may_be_there_already(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "a", 100_000)
    part_of(source, inbox).write_bytes(source.read_bytes())
    with receiving(inbox) as receiver:
        sender = stt("send", str(source), receiver.address, "--json")
        assert receiver.finish()[0] == 0
    assert last_json(sender.stdout)["resumed_bytes"] == 100_000
    assert receiver.stored() == ["a"]


def test_a_part_that_is_not_ours_is_left_alone(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "again.txt", 100)
    (inbox / "again.txt.part").write_text("half of a download")
    with receiving(inbox) as receiver:
        assert stt("send", str(source), receiver.address).returncode == 0
    assert (inbox / "again.txt.part").read_text() == "half of a download"


@pytest.mark.parametrize("start", [499, -1, True, None])
def test_a_sender_that_begins_somewhere_else_is_refused(inbox: Path, start: object) -> None:
    (inbox / "a.stt.part").write_bytes(bytes(500))

    async def scenario(port: int) -> dict[str, Any]:
        async with connected(port) as session:
            stream = await offer(session, name="a", size=1000)
            expected = digest()
            expected.update(bytes(500))
            assert await hear(stream) == {"accept": True, "have": 500, "hash": expected.hexdigest()}
            await tell(stream, **{"from": start})
            return await hear(stream)

    with receiving(inbox) as receiver:
        answer = anyio.run(scenario, receiver.port)
        assert receiver.finish()[0] == 5
    assert "not our protocol" in answer["error"]
