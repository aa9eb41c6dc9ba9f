"""Mistakes of usage: one line that says which, exit code 2, and nobody else is bothered."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from tests.cli.command import SEED, last_json, receiving, running, stt
from tests.cli.files import make_file

NOWHERE = "127.0.0.1:9"
# Root may do everything; without these it is like everybody else.
POWERLESS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


def refusal(*arguments: str, seed: str | None = SEED) -> str:
    """The one line, without what all of them begin with."""
    done = stt(*arguments, seed=seed, patience=20)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("stt: ")
    assert done.stderr.count("\n") == 1
    return done.stderr[len("stt: ") : -1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "required: COMMAND"),
        (("get",), "invalid choice: 'get'"),
        (("send",), "required: FILE, HOST:PORT"),
        (("send", "a"), "required: HOST:PORT"),
        (("send", "", NOWHERE), "a path is empty"),
        (("send", "/no/such/file", NOWHERE), "can't read /no/such/file: No such file or directory"),
        (("send", __file__, NOWHERE, "--timeout", "0"), "'0' is not a number of seconds above 0"),
        (("send", __file__, NOWHERE, "--retry", "-1"), "'-1' is not a number of seconds above 0, at most 86400"),
        (("send", __file__, NOWHERE, "--fallback", NOWHERE), f"--fallback is '{NOWHERE}', expected a ws:// or wss://"),
        (("send", __file__, NOWHERE, "--time", "1"), "unrecognized arguments: --time"),
        (("recv", "/no/such/dir"), "/no/such/dir is not a directory"),
        (("recv", __file__), "is not a directory"),
        (("recv", "--port", "70000"), "70000 is not between 0 and 65535"),
        (("recv", "--port", "http"), "'http' is not a number"),
        (("recv", "--bind", "localhost"), "expected a numeric IPv4 or IPv6 address"),
        (("forward", "0", NOWHERE), "required: REMOTEHOST:REMOTEPORT"),
        (("forward", "70000", NOWHERE, "a:1"), "70000 is not between 0 and 65535"),
        (("forward", "0", NOWHERE, "a:http"), "the target is 'a:http', expected HOST:PORT or [IPV6]:PORT"),
        (("forward", "0", "nowhere", "a:1"), "the address is 'nowhere', expected HOST:PORT"),
        (("forward", "0", NOWHERE, "a:1", "--bind", "localhost"), "--bind is 'localhost', expected a numeric IPv4"),
        (
            ("forward", "0", NOWHERE, "a:1", "--fallback", "host:1"),
            "--fallback is 'host:1', expected a ws:// or wss://",
        ),
        (("serve", "--allow", "[::1]"), "the target is '[::1]', expected HOST:PORT or [IPV6]:PORT"),
        (("serve", "--keep", "100000"), "'100000' is not a number of seconds above 0"),
        (("demo", "--size", "-1"), "-1 is not between 0 and 1048576"),
    ],
)
def test_arguments_that_make_no_sense(arguments: tuple[str, ...], reason: str) -> None:
    assert reason in refusal(*arguments)


@pytest.mark.parametrize(
    "address",
    ["nowhere", ":1", "host:", "host:0", "host:65536", "host:-1", "host:٤", f"host:{'1' * 5000}", "::1:4433", "[::1]",
     "[::1]4433", "[host]:1", "[::1:1"],
)  # fmt: skip
def test_what_is_no_address(address: str) -> None:
    assert "expected HOST:PORT or [IPV6]:PORT" in refusal("send", __file__, address)


def test_what_is_no_host_name() -> None:
    assert refusal("send", __file__, "a..b:1") == "'a..b' is not a host name"


def test_a_mistake_has_its_json_too() -> None:
    done = stt("recv", "--port", "http", "--json")
    assert done.returncode == 2
    record = last_json(done.stdout)
    assert record["ok"] is False
    assert "'http' is not a number" in record["error"]


def test_the_exit_codes_are_in_the_help() -> None:
    for command in ((), ("send",), ("recv",), ("forward",), ("serve",), ("demo",)):
        text = stt(*command, "--help").stdout
        assert re.findall(r"^ +(\d[\d, ]*)  \w", text, re.MULTILINE) == ["0", "1", "2", "3", "4", "5", "129, 130, 143"]


# --- files


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal("send", str(tmp_path / "pipe"), NOWHERE) == f"{tmp_path}/pipe is a pipe, and no regular file"


def test_sockets_devices_and_directories_are_told_apart(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/socket")
        assert "is a socket" in refusal("send", f"{tmp_path}/socket", NOWHERE)
    assert "is a device" in refusal("send", "/dev/zero", NOWHERE)
    assert "is a directory" in refusal("send", str(tmp_path), NOWHERE)
    assert "is a directory" in refusal("send", "/", NOWHERE)


def test_an_unreadable_file(tmp_path: Path) -> None:
    make_file(tmp_path, "closed", 10).chmod(0)
    with running("send", f"{tmp_path}/closed", NOWHERE, prefix=POWERLESS) as sender:
        _, stderr = sender.communicate()
    assert (sender.returncode, stderr) == (2, f"stt: can't read {tmp_path}/closed: Permission denied\n")


def test_a_directory_that_can_not_be_written_to(inbox: Path) -> None:
    inbox.chmod(0o500)
    with running("recv", str(inbox), prefix=POWERLESS) as receiver:
        _, stderr = receiver.communicate()
    assert (receiver.returncode, stderr) == (2, f"stt: can't write to {inbox}\n")


# --- ports


def test_a_port_in_use_is_named_with_its_address(inbox: Path) -> None:
    with receiving(inbox) as receiver:
        reason = refusal("recv", str(inbox), "--bind", "127.0.0.1", "--port", str(receiver.port))
    assert reason == f"can't listen on 127.0.0.1 UDP port {receiver.port}: Address already in use"


def test_a_tcp_port_in_use_is_told_before_anybody_is_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        reason = refusal("forward", str(port), NOWHERE, "127.0.0.1:1")
    assert reason == f"can't listen on 127.0.0.1 TCP port {port}: Address already in use"


def test_an_address_that_is_not_ours(inbox: Path) -> None:
    assert "can't listen on 192.0.2.1 UDP port 0: " in refusal("recv", str(inbox), "--bind", "192.0.2.1")


# --- seeds


def test_without_a_seed_both_variables_are_named(inbox: Path) -> None:
    for arguments in (("recv", str(inbox)), ("send", __file__, NOWHERE)):
        reason = refusal(*arguments, seed=None)
        assert "STT_SHARED_SEED" in reason
        assert "STT_SEED_FILE" in reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing", "No such file or directory"), ("", "Is a directory"), ("empty", "is empty"), ("long", "is too long")],
)
def test_a_file_that_holds_no_seed(tmp_path: Path, name: str, reason: str) -> None:
    for file, content in (("empty", b"\n"), ("long", bytes(2000))):
        (tmp_path / file).write_bytes(content)
        (tmp_path / file).chmod(0o600)
    with running("recv", str(tmp_path), seed=None, STT_SEED_FILE=f"{tmp_path}/{name}") as receiver:
        _, stderr = receiver.communicate()
    assert receiver.returncode == 2
    assert reason in stderr
    assert stderr.count("\n") == 1


def test_a_weak_seed_in_an_open_file_is_used_with_warnings(tmp_path: Path) -> None:
    (tmp_path / "seed").write_bytes(b"short\n")
    (tmp_path / "seed").chmod(0o644)
    with running("send", __file__, NOWHERE, seed=None, STT_SEED_FILE=f"{tmp_path}/seed") as sender:
        _, stderr = sender.communicate()
    readable, weak, unreachable = stderr.splitlines()
    assert sender.returncode == 3
    assert "can be read by every user of this machine" in readable
    assert "the shared seed is weak" in weak
    assert unreachable == "stt: can't reach 127.0.0.1:9: nothing listens at that address"
