from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stt_backends import durable_log
from stt_backends.durable_log import FileLog
from stt_core.errors import StateError, StoreError


def reopened(log: FileLog, path: Path) -> FileLog:
    log.close()
    return FileLog(path)


def test_what_was_appended_and_consumed_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    log = FileLog(path)
    assert path.stat().st_mode & 0o777 == 0o600
    log.append(b"0123456789")
    log.release(4)
    log = reopened(log, path)
    assert (log.base, log.end, log.finished) == (4, 10, False)
    assert log.read(4, 100) == b"456789"
    log.append(b"ab")
    log.finish()
    log.sync()
    log = reopened(log, path)
    assert (log.base, log.end, log.finished) == (4, 12, True)
    assert log.read(8, 2) == b"89"
    assert log.read(12, 5) == b""
    with pytest.raises(StateError):
        log.append(b"x")
    log.close()
    log.close()


def test_there_is_room_for_its_limit(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "stream", limit=10)
    log.append(bytes(10))
    with pytest.raises(StateError, match="room for 0"):
        log.append(b"x")
    log.release(3)
    assert log.room == 3
    log.close()


def test_what_is_consumed_takes_no_room_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable_log, "COMPACT", 1000)
    path = tmp_path / "stream"
    log = FileLog(path)
    choose = random.Random(1)
    whole = b""
    for _ in range(200):
        data = choose.randbytes(choose.randrange(300))
        log.append(data)
        whole += data
        log.release(min(log.base + choose.randrange(400), log.end))
        assert log.read(log.base, 10_000) == whole[log.base :]
        assert path.stat().st_size <= 128 + 2 * max(log.end - log.base, 1000)
        if choose.random() < 0.1:
            log = reopened(log, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["stream"]
    log.close()


@pytest.mark.parametrize("at", [0, 70])
def test_a_head_that_was_being_written_when_the_power_went_does_not_count(tmp_path: Path, at: int) -> None:
    path = tmp_path / "stream"
    log = FileLog(path)
    log.append(b"0123456789")
    log.release(1)
    log.release(2)
    log.close()
    data = bytearray(path.read_bytes())
    data[at + 20] ^= 0xFF
    path.write_bytes(data)
    log = FileLog(path)
    assert log.base in (1, 2)
    assert log.read(log.base, 10) == b"0123456789"[log.base :]
    log.close()


def test_two_cannot_have_it_at_once_and_neither_may_others_read_it(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    log = FileLog(path)
    with pytest.raises(StoreError, match="in use"):
        FileLog(path)
    log.close()
    path.chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        FileLog(path)


def test_something_else_is_an_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    for content, complaint in ((b"something else" * 20, "something else"), (b"STTD\x01" + bytes(200), "damaged")):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(StoreError, match=complaint):
            FileLog(path)
        assert path.read_bytes() == content
    with pytest.raises(StoreError):
        FileLog(tmp_path)


def test_a_process_that_is_killed_at_any_time_leaves_a_log_that_can_be_read(tmp_path: Path) -> None:
    program = (
        "import sys; from stt_backends import durable_log; durable_log.COMPACT = 2000\n"
        "log = durable_log.FileLog(sys.argv[1])\n"
        "print('begun', flush=True)\n"
        "while True:\n"
        "    log.append(bytes((log.end + k) % 251 for k in range(97)))\n"
        "    log.release(max(log.base, log.end - 500))\n"
        "    print(log.base, flush=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    path = tmp_path / "stream"
    for lines in (1, 60, 130, 7):
        command = [sys.executable, "-c", program, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(1 + lines)]
            process.send_signal(signal.SIGKILL)
        log = FileLog(path)
        assert log.base >= int(said[-1])
        assert log.read(log.base, 10_000) == bytes(offset % 251 for offset in range(log.base, log.end))
        log.close()
