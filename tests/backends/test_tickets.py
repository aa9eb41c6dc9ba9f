from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stt_backends import tickets
from stt_backends.tickets import FileTicketStore
from stt_core.errors import StoreError
from stt_core.resumption import KEY_LIFE

WALL = 1_700_000_000.0


def ticket(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    FileTicketStore(tmp_path / "tickets")
    assert (tmp_path / "tickets").stat().st_mode & 0o777 == 0o600


def test_two_that_share_a_file_have_one_key_and_spend_a_ticket_once(tmp_path: Path) -> None:
    one, other = FileTicketStore(tmp_path / "tickets"), FileTicketStore(tmp_path / "tickets")
    key = one.current(WALL)
    assert other.current(WALL) == key
    assert one.spend(ticket(1), WALL + 100, WALL)
    assert not other.spend(ticket(1), WALL + 100, WALL)
    assert not one.spend(ticket(1), WALL + 100, WALL)


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    before = FileTicketStore(tmp_path / "tickets")
    key = before.current(WALL)
    before.spend(ticket(1), WALL + 100, WALL)
    after = FileTicketStore(tmp_path / "tickets")
    assert after.find(key.key_id, WALL) == key
    assert after.is_spent(ticket(1), WALL)


def test_a_key_that_another_process_made_is_found(tmp_path: Path) -> None:
    one, other = FileTicketStore(tmp_path / "tickets"), FileTicketStore(tmp_path / "tickets")
    keys = [one.current(WALL + number * KEY_LIFE) for number in range(5)]
    now = WALL + 4 * KEY_LIFE
    assert [other.find(key.key_id, now) is not None for key in keys] == [False, False, True, True, True]
    assert other.current(now) == keys[-1]


def test_what_has_expired_is_left_out_and_the_others_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "MOST_RECORDS", 10)
    one, other = FileTicketStore(tmp_path / "tickets"), FileTicketStore(tmp_path / "tickets")
    key = one.current(WALL)
    other.find(key.key_id, WALL)
    for number in range(30):
        assert one.spend(ticket(number), WALL + number, WALL + number)
    assert (tmp_path / "tickets").stat().st_size < 30 * 64
    assert not other.spend(ticket(29), WALL + 29, WALL + 29)
    assert other.spend(ticket(30), WALL + 100, WALL + 29)
    assert one.current(WALL) == other.current(WALL) == key
    assert [path.name for path in tmp_path.iterdir()] == ["tickets"]


def test_a_torn_record_of_a_killed_writer_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "tickets"
    FileTicketStore(path).spend(ticket(1), WALL + 100, WALL)
    path.write_bytes(path.read_bytes() + b"S half a record")
    store = FileTicketStore(path)
    assert store.is_spent(ticket(1), WALL)
    assert store.spend(ticket(2), WALL + 100, WALL)
    assert FileTicketStore(path).is_spent(ticket(2), WALL)


def test_a_damaged_file_is_told_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "tickets"
    FileTicketStore(path).current(WALL)
    damaged = bytearray(path.read_bytes())
    damaged[80] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="damaged"):
        FileTicketStore(path)
    assert path.read_bytes() == damaged


def test_a_file_of_something_else_is_told_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("my notes\n")
    path.chmod(0o600)
    with pytest.raises(StoreError, match="no ticket store"):
        FileTicketStore(path)
    assert path.read_text() == "my notes\n"


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tickets"
    FileTicketStore(path)
    path.chmod(0o640)
    with pytest.raises(StoreError, match="chmod 600"):
        FileTicketStore(path)


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        FileTicketStore(tmp_path / "nowhere" / "tickets")


def test_it_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        FileTicketStore(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_of_several_processes_one_spends_each_ticket(tmp_path: Path) -> None:
    program = (
        "import sys; from stt_backends.tickets import FileTicketStore\n"
        "store = FileTicketStore(sys.argv[1])\n"
        f"print(sum(store.spend(n.to_bytes(16, 'big'), {WALL} + 100, {WALL}) for n in range(200)))\n"
    )
    path = str(tmp_path / "tickets")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    spent = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sum(spent) == 200
