"""File names that came over the network.

Rule: a received name chooses one new file in one directory, and nothing else, whatever bytes are in it.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from stt_anyio.cli.failure import Exit, Failure

MAX_NAME = 255 - len(".part")
"""Bytes of UTF-8: what common file systems take, with room for the suffix of unfinished files."""
_DEVICES = {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10))}


def for_display(text: str) -> str:
    """``text`` with everything that could steer a terminal or hide (controls, formats, surrogates) escaped."""
    return "".join(char if _harmless(char) else char.encode("unicode_escape").decode() for char in text)


def _harmless(char: str) -> bool:
    return char == " " or unicodedata.category(char)[0] not in "CZ"


def safe_path(directory: Path, name: str) -> Path:
    """Where a file called ``name`` by the peer is stored in ``directory``.

    :raises Failure: if the name is anything but one plain component (no separators of any system, no ``..``, no
        control or invisible characters, no device names, nothing hidden behind a trailing dot or space).
    """
    shown = for_display(name)[:200]
    stem = name.split(".", maxsplit=1)[0].rstrip().lower()
    if not name or name in (".", "..") or any(char in name for char in '/\\:*?"<>|') or not all(map(_harmless, name)):
        problem = "it is not one plain file name"
    elif name.startswith(("-", "~", " ")) or name.endswith((".", " ", ".part")):
        problem = "it begins or ends in a way that systems or shells treat specially"
    elif stem in _DEVICES:
        problem = "it names a device"
    elif len(name.encode()) > MAX_NAME:
        problem = f"it is longer than {MAX_NAME} bytes"
    else:
        return directory / name
    raise Failure(Exit.INTEGRITY, f"refused the file name '{shown}': {problem}")
