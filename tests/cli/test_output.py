"""Closed pipes, full devices and closed descriptors: no trace, and nothing that didn't happen is reported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cli.command import PATIENCE, environment
from tests.cli.files import make_file

NO_SPACE = "stt: can't write to standard output: No space left on device\n"


@contextmanager
def sink(kind: str) -> Iterator[int]:
    """A descriptor to write to: a ``pipe`` whose reader has gone, or a device that is always ``full``."""
    if kind == "pipe":
        reader, descriptor = os.pipe()
        os.close(reader)
    else:
        descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def run(
    *arguments: str, stdout: str | None = None, stderr: str | None = None, closing: str = "", unbuffered: bool = False
) -> tuple[int, str, str]:
    """Run the command with sinks for its streams, or with the descriptors that a shell closes by ``closing``."""
    with ExitStack() as stack:
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-m", "stt_anyio", *arguments],
            env=environment() | ({"PYTHONUNBUFFERED": "1"} if unbuffered else {}),
            stdin=subprocess.DEVNULL,
            stdout=stack.enter_context(sink(stdout)) if stdout else subprocess.PIPE,
            stderr=stack.enter_context(sink(stderr)) if stderr else subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    return done.returncode, done.stdout or "", done.stderr or ""


@pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("demo", "--size", "0", "--json")])
def test_a_result_that_nobody_wants_to_read_is_no_failure(arguments: tuple[str, ...], unbuffered: bool) -> None:
    assert run(*arguments, stdout="pipe", unbuffered=unbuffered) == (0, "", "")


@pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("demo", "--size", "0", "--json")])
def test_a_result_that_can_not_be_written_is_one(arguments: tuple[str, ...], unbuffered: bool) -> None:
    assert run(*arguments, stdout="full", unbuffered=unbuffered) == (5, "", NO_SPACE)


@pytest.mark.parametrize("kind", ["pipe", "full"])
def test_words_that_can_not_be_written_are_lost_and_nothing_else(kind: str) -> None:
    code, stdout, _ = run("demo", "--size", "1", "--json", stderr=kind)
    assert code == 0
    assert json.loads(stdout)["ok"] is True


@pytest.mark.parametrize("kind", ["pipe", "full"])
@pytest.mark.parametrize("options", [(), ("--json",), ("--debug",)])
def test_a_failure_keeps_its_exit_code_where_nothing_can_be_written(kind: str, options: tuple[str, ...]) -> None:
    code, _, _ = run("send", __file__, "127.0.0.1:9", *options, stdout=kind, stderr=kind)
    assert code == 3


def test_what_is_for_people_never_gets_into_the_result_in_place_of_a_closed_stderr(tmp_path: Path) -> None:
    code, stdout, _ = run("send", str(make_file(tmp_path, "a", 1)), "127.0.0.1:9", "--json", closing="2>&-")
    assert code == 3
    assert json.loads(stdout)["ok"] is False


def test_what_is_for_people_never_gets_into_a_file_that_took_the_number_of_a_closed_stderr(tmp_path: Path) -> None:
    # Everything is closed: the first files and sockets to be opened would be taken for the standard streams.
    assert run("demo", "--size", "1", closing="<&- >&- 2>&-") == (0, "", "")
