"""What is true of a file on the disk at every moment, whatever the file system does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from stt_anyio.cli.disk import Part, Source, digest
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
    for name in ("a", "b.part"):
        (tmp_path / name).symlink_to("target")
    (tmp_path / "c").symlink_to("nowhere")
    for name in ("a", "b", "c"):
        with pytest.raises(Failure, match=r"exists already|stands in the way"):
            Part(tmp_path / name)
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "nowhere").exists()


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
