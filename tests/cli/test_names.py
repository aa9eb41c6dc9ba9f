"""A received name chooses one new file in one directory, whatever bytes are in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stt_anyio.cli.failure import Failure
from stt_anyio.cli.names import MAX_NAME, for_display, safe_path


@pytest.mark.parametrize("name", ["a", "report 2026.pdf", "Übung.txt", "写真.jpg", ".profile", "a-b_c(1).tar.gz"])
def test_plain_names_pass(tmp_path: Path, name: str) -> None:
    assert safe_path(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/../b", "/a", "\\\\host\\a", "C:a", "a\0b", "a\nb", "a\x9bb", "a\u200bb", "\ud800", "CON",
     "lpt1.txt", "-rf", "~", " a", "a ", "a.", "x.part", "x" * (MAX_NAME + 1), "ü" * MAX_NAME],
)  # fmt: skip
def test_all_others_are_refused_with_a_printable_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(Failure, match="refused the file name") as caught:
        safe_path(tmp_path, name)
    assert str(caught.value).isprintable()


def test_display_escapes_what_steers_a_terminal() -> None:
    assert for_display("a\x1b]0;title\x07\u202e") == "a\\x1b]0;title\\x07\\u202e"
