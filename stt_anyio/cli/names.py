"""File names that came over the network.

Rule: a received name chooses one new file in one directory, and nothing else, whatever bytes are in it.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from stt_anyio.cli.failure import Exit, Failure

SUFFIX = ".stt.part"
"""Of files that are not whole yet. What ends like this is ours, so that it may be written to again."""
MAX_NAME = 255 - len(SUFFIX)
"""Bytes of UTF-8: what common file systems take, with room for the suffix."""
_DEVICES = {"con", "prn", "aux", "nul", *(f"{name}{number}" for name in ("com", "lpt") for number in range(1, 10))}


def for_display(text: str) -> str:
    """``text`` with everything that could steer a terminal or hide (controls, formats, surrogates) escaped."""
    return "".join(char if _harmless(char) else char.encode("unicode_escape").decode() for char in text)


def _harmless(char: str) -> bool:
    # Spaces of all kinds are: some systems put odd ones into the names of screenshots.
    category = unicodedata.category(char)
    return category == "Zs" or category[0] not in "CZ"


def problem_with(name: str) -> str | None:
    """Why a file can't be stored under ``name``; None where it can.

    It can't if the name is anything but one plain component (no separators of any system, no ``..``, no control or
    invisible characters, no device names, nothing hidden behind a trailing dot or space).
    """
    stem = name.split(".", maxsplit=1)[0].rstrip().lower()
    if not name or name in (".", "..") or any(char in name for char in '/\\:*?"<>|') or not all(map(_harmless, name)):
        return "it is not one plain file name"
    if name.startswith(("-", "~")) or name.strip() != name or name.endswith((".", ".part")):
        return "it begins or ends in a way that systems or shells treat specially"
    if stem in _DEVICES:
        return "it names a device"
    if len(name.encode()) > MAX_NAME:
        return f"it is longer than {MAX_NAME} bytes"
    return None


def safe_path(directory: Path, name: str) -> Path:
    """Where a file called ``name`` by the peer is stored in ``directory``.

    :raises Failure: if there is a :func:`problem_with` the name.
    """
    problem = problem_with(name)
    if problem is not None:
        raise Failure(Exit.INTEGRITY, f"refused the file name '{for_display(name)[:200]}': {problem}")
    return directory / name
