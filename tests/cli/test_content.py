"""``stt publish`` and ``stt fetch`` as real processes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.cli.command import last_json, outcome, running, stt

NAME = "63" * 32
NOBODY = "127.0.0.1:9"


@contextmanager
def publishing(path: Path, *options: str) -> Iterator[tuple[Popen[str], dict[str, Any]]]:
    """``stt publish --json``, and what its first line says."""
    with running("publish", str(path), "--bind", "127.0.0.1", "--json", *options) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())


def test_a_file_is_published_and_fetched_by_its_id(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(os.urandom(5_000_000))
    with publishing(source) as (publisher, told):
        bootstrap = f"127.0.0.1:{told['port']}"
        assert len(bytes.fromhex(told["content_id"])) == 32
        fetched = stt(
            "fetch", told["content_id"], "-o", str(target), "--bind", "127.0.0.1", "--bootstrap", bootstrap, "--json"
        )
        assert fetched.returncode == 0, fetched.stderr
        record = last_json(fetched.stdout)
        publisher.send_signal(signal.SIGINT)
        code, stdout, stderr = outcome(publisher)
    assert record["ok"] is True
    assert (record["bytes"], record["resumed_bytes"], record["dropped"]) == (5_000_000, 0, [])
    assert [(peer["port"], peer["bytes"] >= 5_000_000) for peer in record["peers"]] == [(told["port"], True)]
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert code == 130
    assert last_json(stdout) | {"sent": 0} == {
        "ok": False, "content_id": told["content_id"], "sent": 0, "error": "interrupted",
    }  # fmt: skip
    assert "serving" in stderr


def test_what_nobody_has_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"hello, world\n")
    with publishing(source, "--store", str(tmp_path / "store")) as (_, told):
        options = ("--bind", "127.0.0.1", "--bootstrap", f"127.0.0.1:{told['port']}", "--timeout", "0.5", "--json")
        done = stt("fetch", NAME, "-o", str(tmp_path / "out"), *options)
    assert done.returncode == 3
    assert last_json(done.stdout)["error"].endswith("no provider was found")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "store"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("fetch", NAME, "-o", "out"), "needs --bootstrap HOST:PORT"),
        (("fetch", "abc", "-o", "out", "--bootstrap", NOBODY), "the id is 'abc', expected 64 hex digits"),
        (("fetch", NAME, "--bootstrap", NOBODY), "the following arguments are required: -o"),
        (("fetch", NAME, "-o", "/", "--bootstrap", NOBODY), "exists already"),
        (("fetch", NAME, "-o", "absent/out", "--bootstrap", NOBODY), "can't write to absent"),
        (("publish", "absent"), "can't read absent"),
        (("publish", "/dev/null"), "a device, and no regular file"),
        (("publish", "pyproject.toml", "--upload-limit", "fast"), "is not a number of bytes a second"),
        (("publish", "pyproject.toml", "--bootstrap", "nowhere"), "the address is 'nowhere'"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments: tuple[str, ...], reason: str) -> None:
    done = stt(*arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
