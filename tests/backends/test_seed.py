"""Where the shared seed comes from, and that it goes nowhere else."""

from __future__ import annotations

import logging
import os
import threading
import traceback
from pathlib import Path

import pytest

from stt_backends.seed import FILE_VARIABLE, MAX_SEED, SEED_VARIABLE, load_shared_seed
from stt_core.errors import ConfigurationError

SECRET = "tell-nobody-but-the-other-side"


def seed_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "seed"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_variable_is_taken_as_utf8() -> None:
    assert load_shared_seed({SEED_VARIABLE: "früh ☕"}) == "früh ☕".encode()


def test_bytes_of_the_environment_that_are_no_text_pass_unchanged() -> None:
    assert load_shared_seed({SEED_VARIABLE: os.fsdecode(b"\xff\x00raw")}) == b"\xff\x00raw"


@pytest.mark.parametrize(
    ("content", "seed"),
    [
        (b"seed", b"seed"),
        (b"seed\n", b"seed"),
        (b"seed\r\n", b"seed"),
        (b"seed\n\n", b"seed\n"),
        (b"seed\r", b"seed\r"),
        (b" seed ", b" seed "),
        (b"\x00\xff\x80", b"\x00\xff\x80"),
        (b"x" * MAX_SEED + b"\r\n", b"x" * MAX_SEED),
    ],
)
def test_a_file_gives_its_bytes_less_one_newline(tmp_path: Path, content: bytes, seed: bytes) -> None:
    assert load_shared_seed({FILE_VARIABLE: str(seed_file(tmp_path, content))}) == seed


def test_a_pipe_does_as_a_file() -> None:
    reading, writing = os.pipe()

    def write_in_two_parts() -> None:
        with open(writing, "wb", buffering=0) as pipe:
            pipe.write(b"from a ")
            pipe.write(b"pipe\n")

    writer = threading.Thread(target=write_in_two_parts)
    writer.start()
    try:
        assert load_shared_seed({FILE_VARIABLE: f"/dev/fd/{reading}"}) == b"from a pipe"
    finally:
        writer.join()
        os.close(reading)


def test_the_variable_wins_over_the_file_and_both_over_the_prompt(tmp_path: Path) -> None:
    path = str(seed_file(tmp_path, b"from the file"))

    def prompt() -> str:
        raise AssertionError("asked the user for nothing")

    assert load_shared_seed({SEED_VARIABLE: "direct", FILE_VARIABLE: path}, prompt) == b"direct"
    assert load_shared_seed({SEED_VARIABLE: "", FILE_VARIABLE: path}, prompt) == b"from the file"


def test_the_user_is_asked_last() -> None:
    assert load_shared_seed({SEED_VARIABLE: "", FILE_VARIABLE: ""}, lambda: "typed") == b"typed"


def test_no_seed_at_all_names_both_variables() -> None:
    with pytest.raises(ConfigurationError, match=SEED_VARIABLE) as caught:
        load_shared_seed({})
    assert FILE_VARIABLE in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_file_is_no_seed(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match=f"{FILE_VARIABLE} is empty"):
        load_shared_seed({FILE_VARIABLE: str(seed_file(tmp_path, content))})


def test_an_empty_answer_is_no_seed() -> None:
    with pytest.raises(ConfigurationError, match="typed is empty"):
        load_shared_seed({}, lambda: "")


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/", "nul\0byte"])
def test_an_unreadable_file_is_named(path: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{FILE_VARIABLE} can't be read") as caught:
        load_shared_seed({FILE_VARIABLE: path})
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom"])
def test_a_device_without_an_end_is_too_long(path: str) -> None:
    with pytest.raises(ConfigurationError, match="too long"):
        load_shared_seed({FILE_VARIABLE: path})


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_everybody_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: bool
) -> None:
    path = seed_file(tmp_path, SECRET.encode(), mode)
    with caplog.at_level(logging.DEBUG):
        assert load_shared_seed({FILE_VARIABLE: str(path)}) == SECRET.encode()
    assert (str(path) in caplog.text) is warned
    assert SECRET not in caplog.text


@pytest.mark.parametrize("text", [SECRET + "x" * MAX_SEED, SECRET + "\ud800"])
@pytest.mark.parametrize("typed", [True, False])
def test_no_error_shows_any_of_the_seed(caplog: pytest.LogCaptureFixture, text: str, typed: bool) -> None:
    environ = {} if typed else {SEED_VARIABLE: text}
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigurationError) as caught:
        load_shared_seed(environ, lambda: text)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert SECRET not in shown
    assert caught.value.__context__ is None, "a UnicodeEncodeError carries the whole text"


def test_a_file_too_long_is_not_shown_either(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="too long") as caught:
        load_shared_seed({FILE_VARIABLE: str(seed_file(tmp_path, SECRET.encode() + b"x" * MAX_SEED))})
    assert SECRET not in str(caught.value)
