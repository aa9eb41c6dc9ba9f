"""The stacks side by side: each module makes one kind of them serve and connect, in the shape that suits it best."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

COMPILED = "stt-compiled"
"""STT once more, in the environment of ``make compiled``. It takes part only where it is asked for by this name."""
COMPILED_PYTHON = Path(__file__).parents[2] / ".venv-compiled/bin/python"
MODULES = {
    "stt": "stt",
    "stt-ws": "stt",
    "stt-trio": "stt",
    COMPILED: "stt",
    "aioquic": "quic",
    "qh3": "quic",
    "tls": "tls",
    "tls-streams": "tls",
    "websockets": "ws",
}
"""Which module speaks for a library."""
NEEDS = {"stt": "stt_anyio", "stt-ws": "stt_anyio", "stt-trio": "stt_trio", "tls": "ssl", "tls-streams": "ssl"}
LOOPS = ("asyncio", "uvloop", "trio")


def module_of(library: str) -> ModuleType:
    """The :class:`~benchmarks.peers.interface.Peer` of a library."""
    return import_module(f"benchmarks.peers.{MODULES[library]}")


def is_installed(stack: str) -> bool:
    """Whether ``library/loop`` can run here."""
    library, _, loop = stack.partition("/")
    if library == COMPILED:
        return COMPILED_PYTHON.exists()
    return find_spec(NEEDS.get(library, library)) is not None and find_spec(loop) is not None
