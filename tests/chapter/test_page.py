"""docs/chapter.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from stt_trio import testing

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = (ROOT / "docs" / "chapter.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)
"""Files, those of this folder without it, and the functions in them."""


def functions(path: Path) -> set[str]:
    """Everything defined there, methods included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def place_of(file: str) -> Path:
    return (ROOT if "/" in file else HERE) / file


def test_what_shows_a_promise_or_runs_a_program_exists() -> None:
    assert len(SHOWN) > 80
    assert not [f"{file}::{name}" for file, name in SHOWN if name not in functions(place_of(file))]


def test_names_that_follow_a_files_are_in_one_of_this_folder() -> None:
    here = set().union(*map(functions, HERE.glob("test_*.py")))
    assert set(re.findall(r"`(test_\w+)`", PAGE)) <= here


def test_what_every_stack_must_do_is_in_the_lists_that_are_run_there() -> None:
    lists = (testing.NODES, testing.MOVES, testing.RESUMING)
    run = {behaviour.__name__ for behaviours in lists for behaviour in behaviours}
    assert {name for file, name in SHOWN if file.startswith("stt_backends/")} <= run
