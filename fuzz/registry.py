"""All targets, found by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

from fuzz import content, dht, handshake, parsers, resumption, sealed, streams, websocket

Target = Callable[[bytes], None]

CORPUS: Final = Path(__file__).with_name("corpus")
_MODULES: Final[tuple[ModuleType, ...]] = (parsers, handshake, sealed, streams, content, dht, resumption, websocket)
_PREFIX: Final = "target_"


def targets() -> dict[str, Target]:
    """Every ``target_<name>`` by its name, in the order they are written."""
    return {
        name.removeprefix(_PREFIX): function
        for module in _MODULES
        for name, function in vars(module).items()
        if name.startswith(_PREFIX)
    }


def corpus(name: str) -> list[bytes]:
    """The committed inputs of one target, in the order of their names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
