"""The demonstration: two processes, one file, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import PATIENCE, environment, last_json, outcome, running, stt
from tests.cli.files import MIB


def other_process(demo: subprocess.Popen[str]) -> int:
    """The number of the process that receives."""
    assert demo.stderr is not None
    found = re.match(r"process (\d+) receives on 127\.0\.0\.1:\d+, process (\d+) sends\n", demo.stderr.readline())
    assert found
    assert int(found[2]) == demo.pid
    return int(found[1])


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_tells_what_it_did() -> None:
    done = stt("demo", "--size", "64")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    processes, cut, sent, hashes = done.stderr.splitlines()
    assert re.fullmatch(r"process \d+ receives on 127\.0\.0\.1:\d+, process \d+ sends", processes)
    moved = re.fullmatch(r"UDP was cut after ([\d,]+) bytes; going on over a WebSocket [\d.]+ s later", cut)
    assert moved
    assert 30 * MIB < int(moved[1].replace(",", "")) <= 32 * MIB, "half-way"
    assert re.fullmatch(r"sent 1 file, 67,108,864 bytes in [\d.]+ s, [\d.]+ MB/s", sent)
    assert re.fullmatch(r"both sides have BLAKE2b [0-9a-f]{64}", hashes)


def test_it_tells_programs_too() -> None:
    done = stt("demo", "--json", "--size", "4")
    assert (done.returncode, done.stderr) == (0, "")
    record = last_json(done.stdout)
    assert record["ok"] is True
    assert record["bytes"] == 4 * MIB
    assert record["transport"] == "websocket"


def test_what_is_too_small_to_be_cut_in_half_goes_by_udp() -> None:
    done = stt("demo", "--json", "--size", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert last_json(done.stdout)["transport"] == "udp"


def test_it_finds_its_modules_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "anyio.py").write_text("raise SystemExit('the wrong module')")
    start = "import sys; from stt_anyio.cli import main; sys.exit(main(['demo', '--size', '0', '--json']))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", start],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_neither_process_nor_file(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with running("demo", "--size", "256", TMPDIR=str(tmp_path)) as demo:
        receiver = other_process(demo)
        demo.send_signal(number)
        returned, _, stderr = outcome(demo)
    assert returned == code
    assert stderr in ("stt: interrupted\n", "stt: terminated\n", "stt: hung up\n")
    assert gone(receiver)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_takes_long_to_make_is_not_waited_for(tmp_path: Path) -> None:
    with running("demo", "--size", "32768", TMPDIR=str(tmp_path)) as demo:
        while not list(tmp_path.glob("*/demo.bin")):
            assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        _, stderr = demo.communicate(timeout=20)
    assert (demo.returncode, stderr) == (130, "stt: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_impatience_leaves_nothing_either(tmp_path: Path) -> None:
    with running("demo", "--size", "256", TMPDIR=str(tmp_path)) as demo:
        receiver = other_process(demo)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            demo.send_signal(number)
        code, _, stderr = outcome(demo)
    assert code in (129, 130, 143)
    assert stderr.count("\n") == 1
    assert gone(receiver)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_reaches_both_and_one_of_them_tells(tmp_path: Path) -> None:
    with running("demo", "--size", "256", prefix=("setsid",), TMPDIR=str(tmp_path)) as demo:
        receiver = other_process(demo)
        os.killpg(demo.pid, signal.SIGINT)
        assert outcome(demo) == (130, "", "stt: interrupted\n")
    assert gone(receiver)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        (signal.SIGKILL, 3, "the receiving process was killed by SIGKILL"),
        (signal.SIGTERM, 3, "the receiving process failed: terminated"),
    ],
)
def test_a_dying_receiver_is_told_in_one_line(tmp_path: Path, number: signal.Signals, code: int, reason: str) -> None:
    with running("demo", "--size", "256", TMPDIR=str(tmp_path)) as demo:
        receiver = other_process(demo)
        os.kill(receiver, number)
        assert outcome(demo) == (code, "", f"stt: {reason}\n")
    assert gone(receiver)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [("/bin/false", 1, "the receiving process failed: exit code 1"),
     ("/no/such/python", 3, "can't start the receiving process: No such file or directory")],
)  # fmt: skip
def test_a_receiver_that_does_not_even_start_is_told_in_one_line(
    tmp_path: Path, program: str, code: int, reason: str
) -> None:
    start = f"import sys; from stt_anyio.cli import main; sys.executable = {program!r}; sys.exit(main(['demo']))"
    done = subprocess.run(
        [sys.executable, "-c", start],
        env=environment() | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, f"stt: {reason}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_once(tmp_path: Path) -> None:
    limited = ("bash", "-c", 'ulimit -f 1024; exec "$@"', "demo")  # files of at most 1 MiB
    with running("demo", "--size", "4", prefix=limited, TMPDIR=str(tmp_path)) as demo:
        code, _, stderr = outcome(demo)
    assert code == 5
    assert re.fullmatch(rf"stt: can't make a file of {4 * MIB} bytes in {tmp_path}/\S+: File too large\n", stderr)
    assert list(tmp_path.iterdir()) == []
