"""Files to send."""

from __future__ import annotations

import os
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB


def make_file(folder: Path, name: str, size: int) -> Path:
    """Random bytes."""
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path


def make_huge(folder: Path, size: int = 256 * MIB) -> Path:
    """Takes seconds to send, and no room on the disk until it is."""
    path = folder / "huge.bin"
    with path.open("wb") as file:
        file.truncate(size)
    return path
