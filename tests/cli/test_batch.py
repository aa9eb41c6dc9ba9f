"""Several files: one that fails keeps no other from getting across, each has its line, the first decides the code."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from stt_anyio import StreamResetError
from stt_anyio.cli.transfer import GIVEN_UP
from tests.cli.command import Receiver, errors, last_json, outcome, receiving, running, stt
from tests.cli.files import MIB, make_file
from tests.cli.peer import connected, drain, hear, listening, offer, offered, offered_in, tell

EXISTS = "exists already in the receiver's directory; move it, or rename yours"


def test_a_refused_file_is_no_end(tmp_path: Path, inbox: Path) -> None:
    sources = [make_file(tmp_path, name, 1000) for name in ("a", "b", "c")]
    (inbox / "b").write_text("mine")
    with receiving(inbox) as receiver:
        sender = stt("send", *map(str, sources), receiver.address, "--json")
        code, stdout, stderr = receiver.finish()
    assert (sender.returncode, code) == (5, 5)
    assert errors(sender.stderr) == [f"stt: {tmp_path}/b: the receiver says: b {EXISTS}"]
    assert errors(stderr) == [f"stt: b: b {EXISTS}"]
    for record in (last_json(sender.stdout), last_json(stdout)):
        assert (record["ok"], record["files"], record["bytes"], record["failed"]) == (False, 2, 2000, 1)
        assert EXISTS in record["error"]
    assert receiver.stored() == ["a", "b", "c"]
    assert (inbox / "b").read_text() == "mine"


def test_more_refused_files_than_a_session_may_have_streams(tmp_path: Path, inbox: Path) -> None:
    sources = [make_file(tmp_path, f"{number}.txt", 10) for number in range(150)]
    for source in sources[:-1]:
        (inbox / source.name).touch()
    with receiving(inbox) as receiver:
        sender = stt("send", *map(str, sources), receiver.address, "--json")
        code, _, _ = receiver.finish()
    assert (sender.returncode, code) == (5, 5)
    record = last_json(sender.stdout)
    assert (record["files"], record["failed"]) == (1, 149)
    assert len(errors(sender.stderr)) == 149
    assert (inbox / "149.txt").stat().st_size == 10


def test_what_can_not_be_sent_is_told_before_anybody_is_bothered(tmp_path: Path) -> None:
    bad = [make_file(tmp_path, name, 10) for name in ("x.part", "-rf", " a", "nul", "line\nbreak", "esc\x1b[2J")]
    done = stt("send", *map(str, bad), str(tmp_path / "none"), "127.0.0.1:9", "--json")
    lines = done.stderr.splitlines()
    assert done.returncode == 5  # and not 3: nobody was asked
    assert len(lines) == 7
    assert [line for line in lines if "can't be sent under its name" in line] == lines[:6]
    assert lines[5] == f"stt: {tmp_path}/esc\\x1b[2J can't be sent under its name: it is not one plain file name"
    assert lines[6] == f"stt: can't read {tmp_path}/none: No such file or directory"
    assert last_json(done.stdout)["failed"] == 7


def test_what_can_not_be_sent_keeps_nothing_back(tmp_path: Path, inbox: Path) -> None:
    (tmp_path / "other").mkdir()
    sources = [make_file(tmp_path, name, 10) for name in ("x.part", "same", "other/same", "good")]
    with receiving(inbox) as receiver:
        sender = stt("send", *map(str, sources), str(tmp_path), receiver.address)
        code, _, _ = receiver.finish()
    assert (sender.returncode, code) == (5, 0)
    special = "it begins or ends in a way that systems or shells treat specially"
    assert errors(sender.stderr) == [
        f"stt: {tmp_path}/x.part can't be sent under its name: {special}",
        f"stt: {tmp_path}/other/same would get into the way of {tmp_path}/same, which has the same name",
        f"stt: {tmp_path} is a directory; send the files in it, or an archive of it",
    ]
    assert "sent 2 files, 20 bytes" in sender.stderr
    assert "; 3 failed" in sender.stderr
    assert receiver.stored() == ["good", "same"]
    assert (inbox / "same").read_bytes() == sources[1].read_bytes()


def test_names_of_all_the_world_arrive(tmp_path: Path, inbox: Path) -> None:
    names = ["Übung.txt", "写真.jpg", "two words", "quote's", "Screenshot at 1.00\u202fPM.png", ".profile", "100%"]
    sources = [make_file(tmp_path, name, 10) for name in names]
    with receiving(inbox) as receiver:
        sender = stt("send", *map(str, sources), receiver.address)
    assert sender.returncode == 0, sender.stderr
    assert receiver.stored() == sorted(names)


def test_a_name_that_the_receivers_system_can_not_write_is_refused(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "Übung.txt", 10)
    with receiving(inbox, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0") as receiver:
        sender = stt("send", str(source), receiver.address)
        code, _, stderr = receiver.finish()
    assert (sender.returncode, code) == (5, 5)
    assert "the receiver says: that name can't be written in the encoding of the receiver's system" in sender.stderr
    assert errors(stderr) == ["stt: \\xdcbung.txt: that name can't be written in the encoding of the receiver's system"]
    assert receiver.stored() == []


def test_a_lost_session_ends_the_batch_and_tells_how_far_it_got(tmp_path: Path) -> None:
    sources = [make_file(tmp_path, name, 10) for name in ("a", "b", "c")]

    async def scenario() -> tuple[int, str, str]:
        async with listening() as node:
            with running("send", *map(str, sources), f"127.0.0.1:{node.port}", "--json") as sender:
                session, stream, _ = await offered(node)
                await tell(stream, accept=True)
                await tell(stream, done=True)
                await offered_in(session)
                await session.close()
                return await to_thread.run_sync(outcome, sender)

    code, stdout, stderr = anyio.run(scenario)
    record = last_json(stdout)
    assert (code, record["files"], record["failed"]) == (3, 1, 2)
    assert stderr == "stt: the session ended: the peer closed the session (NO_ERROR)\n"


def test_two_senders_at_once(tmp_path: Path, inbox: Path) -> None:
    sources = [make_file(tmp_path, name, 8 * MIB) for name in ("a", "b")]
    with receiving(inbox, once=False) as receiver:
        with (
            running("send", str(sources[0]), receiver.address) as one,
            running("send", str(sources[1]), receiver.address) as other,
        ):
            codes = outcome(one)[0], outcome(other)[0]
        _, stdout, _ = receiver.interrupt()
    assert codes == (0, 0)
    record = last_json(stdout)
    assert (record["files"], record["bytes"], record["failed"]) == (2, 16 * MIB, 0)
    assert [(inbox / source.name).read_bytes() == source.read_bytes() for source in sources] == [True, True]


def test_two_senders_of_one_name_at_once(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "a", 10)

    async def scenario(receiver: Receiver) -> tuple[int, str]:
        async with connected(receiver.port) as session:
            stream = await offer(session, name="a", size=5)
            assert await hear(stream) == {"accept": True}
            done = await to_thread.run_sync(stt, "send", str(source), receiver.address)
            assert receiver.stored() == ["a.stt.part"]
            return done.returncode, done.stderr

    with receiving(inbox, once=False) as receiver:
        code, stderr = anyio.run(scenario, receiver)
    assert code == 5
    assert "a.stt.part stands in the way: another transfer of it runs" in stderr


def test_a_second_sender_is_turned_away_by_a_receiver_for_one_session(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "a", 10)

    async def scenario(receiver: Receiver) -> tuple[int, str]:
        async with connected(receiver.port):
            done = await to_thread.run_sync(stt, "send", str(source), receiver.address)
            return done.returncode, done.stderr

    with receiving(inbox) as receiver:
        code, stderr = anyio.run(scenario, receiver)
        assert receiver.finish()[0] == 0
    assert code == 3
    assert "the peer declined for now" in stderr


# --- files that change under way


def test_a_file_that_was_written_to_while_it_was_sent_is_not_sent(tmp_path: Path) -> None:
    async def scenario() -> tuple[int, str, str]:
        async with listening() as node:
            names = [make_file(tmp_path, name, MIB) for name in ("grows", "shrinks", "rewritten", "rests")]
            with running("send", *map(str, names), f"127.0.0.1:{node.port}", "--json") as sender:
                session = await node.accept()
                for name, size in (("grows", 2 * MIB), ("shrinks", 1000), ("rewritten", MIB)):
                    stream, record = await offered_in(session)
                    assert record == {"name": name, "size": MIB}
                    (tmp_path / name).write_bytes(bytes(size))
                    await tell(stream, accept=True)
                    with pytest.raises(StreamResetError) as broken:
                        await drain(stream)
                    assert broken.value.code == GIVEN_UP
                stream, record = await offered_in(session)
                await tell(stream, accept=True)
                await drain(stream)
                await tell(stream, done=True)
                return await to_thread.run_sync(outcome, sender)

    code, stdout, stderr = anyio.run(scenario)
    assert code == 5
    assert stderr.splitlines() == [
        f"stt: {tmp_path}/{name}: it changed while it was sent; send it again when it is at rest"
        for name in ("grows", "shrinks", "rewritten")
    ]
    record = last_json(stdout)
    assert (record["files"], record["failed"]) == (1, 3)


def test_a_file_that_vanishes_before_its_turn(tmp_path: Path) -> None:
    first, second = (make_file(tmp_path, name, 10) for name in ("first", "second"))

    async def scenario() -> tuple[int, str, str]:
        async with listening() as node:
            with running("send", str(first), str(second), f"127.0.0.1:{node.port}", "--json") as sender:
                _, stream, _ = await offered(node)
                first.unlink()  # this one is open already
                second.unlink()
                await tell(stream, accept=True)
                await tell(stream, done=True)
                return await to_thread.run_sync(outcome, sender)

    code, stdout, stderr = anyio.run(scenario)
    assert (code, last_json(stdout)["files"]) == (2, 1)
    assert stderr == f"stt: can't read {second}: No such file or directory\n"


def test_a_file_that_the_sender_gives_up_leaves_nothing_and_the_next_arrives(inbox: Path) -> None:
    async def scenario(port: int) -> None:
        async with connected(port) as session:
            stream = await offer(session, name="broken", size=MIB)
            assert await hear(stream) == {"accept": True}
            await stream.send(bytes(1000))
            stream.reset(GIVEN_UP)
            stream = await offer(session, name="empty", size=0)
            assert await hear(stream) == {"accept": True}
            await stream.send(EMPTY_DIGEST)
            await stream.send_eof()
            assert await hear(stream) == {"done": True}

    with receiving(inbox) as receiver:
        anyio.run(scenario, receiver.port)
        code, _, stderr = receiver.finish()
    assert code == 5
    assert errors(stderr) == [
        "stt: broken: the sender gave it up: it changed there while it was sent, or can't be read"
    ]
    assert receiver.stored() == ["empty"]


EMPTY_DIGEST = bytes.fromhex("0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8")


def test_a_directory_that_is_removed_under_a_receiver(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "a", 10)
    with receiving(inbox) as receiver:
        inbox.rmdir()
        sender = stt("send", str(source), receiver.address)
        code, _, stderr = receiver.finish()
    assert (sender.returncode, code) == (5, 5)
    assert sender.stderr == f"stt: {source}: the receiver says: can't store the file: No such file or directory\n"
    assert errors(stderr) == ["stt: a: can't store the file: No such file or directory"]
