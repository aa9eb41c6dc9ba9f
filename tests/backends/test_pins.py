from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stt_backends import pins as module
from stt_backends.pins import FilePinStore
from stt_core.errors import ConfigurationError, StoreError

ONE, OTHER = b"1" * 32, b"2" * 32


def test_a_pin_stays_whatever_is_pinned_after_it(tmp_path: Path) -> None:
    path = tmp_path / "pins"
    store = FilePinStore(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert store.pinned(b"bob") is None
    assert store.pin(b"bob", ONE) == ONE
    before = path.read_bytes()
    assert store.pin(b"bob", OTHER) == ONE
    again = FilePinStore(path)
    assert again.pin(b"bob", OTHER) == ONE
    assert again.pinned(b"bob") == ONE
    assert path.read_bytes() == before


def test_people_can_read_it_and_take_a_pin_out(tmp_path: Path) -> None:
    path = tmp_path / "pins"
    store = FilePinStore(path)
    for node_id in (b"bob", b"\n# \xff", b"carol"):
        store.pin(node_id, ONE)
    lines = path.read_text().splitlines()
    assert lines[0] == f"{b'bob'.hex()} {ONE.hex()}  # bob"
    assert lines[1].endswith("  # \\n# \\xff")
    assert store.forget(b"bob")
    assert not store.forget(b"bob")
    assert [node_id for node_id, _ in FilePinStore(path).items()] == [b"\n# \xff", b"carol"]
    assert store.pin(b"bob", OTHER) == OTHER
    path.write_text("# by hand\n\n" + "\n".join(lines[2:]) + "\n")
    assert store.items() == [(b"carol", ONE)]


def test_two_that_share_a_file_see_each_others_pins(tmp_path: Path) -> None:
    one, other = FilePinStore(tmp_path / "pins"), FilePinStore(tmp_path / "pins")
    one.pin(b"bob", ONE)
    assert other.pinned(b"bob") == ONE
    assert other.pin(b"carol", OTHER) == OTHER
    assert one.pin(b"carol", ONE) == OTHER
    one.forget(b"bob")
    assert other.pinned(b"bob") is None


def test_a_file_that_is_no_pins_is_an_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "pins"
    line = f"{b'bob'.hex()} {ONE.hex()}"
    for text in (
        "nonsense",
        "00",
        f"{line} 00",
        f"{line[:-2]}",
        f" {ONE.hex()}",
        f"{line}\n{b'bob'.hex()} {OTHER.hex()}",
    ):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(StoreError, match=r"line \d of"):
            FilePinStore(path)
        assert path.read_text() == text
    path.write_text(line)
    path.chmod(0o620)
    with pytest.raises(StoreError, match="others may write"):
        FilePinStore(path)
    with pytest.raises(StoreError):
        FilePinStore(tmp_path)
    store = FilePinStore(tmp_path / "fresh")
    (tmp_path / "fresh").unlink()
    with pytest.raises(StoreError):
        store.pinned(b"bob")


def test_it_takes_so_many_and_refuses_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PINS", 2)
    store = FilePinStore(tmp_path / "pins")
    store.pin(b"1", ONE)
    store.pin(b"2", ONE)
    with pytest.raises(StoreError, match="2 pins"):
        store.pin(b"3", ONE)
    assert store.pin(b"2", OTHER) == ONE
    with pytest.raises(ConfigurationError):
        store.pin(b"", ONE)


def test_of_processes_that_pin_at_once_one_is_first(tmp_path: Path) -> None:
    program = (
        "import sys; from stt_backends.pins import FilePinStore; store = FilePinStore(sys.argv[1]);"
        "print(sum(store.pin(b'%d' % n, sys.argv[2].encode() * 32) == sys.argv[2].encode() * 32 for n in range(100)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    path = str(tmp_path / "pins")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, path, name], stdout=subprocess.PIPE, text=True, env=environment
        )
        for name in "abc"
    ]
    assert sum(int(process.communicate(timeout=60)[0]) for process in running) == 100
    assert len(FilePinStore(path).items()) == 100
