"""Files between two real processes, and everything that can go wrong with them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import anyio
import pytest

from stt_anyio import ByteStream, STTNode
from tests.cli.command import SEED, last_json, receiving, stt
from tests.support.relay import RelayProcess

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    return inbox


def make_file(folder: Path, name: str, size: int) -> Path:
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path


@pytest.mark.parametrize("size", [0, 1, 61_440, 3 * MIB + 17])
def test_a_file_arrives_whole(tmp_path: Path, inbox: Path, size: int) -> None:
    source = make_file(tmp_path, "picture.raw", size)
    with receiving(inbox) as receiver:
        sender = stt("send", str(source), receiver.address, "--json")
        code, stdout, _ = receiver.finish()
    assert (sender.returncode, code) == (0, 0), sender.stderr
    assert (inbox / source.name).read_bytes() == source.read_bytes()
    assert receiver.stored() == [source.name]
    for record in (last_json(sender.stdout), last_json(stdout)):
        assert record["ok"] is True
        assert record["bytes"] == size
        assert record["transport"] == "udp"
        assert {"seconds", "mb_s", "loss", "rtt_ms"} <= record.keys()


def test_several_files_go_in_one_session(tmp_path: Path, inbox: Path) -> None:
    sources = [make_file(tmp_path, f"part-{number}", number * 100_000) for number in range(5)]
    with receiving(inbox) as receiver:
        sender = stt("send", *map(str, sources), receiver.address, "--json")
        code, _, _ = receiver.finish()
    assert (sender.returncode, code) == (0, 0), sender.stderr
    assert last_json(sender.stdout)["files"] == 5
    assert [(inbox / source.name).read_bytes() == source.read_bytes() for source in sources] == [True] * 5


def test_more_files_than_a_session_may_have_streams(tmp_path: Path, inbox: Path) -> None:
    sources = [make_file(tmp_path, f"{number}.txt", 10) for number in range(150)]
    with receiving(inbox) as receiver:
        sender = stt("send", *map(str, sources), receiver.address, "--json")
        code, _, _ = receiver.finish()
    assert (sender.returncode, code) == (0, 0), sender.stderr
    assert len(receiver.stored()) == 150


def test_a_left_over_part_is_named(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "again.txt", 100)
    (inbox / "again.txt.part").write_text("half")
    with receiving(inbox) as receiver:
        sender = stt("send", str(source), receiver.address)
    assert sender.returncode == 5
    assert "again.txt.part stands in the way" in sender.stderr


def test_the_file_crosses_a_relay_that_drops_reorders_and_duplicates(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "big.bin", 100 * MIB)
    with (
        receiving(inbox) as receiver,
        RelayProcess(("127.0.0.1", receiver.port), loss=0.05, reorder=0.02, duplicate=0.02, seed=6) as relay,
    ):
        sender = stt("send", str(source), f"127.0.0.1:{relay.address[1]}", "--json", "--timeout", "30")
        code, _, stderr = receiver.finish()
    assert (sender.returncode, code) == (0, 0), sender.stderr + stderr
    assert (inbox / source.name).read_bytes() == source.read_bytes()
    assert 0.02 < last_json(sender.stdout)["loss"] < 0.2


def test_a_wrong_seed_is_an_authentication_failure(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "secret.txt", 1000)
    with receiving(inbox, seed="another seed altogether") as receiver:
        sender = stt("send", str(source), receiver.address, "--json")
        assert receiver.process.poll() is None, "a stranger must not end the receiver"
    assert sender.returncode == 4
    assert "seed" in sender.stderr
    assert sender.stderr.count("\n") == 1
    assert last_json(sender.stdout)["ok"] is False
    assert receiver.stored() == []


def test_a_dead_port_is_unreachable(tmp_path: Path) -> None:
    source = make_file(tmp_path, "a", 10)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sender = stt("send", str(source), f"127.0.0.1:{port}")
    assert sender.returncode == 3
    assert sender.stderr.startswith("stt: ")
    assert sender.stderr.count("\n") == 1


def test_a_silent_host_is_unreachable(tmp_path: Path) -> None:
    source = make_file(tmp_path, "a", 10)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        sender = stt("send", str(source), f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.5")
    assert sender.returncode == 3


def test_a_full_disk_is_told_to_both_and_leaves_nothing(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "huge.bin", 4 * MIB)
    limited = ("bash", "-c", 'ulimit -f 1024; exec "$@"', "recv")  # files of at most 1 MiB
    with receiving(inbox, prefix=limited) as receiver:
        sender = stt("send", str(source), receiver.address, "--json")
        code, _, stderr = receiver.finish()
    assert (sender.returncode, code) == (5, 5), sender.stderr + stderr
    assert "can't store the file" in sender.stderr
    assert "can't store the file" in stderr
    assert receiver.stored() == []


def test_a_killed_receiver_is_noticed_and_leaves_no_finished_file(tmp_path: Path, inbox: Path) -> None:
    # The relay holds the transfer back, so that the kill always falls into its middle.
    source = make_file(tmp_path, "long.bin", 64 * MIB)
    with (
        receiving(inbox) as receiver,
        RelayProcess(("127.0.0.1", receiver.port), loss=0.2, seed=1) as relay,
        anyio.from_thread.start_blocking_portal() as portal,
    ):
        address = f"127.0.0.1:{relay.address[1]}"
        sending = portal.start_task_soon(
            anyio.to_thread.run_sync, lambda: stt("send", str(source), address, "--timeout", "60")
        )
        part = inbox / "long.bin.part"
        while not part.exists() or part.stat().st_size == 0:
            assert receiver.process.poll() is None
            assert not sending.done()
        receiver.process.kill()
        sender = sending.result()
    assert sender.returncode == 3
    assert "nothing heard from the peer" in sender.stderr
    assert not (inbox / "long.bin").exists()


@pytest.mark.parametrize(
    "name",
    ["../escape", "/etc/passwd", "a/b", "..", "", "x\x1b[2J", "nul", "trick\u202egpj.exe", "evil.part", "a" * 300],
)
def test_a_hostile_name_is_refused(inbox: Path, name: str) -> None:
    async def offer(port: int) -> bytes:
        async with STTNode(shared_seed=SEED.encode(), bind_address="127.0.0.1") as node:
            session = await node.connect(("127.0.0.1", port))
            stream = session.open_stream(mode="bytes", purpose="stt.file")
            assert isinstance(stream, ByteStream)
            record = b'{"name": %s, "size": 5}' % json.dumps(name).encode()
            await stream.send(len(record).to_bytes(4, "big") + record)
            answer = await stream.receive()
            await session.close()
            return answer

    with receiving(inbox) as receiver:
        answer = anyio.run(offer, receiver.port)
        code, _, stderr = receiver.finish()
    assert b"refused the file name" in answer
    assert code == 5
    assert "\x1b" not in stderr
    assert receiver.stored() == []
    assert sorted(path.name for path in inbox.parent.iterdir()) == ["inbox"]


def test_an_existing_file_is_not_replaced(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "notes.txt", 100)
    (inbox / "notes.txt").write_text("mine")
    with receiving(inbox) as receiver:
        sender = stt("send", str(source), receiver.address)
        code, _, _ = receiver.finish()
    assert (sender.returncode, code) == (5, 5)
    assert "exists already" in sender.stderr
    assert (inbox / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments", [("send", "/no/such/file", "127.0.0.1:1"), ("recv", "/no/such/dir"), ("send", __file__, "nowhere")]
)
def test_bad_usage_is_one_line_and_exit_2(arguments: tuple[str, ...]) -> None:
    done = stt(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("stt: ")
    assert done.stderr.count("\n") == 1


def test_without_a_seed_both_variables_are_named(inbox: Path) -> None:
    done = stt("recv", str(inbox), seed=None)
    assert done.returncode == 2
    assert "STT_SHARED_SEED" in done.stderr
    assert "STT_SEED_FILE" in done.stderr


def test_debug_shows_the_trace_and_no_seed(tmp_path: Path) -> None:
    done = stt("send", __file__, "127.0.0.1:9", "--debug")
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert SEED not in done.stderr


def test_the_demo_runs() -> None:
    done = stt("demo", "--json", "--size", "4")
    assert done.returncode == 0, done.stderr
    record = last_json(done.stdout)
    assert record["ok"] is True
    assert record["bytes"] == 4 * MIB


def test_memory_stays_flat(tmp_path: Path, inbox: Path) -> None:
    source = tmp_path / "sparse.bin"
    with source.open("wb") as file:
        file.truncate(256 * MIB)
    with receiving(inbox) as receiver:
        sender = stt("send", str(source), receiver.address, "--json")
        usage = peak_memory(receiver.process.pid)
        code, _, _ = receiver.finish()
    assert (sender.returncode, code) == (0, 0), sender.stderr
    assert usage is None or usage < 150 * MIB


def peak_memory(pid: int) -> int | None:
    """Peak resident bytes of a process that still runs; None where it just ended or the system doesn't tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(found[0]) * KIB if found else None
