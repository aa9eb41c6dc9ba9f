"""Read the documentation as a reader does: headings, and the blocks of code under them.

The convention the documents keep:

- A ``python`` block runs as it stands, in a fresh interpreter, with warnings as errors. Where several follow one
  heading, the later ones go on from the earlier: they are one program. No block is exempt.
- A shell session is a ``console`` block; commands start with ``$``, everything else is output.
- Anything else names its language, or ``text``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]

FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*([^\s`]*)")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, and what is in it. ``line`` is that of its first line of content."""

    page: Path
    section: int
    heading: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """For the reader of a failed test, and unique: page, line, heading."""
        return f"{self.page.relative_to(ROOT)}:{self.line} {self.heading}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of ``page``.

    :raises ValueError: where a fence is never closed.
    """
    found: list[Block] = []
    heading, section, fence, language, start = "", 0, "", "", 0
    content: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        mark = FENCE.match(line)
        if fence:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                found.append(Block(page, section, heading, start, language, dedented(content)))
                fence = ""
            else:
                content.append(line)
        elif mark:
            fence, language, start, content = mark[1], mark[2], number + 1, []
        elif title := HEADING.match(line):
            heading, section = title[1], section + 1
    if fence:
        raise ValueError(f"{page}:{start - 1}: this block is never closed")
    return found


def dedented(lines: list[str]) -> str:
    """The lines without the indentation that a list around the block gives them."""
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "".join(line[margin:] + "\n" for line in lines)


def programs() -> list[list[Block]]:
    """The ``python`` blocks of all pages; those under one heading belong together."""
    python = [block for page in PAGES for block in blocks(page) if block.language == "python"]
    return [list(group) for _, group in groupby(python, key=lambda block: (block.page, block.section))]


def source(program: list[Block]) -> str:
    """The program's text, with each line at the line number it has in its page, so that tracebacks point there."""
    text = ""
    for block in program:
        text += "\n" * (block.line - 1 - text.count("\n")) + block.text
    return text
