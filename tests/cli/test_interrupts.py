"""A signal ends the command in good order: files cleaned up, the peer told, one line, an exit code of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from stt_anyio import ErrorCode, SessionClosedError
from tests.cli.command import (
    PATIENCE,
    Receiver,
    environment,
    errors,
    last_json,
    listening_port,
    outcome,
    receiving,
    running,
)
from tests.cli.files import MIB, make_file, make_huge
from tests.cli.peer import KEEP_ALIVE_TIMEOUT, connected, drain, hear, listening, offer, offered, tell

EVERY_SIGNAL = pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")],
    ids=["INT", "TERM", "HUP"],
)


@EVERY_SIGNAL
def test_a_receiver_to_which_nothing_came_leaves_nothing_and_tells_its_peer(
    inbox: Path, number: signal.Signals, code: int, word: str
) -> None:
    async def scenario(receiver: Receiver) -> SessionClosedError:
        async with connected(receiver.port) as session:
            stream = await offer(session, name="big.bin", size=MIB)
            assert await hear(stream) == {"accept": True}
            assert receiver.stored() == ["big.bin.stt.part"]
            receiver.process.send_signal(number)
            with anyio.fail_after(KEEP_ALIVE_TIMEOUT / 2), pytest.raises(SessionClosedError) as ended:
                await hear(stream)
            return ended.value

    with receiving(inbox) as receiver:
        ended = anyio.run(scenario, receiver)
        returned, stdout, stderr = receiver.finish()
    assert (ended.code, str(ended)) == (ErrorCode.CANCELLED, "interrupted")
    assert (returned, errors(stderr)) == (code, [f"stt: {word}"])
    record = last_json(stdout)
    assert (record["ok"], record["files"], record["error"]) == (False, 0, word)
    assert receiver.stored() == []


@EVERY_SIGNAL
def test_a_sender_tells_its_peer(tmp_path: Path, number: signal.Signals, code: int, word: str) -> None:
    source = make_file(tmp_path, "big.bin", 8 * MIB)

    async def scenario() -> tuple[SessionClosedError, tuple[int, str, str]]:
        async with listening() as node:
            with running("send", str(source), f"127.0.0.1:{node.port}", "--json") as sender:
                _, stream, _ = await offered(node)
                await tell(stream, accept=True)
                assert len(await stream.receive(1)) == 1
                sender.send_signal(number)
                with anyio.fail_after(KEEP_ALIVE_TIMEOUT / 2), pytest.raises(SessionClosedError) as ended:
                    await drain(stream)
                return ended.value, await to_thread.run_sync(outcome, sender)

    ended, (returned, stdout, stderr) = anyio.run(scenario)
    assert (ended.code, str(ended)) == (ErrorCode.CANCELLED, "interrupted")
    assert (returned, errors(stderr)) == (code, [f"stt: {word}"])
    record = last_json(stdout)
    assert (record["ok"], record["files"], record["failed"], record["error"]) == (False, 0, 1, word)


def test_the_sender_of_an_interrupted_receiver_says_so(tmp_path: Path, inbox: Path) -> None:
    source = make_huge(tmp_path)
    with receiving(inbox) as receiver, running("send", str(source), receiver.address) as sender:
        receiver.wait_for_part(source.name)
        code, _, _ = receiver.interrupt()
        returned, _, stderr = outcome(sender)
    assert (code, returned) == (130, 3)
    assert stderr == "stt: the other side was interrupted\n"
    assert receiver.stored() == ["huge.bin.stt.part"]


def test_the_receiver_of_an_interrupted_sender_says_so_and_goes_on(tmp_path: Path, inbox: Path) -> None:
    source = make_huge(tmp_path)
    after = make_file(tmp_path, "after.txt", 10)
    with receiving(inbox, once=False) as receiver:
        with running("send", str(source), receiver.address) as sender:
            receiver.wait_for_part(source.name)
            sender.send_signal(signal.SIGTERM)
            assert outcome(sender)[0] == 143
        with running("send", str(after), receiver.address) as sender:
            assert outcome(sender)[0] == 0
        code, stdout, stderr = receiver.interrupt()
    assert receiver.stored() == ["after.txt", "huge.bin.stt.part"]
    assert errors(stderr) == ["stt: huge.bin: the other side was interrupted", "stt: interrupted"]
    record = last_json(stdout)
    assert (code, record["files"], record["bytes"], record["failed"]) == (130, 1, 10, 1)


def test_a_sender_that_is_still_looking_for_its_peer_ends_at_once(tmp_path: Path) -> None:
    source = make_file(tmp_path, "a", 10)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        with running("send", str(source), f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "600") as sender:
            assert silent.recv(65536)
            sender.send_signal(signal.SIGTERM)
            code, _, stderr = outcome(sender)
    assert (code, stderr) == (143, "stt: terminated\n")


def test_a_name_server_that_does_not_answer_holds_nobody_up() -> None:
    # The system's resolver can't be interrupted, and asks for a minute.
    program = """if True:
        import socket, sys, threading

        def getaddrinfo(*_, **__):
            print("asking", file=sys.stderr, flush=True)
            threading.Event().wait()

        from stt_anyio.cli import main

        socket.getaddrinfo = getaddrinfo
        sys.exit(main(["send", sys.executable, "silent.test:1"]))
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "asking\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "stt: interrupted\n"
    assert process.returncode == 130


def test_signals_that_nohup_ignores_stay_ignored(inbox: Path) -> None:
    # The lower number is delivered first: were it heeded, it would be what ends the receiver.
    with receiving(inbox, prefix=("sh", "-c", 'trap "" HUP; exec "$@"', "nohup")) as receiver:
        receiver.process.send_signal(signal.SIGHUP)
        receiver.process.send_signal(signal.SIGTERM)
        code, _, stderr = receiver.finish()
    assert (code, errors(stderr)) == (143, ["stt: terminated"])


@pytest.mark.parametrize("module", ["stt_anyio.cli.commands", "stt_anyio.cli.demo", "hashlib"])
def test_ctrl_c_during_the_imports_is_one_like_any_other(module: str) -> None:
    program = f"""if True:
        import os, signal, sys

        class Interrupt:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    os.kill(os.getpid(), signal.SIGINT)

        from stt_anyio.cli import main

        sys.modules.pop({module!r}, None)
        sys.meta_path.insert(0, Interrupt())
        sys.exit(main(["demo", "--json"]))
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "stt: interrupted\n")
    assert last_json(done.stdout)["ok"] is False


@EVERY_SIGNAL
def test_a_waiting_receiver_just_ends(inbox: Path, number: signal.Signals, code: int, word: str) -> None:
    with running("recv", str(inbox), "--bind", "127.0.0.1") as process:
        listening_port(process)
        process.send_signal(number)
        assert outcome(process) == (code, "", f"stt: {word}\n")
