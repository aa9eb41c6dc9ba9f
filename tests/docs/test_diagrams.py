"""docs/states.md is what docs/make_diagrams.py draws from the tables today."""

from __future__ import annotations

import runpy

import pytest

from stt_core.state import FALLBACK, RECEIVE, SEND, SESSION
from tests.docs.markdown import ROOT, blocks

STATES = ROOT / "docs" / "states.md"
DIAGRAMS = [block.text for block in blocks(STATES) if block.language == "mermaid"]


def test_the_tree_is_drawn_as_it_is_built() -> None:
    drawing = runpy.run_path(str(ROOT / "docs" / "make_diagrams.py"))
    page = (ROOT / "docs" / "content.md").read_text(encoding="utf-8")
    assert page == drawing["with_tree"](page), "the tree has changed: run `make docs`"
    arrows = [line for line in drawing["tree"](drawing["SAMPLE"]).splitlines() if "-->" in line]
    assert (
        len(arrows) == 5 + 3 + 2
    )  # each leaf and each inner node but the root leads to one, root and size to the name


def test_the_page_is_up_to_date() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "make_diagrams.py"))["page"]()
    assert STATES.read_text(encoding="utf-8") == drawn, "the tables have changed: run `make docs`"


@pytest.mark.parametrize(("diagram", "table"), list(zip(DIAGRAMS, (SESSION, SEND, RECEIVE, FALLBACK), strict=True)))
def test_a_diagram_shows_each_transition_once(diagram: str, table: dict[tuple[object, object], object]) -> None:
    arrows = [line for line in diagram.splitlines() if "-->" in line and "[*]" not in line]
    assert len(set(arrows)) == len(arrows) == len(table)
