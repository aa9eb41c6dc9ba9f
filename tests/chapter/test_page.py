"""docs/chapter.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "chapter.md"


def names() -> set[str]:
    return {
        node.name
        for path in HERE.glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_the_page_names_tests_that_exist() -> None:
    named = set(re.findall(r"\btest_\w+", PAGE.read_text(encoding="utf-8")))
    files = {path.stem for path in HERE.glob("test_*.py")}
    assert named - files <= names()
    assert len(named - files) > 20
