"""A DHT's contacts in a file, from one run to the next.

Rule: the file is of use and no more. Where it is damaged or can't be written, that is logged, and the node goes on.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from stt_core.dht.table import load_untrusted
from stt_core.errors import Violation

logger = logging.getLogger("stt.dht")

LARGEST: Final = 1 << 20
"""Bytes read at most; 200 contacts are 14 KB."""


def load_table(path: Path) -> bytes | None:
    """What was saved there; None where nothing was, or nothing of use."""
    try:
        with path.open("rb") as file:
            saved = file.read(LARGEST)
        load_untrusted(saved)
    except FileNotFoundError:
        return None
    except (OSError, Violation) as error:
        logger.warning("the DHT's contacts in %s are of no use: %s", path, error)
        return None
    return saved


def save_table(path: Path, saved: bytes) -> None:
    """Keep it there, in the place of what was: whole, or not at all."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fresh.write_bytes(saved)
        os.replace(fresh, path)
    except OSError as error:
        logger.warning("the DHT's contacts can't be saved in %s: %s", path, error)
        fresh.unlink(missing_ok=True)
