"""What is true of a file on the disk at every moment, whatever the file system does."""

from __future__ import annotations

import errno
import fcntl
import io
import os
from pathlib import Path

import pytest

from stt_anyio.cli.disk import MAX_AGE, MAX_LEFT, InUse, Part, Source, digest, tidy
from stt_anyio.cli.failure import Exit, Failure


def test_a_pipe_that_takes_a_files_place_at_the_last_moment_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    seen = (tmp_path / "file").stat()
    monkeypatch.setattr(Path, "stat", lambda _: seen)
    with pytest.raises(Failure, match="is a pipe, and no regular file"):
        Source(tmp_path / "pipe")


def test_a_part_has_the_permissions_that_new_files_have(tmp_path: Path) -> None:
    part = Part(tmp_path / "a")
    part.write([b"new"])
    part.publish()
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert part.digest() == digest_of(b"new")


def test_what_took_the_name_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    part = Part(tmp_path / "a")
    part.write([b"new"])
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(Failure, match="a exists already"):
        part.publish()
    part.discard()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_neither_a_file_nor_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    for name in ("a", "b.stt.part"):
        (tmp_path / name).symlink_to("target")
    (tmp_path / "c").symlink_to("nowhere")
    for name in ("a", "b", "c"):
        with pytest.raises(Failure, match=r"exists already|stands in the way"):
            Part(tmp_path / name)
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "nowhere").exists()


def test_a_part_is_locked_against_all_others_until_it_is_over(tmp_path: Path) -> None:
    first = Part(tmp_path / "a")
    with pytest.raises(InUse, match="another transfer of it runs"):
        Part(tmp_path / "a")
    first.write([b"half"])
    first.keep()
    second = Part(tmp_path / "a")
    assert second.left == 4
    assert second.recall(100) == 4
    second.write([b" whole"])
    second.publish()
    assert (tmp_path / "a").read_bytes() == b"half whole"
    assert second.digest() == digest_of(b"half whole")
    with pytest.raises(Failure, match="a exists already"):
        Part(tmp_path / "a")


def test_a_part_that_is_published_while_another_waits_for_it_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Part(tmp_path / "a")
    first.write([b"whole"])
    real = fcntl.flock

    def flock(file: io.FileIO, operation: int) -> None:
        if not first_is_over:
            first_is_over.append(True)
            first.publish()  # after the second has opened the file, and before it has locked it
        real(file, operation)

    first_is_over: list[bool] = []
    monkeypatch.setattr(fcntl, "flock", flock)
    second = Part(tmp_path / "a")
    second.write([b"other"])
    assert (tmp_path / "a").read_bytes() == b"whole"
    with pytest.raises(Failure, match="a exists already"):
        second.publish()
    second.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_transfer_killed_between_its_last_two_steps_has_published(tmp_path: Path) -> None:
    (tmp_path / "a.stt.part").write_bytes(b"whole")
    os.link(tmp_path / "a.stt.part", tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "moved")
    part = Part(tmp_path / "a")
    assert part.left == 0
    part.write([b"new"])
    part.publish()
    assert (tmp_path / "moved").read_bytes() == b"whole"
    assert (tmp_path / "a").read_bytes() == b"new"


def test_nothing_is_kept_of_nothing(tmp_path: Path) -> None:
    Part(tmp_path / "a").keep()
    assert list(tmp_path.iterdir()) == []


def test_of_many_parts_the_newest_are_kept_and_of_old_ones_none_but_those_in_use(tmp_path: Path) -> None:
    held = Part(tmp_path / "held")
    held.write([b"old, and under way"])
    for number in range(MAX_LEFT + 4):
        (tmp_path / f"{number}.stt.part").write_bytes(b"x")
        os.utime(tmp_path / f"{number}.stt.part", (1e6 + number, 1e6 + number))
    os.utime(tmp_path / "held.stt.part", (1.0, 1.0))
    (tmp_path / "dir.stt.part").mkdir()
    (tmp_path / "mine.part").touch()
    others = ["dir.stt.part", "held.stt.part", "mine.part"]
    tidy(tmp_path, 1e6 + 30)
    # The directory is the newest of all, and counts.
    newest = [f"{number}.stt.part" for number in range(5, MAX_LEFT + 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(newest + others)
    tidy(tmp_path, 1e6 + 10 + MAX_AGE)
    newest = [f"{number}.stt.part" for number in range(11, MAX_LEFT + 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(newest + others)
    held.publish()


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a memory stick: FAT has no hard links."""

    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.usefixtures("no_links")
def test_a_file_system_without_hard_links_does_too(tmp_path: Path) -> None:
    part = Part(tmp_path / "a")
    part.write([b"new"])
    part.publish()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"new")]


@pytest.mark.usefixtures("no_links")
def test_nothing_is_replaced_there_either(tmp_path: Path) -> None:
    part = Part(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(Failure, match="a exists already"):
        part.publish()
    assert (tmp_path / "a").read_bytes() == b"old"
    part.discard()


def test_a_disk_that_fails_at_the_last_moment_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Part(tmp_path / "a")
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        part.publish()
    part.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_ends_early_is_a_failure_of_that_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    source = Source(tmp_path / "a")
    assert source.read(2) == b"12"
    os.truncate(tmp_path / "a", 2)
    with pytest.raises(Failure, match="changed while it was sent") as caught:
        source.read(3)
    assert caught.value.code == Exit.INTEGRITY
    source.close()


def test_a_file_that_is_longer_than_it_says_is_not_cut_off_in_silence() -> None:
    source = Source(Path("/proc/self/status"))
    assert source.size == 0
    with pytest.raises(Failure, match="changed while it was sent"):
        source.finish()
    source.close()


def digest_of(data: bytes) -> bytes:
    made = digest()
    made.update(data)
    return made.digest()
