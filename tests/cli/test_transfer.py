"""Files between two real processes, and everything that can go wrong with them."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from stt_anyio.cli.transfer import MAX_JSON, MAX_SIZE
from tests.cli.command import PATIENCE, SEED, Receiver, environment, errors, last_json, outcome, receiving, running, stt
from tests.cli.files import KIB, MIB, make_file, make_huge
from tests.cli.peer import connected, hear, listening, offer, offered, tell
from tests.support.relay import RelayProcess

MEASURE = """if True:
    import os, sys
    # Not through subprocess, nor from the tests' own process: a process begins with the peak of the one it came from.
    child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
    _, status, usage = os.wait4(child, 0)
    with open(os.environ["PEAK"], "w") as file:
        file.write(str(usage.ru_maxrss))
    sys.exit(os.waitstatus_to_exitcode(status))
"""


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


def test_a_file_arrives_whole_over_websocket_and_by_either_way_at_one_port(tmp_path: Path, inbox: Path) -> None:
    for number, (transport, scheme) in enumerate((("websocket", "ws://"), ("both", "ws://"), ("both", ""))):
        source = make_file(tmp_path, f"picture-{number}.raw", 3 * MIB + 17)
        with receiving(inbox, "--transport", transport) as receiver:
            sender = stt("send", str(source), scheme + receiver.address, "--json")
            code, stdout, _ = receiver.finish()
        assert (sender.returncode, code) == (0, 0), sender.stderr
        assert last_json(sender.stdout)["transport"] == last_json(stdout)["transport"]
        assert last_json(stdout)["transport"] == ("websocket" if scheme else "udp")
        assert (inbox / source.name).read_bytes() == source.read_bytes()


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
    source = make_huge(tmp_path)
    with receiving(inbox) as receiver, running("send", str(source), receiver.address) as sender:
        receiver.wait_for_part(source.name)
        receiver.process.kill()
        code, _, stderr = outcome(sender)
    assert code == 3
    assert stderr.startswith("stt: the session ended: nothing heard from the peer for 10.0 s")
    assert stderr.count("\n") == 1
    assert receiver.stored() == ["huge.bin.stt.part"]


@pytest.mark.parametrize(
    "name",
    ["../escape", "/etc/passwd", "a/b", "..", "", "x\x1b[2J", "nul", "trick\u202egpj.exe", "evil.part", "a" * 300],
)
def test_a_hostile_name_is_refused(inbox: Path, name: str) -> None:
    async def scenario(port: int) -> dict[str, Any]:
        async with connected(port) as session:
            return await hear(await offer(session, name=name, size=5))

    with receiving(inbox) as receiver:
        answer = anyio.run(scenario, receiver.port)
        code, _, stderr = receiver.finish()
    assert answer["error"].startswith("refused the file name")
    assert code == 5
    assert "\x1b" not in stderr
    assert receiver.stored() == []
    assert sorted(path.name for path in inbox.parent.iterdir()) == ["inbox"]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"5",
        b"\xff",
        b"[" * MAX_JSON,
        b"{}",
        b'{"name": "a"}',
        b'{"name": "a", "size": -1}',
        b'{"name": "a", "size": true}',
        b'{"name": "a", "size": 1.5}',
        b'{"name": "a", "size": %d}' % (MAX_SIZE + 1),
        b'{"name": "a", "size": 1%s}' % (b"0" * 5000),
        b'{"name": 5, "size": 5}',
        b" " * (MAX_JSON + 1),
    ],
    ids=lambda nonsense: repr(nonsense[:30]),
)
def test_an_offer_that_makes_no_sense_is_refused_and_the_next_is_taken(inbox: Path, nonsense: bytes) -> None:
    async def scenario(port: int) -> tuple[dict[str, Any], dict[str, Any]]:
        async with connected(port) as session:
            stream = session.open_byte_stream(purpose="stt.file")
            await stream.send(len(nonsense).to_bytes(4, "big") + nonsense)
            return await hear(stream), await hear(await offer(session, name="a", size=5))

    with receiving(inbox) as receiver:
        refusal, answer = anyio.run(scenario, receiver.port)
        code, _, stderr = receiver.finish()
    assert "not our protocol" in refusal["error"]
    assert answer == {"accept": True}
    assert (code, len(errors(stderr))) == (5, 2)
    assert receiver.stored() == []


def test_streams_that_are_no_files_are_turned_away(inbox: Path) -> None:
    async def scenario(port: int) -> dict[str, Any]:
        async with connected(port) as session:
            for stream in (session.open_byte_stream(purpose="chat"), session.open_stream(purpose="stt.file")):
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.receive()
            return await hear(await offer(session, name="a", size=5))

    with receiving(inbox) as receiver:
        assert anyio.run(scenario, receiver.port) == {"accept": True}


def test_a_file_whose_hash_is_wrong_is_not_kept(inbox: Path) -> None:
    async def scenario(receiver: Receiver) -> dict[str, Any]:
        async with connected(receiver.port) as session:
            stream = await offer(session, name="a", size=5)
            assert await hear(stream) == {"accept": True}
            await stream.send(b"hello" + bytes(32))
            await stream.send_eof()
            return await hear(stream)

    with receiving(inbox) as receiver:
        answer = anyio.run(scenario, receiver)
        code, _, _ = receiver.finish()
    assert "hash is not the sender's" in answer["error"]
    assert code == 5
    assert receiver.stored() == []


def test_the_receivers_reasons_can_not_steer_the_senders_terminal(tmp_path: Path) -> None:
    source = make_file(tmp_path, "a", 5)

    async def scenario() -> tuple[int, str, str]:
        async with listening() as node:
            with running("send", str(source), f"127.0.0.1:{node.port}") as sender:
                _, stream, _ = await offered(node)
                await tell(stream, error="\x1b]0;owned\x07\nstt: all is well\u202e" + "x" * 10_000)
                return await anyio.to_thread.run_sync(outcome, sender)

    code, _, stderr = anyio.run(scenario)
    assert code == 5
    assert stderr.startswith(f"stt: {source}: the receiver says: \\x1b]0;owned\\x07\\nstt: all is well\\u202exxx")
    assert stderr.count("\n") == 1
    assert len(stderr) < 1000


def test_an_existing_file_is_not_replaced(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "notes.txt", 100)
    (inbox / "notes.txt").write_text("mine")
    with receiving(inbox) as receiver:
        sender = stt("send", str(source), receiver.address)
        code, _, _ = receiver.finish()
    assert (sender.returncode, code) == (5, 5)
    assert "exists already" in sender.stderr
    assert (inbox / "notes.txt").read_text() == "mine"


def test_debug_shows_the_trace_and_no_seed(tmp_path: Path) -> None:
    done = stt("send", __file__, "127.0.0.1:9", "--debug")
    assert done.returncode == 3
    assert "Traceback" in done.stderr
    assert SEED not in done.stderr


def test_memory_stays_flat(tmp_path: Path, inbox: Path) -> None:
    source = make_huge(tmp_path)
    peaks = tmp_path / "sender", tmp_path / "receiver"
    measured = (sys.executable, "-S", "-c", MEASURE)
    with (
        receiving(inbox, prefix=measured, PEAK=str(peaks[1])) as receiver,
        running("send", str(source), receiver.address, prefix=measured, PEAK=str(peaks[0])) as sender,
    ):
        codes = outcome(sender)[0], receiver.finish()[0]
    assert codes == (0, 0)
    assert (inbox / source.name).stat().st_size == source.stat().st_size
    assert max(int(peak.read_text()) * KIB for peak in peaks) < 150 * MIB
    (inbox / source.name).unlink()  # pytest keeps the directories of a few runs


def test_a_host_name_and_an_ipv6_address_lead_there_too(tmp_path: Path, inbox: Path) -> None:
    by_name, by_address = make_file(tmp_path, "by-name", 10), make_file(tmp_path, "by-address", 10)
    with receiving(inbox, "--bind", "::", once=False) as receiver:
        assert stt("send", str(by_name), f"localhost:{receiver.port}").returncode == 0
        assert stt("send", str(by_address), f"[::1]:{receiver.port}").returncode == 0
        code, _, _ = receiver.interrupt()
    assert code == 130
    assert receiver.stored() == ["by-address", "by-name"]


def test_a_host_with_several_addresses_is_asked_at_each(tmp_path: Path, inbox: Path) -> None:
    # "localhost" is 127.0.0.1 and ::1 on most systems: nothing listens at the first.
    program = """if True:
        import socket, sys
        def several(host, port, **_):
            return [(family, socket.SOCK_DGRAM, 0, "", (address, port) + rest) for family, address, rest in (
                (socket.AF_INET6, "::1", (0, 0)), (socket.AF_INET, "127.0.0.1", ()))]
        real, socket.getaddrinfo = socket.getaddrinfo, lambda host, *a, **k: (
            several(host, *a) if host == "several.test" else real(host, *a, **k))
        from stt_anyio.cli import main
        sys.exit(main())
    """
    source = make_file(tmp_path, "a", 10)
    with receiving(inbox, "--bind", "::1") as receiver:
        sender = subprocess.run(
            [sys.executable, "-c", program, "send", str(source), f"several.test:{receiver.port}"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert receiver.finish()[0] == 0
    assert sender.returncode == 0, sender.stderr
    assert receiver.stored() == ["a"]
