"""What a person sees: bars that go away, a prompt that can be left, nothing that steers the terminal unasked."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import anyio
import pytest

from tests.cli.command import receiving
from tests.cli.files import MIB, make_file, make_huge
from tests.cli.peer import connected, hear, offer
from tests.cli.terminal import CTRL_C, CTRL_D, on_terminal

NOWHERE = "127.0.0.1:9"


# --- the seed


def test_the_seed_is_asked_for_and_not_shown(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "a", 10)
    with receiving(inbox, seed="typed by hand") as receiver:
        with on_terminal("send", str(source), receiver.address, seed=None) as terminal:
            terminal.wait_for(b"shared seed: ")
            terminal.type(b"typed by hand\n")
            code, output = terminal.finish()
        assert receiver.finish()[0] == 0
    assert code == 0, output
    assert "typed by hand" not in output


@pytest.mark.parametrize(
    ("keys", "code", "line"),
    [
        (CTRL_C, 130, "stt: interrupted"),
        (CTRL_D, 2, "stt: no seed was typed"),
        (b"\n", 2, "stt: the seed that was typed is empty, expected 1 to 1024 bytes"),
        (b"\xff\xfe\n", 2, "stt: what was typed is not text"),
    ],
    ids=["Ctrl-C", "Ctrl-D", "empty", "no text"],
)
def test_the_prompt_can_be_left(keys: bytes, code: int, line: str) -> None:
    with on_terminal("send", __file__, NOWHERE, seed=None) as terminal:
        terminal.wait_for(b"shared seed: ")
        terminal.type(keys)
        assert terminal.finish() == (code, f"shared seed: \r\n{line}\r\n")


def test_a_signal_at_the_prompt_gives_the_terminal_back_as_it_was() -> None:
    with on_terminal("send", __file__, NOWHERE, seed=None) as terminal:
        terminal.wait_for(b"shared seed: ")
        assert not terminal.echoes()
        terminal.process.send_signal(signal.SIGTERM)
        terminal.process.wait()
        assert terminal.echoes()
        assert terminal.finish() == (143, "shared seed: \r\nstt: terminated\r\n")


# --- progress


def test_progress_has_a_rate_and_the_time_left_and_goes_away(tmp_path: Path, inbox: Path) -> None:
    source = make_huge(tmp_path)
    with receiving(inbox) as receiver, on_terminal("send", str(source), receiver.address) as terminal:
        code, output = terminal.finish()
    assert code == 0
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", output)
    assert re.search(r"huge\.bin .* \d+\.\d/256\.0 MiB \d+\.\d [kM]B/s 0:00:\d\d\r", plain)
    # The cursor returns to the line's beginning, the line is erased and the cursor shown: then come words.
    assert re.search(r"\r\x1b\[2K\x1b\[\?25h\rsent 1 file, 268,435,456 bytes in .* MB/s\r\n$", output)
    assert "\x1b[38;5;" in output


def test_no_color_is_respected(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "a", 20 * MIB)
    with receiving(inbox) as receiver, on_terminal("send", str(source), receiver.address, NO_COLOR="1") as terminal:
        code, output = terminal.finish()
    assert code == 0
    assert "20.0 MiB" in output
    assert not re.search(r"\x1b\[[\d;]*m", output)


def test_a_terminal_that_can_not_redraw_gets_no_bars(tmp_path: Path, inbox: Path) -> None:
    source = make_file(tmp_path, "a", 1000)
    with receiving(inbox) as receiver, on_terminal("send", str(source), receiver.address, TERM="dumb") as terminal:
        code, output = terminal.finish()
    assert code == 0
    assert re.fullmatch(r"sent 1 file, 1,000 bytes in .* MB/s\r\n", output)


def test_bars_do_not_pile_up(tmp_path: Path, inbox: Path) -> None:
    sources = [make_file(tmp_path, f"{number}.txt", 1000) for number in range(60)]
    with receiving(inbox) as receiver, on_terminal("send", *map(str, sources), receiver.address) as terminal:
        code, output = terminal.finish()
    assert code == 0
    assert output.count("\n") == 1  # that of the last line: each bar was in the same place


def test_ctrl_c_ends_a_transfer_and_leaves_the_terminal_in_order(tmp_path: Path, inbox: Path) -> None:
    source = make_huge(tmp_path)
    with receiving(inbox) as receiver, on_terminal("send", str(source), receiver.address) as terminal:
        terminal.wait_for(b"256.0 MiB")
        terminal.type(CTRL_C)
        code, output = terminal.finish()
        assert receiver.finish()[0] == 3
    assert code == 130
    assert output.endswith("\x1b[?25h\rstt: interrupted\r\n")
    assert receiver.stored() == []


def test_a_receiver_shows_what_several_senders_send_at_once(inbox: Path) -> None:
    async def scenario(port: int) -> None:
        async with connected(port) as one, connected(port) as other:
            for session, name in ((one, "first.bin"), (other, "second.bin")):
                assert await hear(await offer(session, name=name, size=5 * MIB)) == {"accept": True}
            await anyio.to_thread.run_sync(terminal.wait_for, b"first.bin")
            await anyio.to_thread.run_sync(terminal.wait_for, b"second.bin")

    with on_terminal("recv", str(inbox), "--bind", "127.0.0.1") as terminal:
        terminal.wait_for(b"\n")
        found = re.search(rb":(\d+)\r\n", bytes(terminal.output))
        assert found
        anyio.run(scenario, int(found[1]))
        for name in (b"first.bin", b"second.bin"):
            terminal.wait_for(b"stt: " + name + b": the session ended: the peer closed the session (NO_ERROR)")
        terminal.type(CTRL_C)
        code, output = terminal.finish()
    assert code == 130
    assert "Traceback" not in output
    assert list(inbox.iterdir()) == []
