"""The house rules that a syntax tree can show: who imports whom, how long things may get, what may not stand there."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ROOMS = [
    *("errors", "types", "pins", "events", "config", "state"),
    *("ranges", "rtt", "timers", "backoff"),
    *("packet", "segments", "parameters", "frames", "packing"),
    *("crypto", "cpace", "keys", "cids"),
    *("protection", "handshake", "recovery", "streams"),
    *("paths", "keepalive", "resumption", "closing", "datagrams", "budget", "acks", "control", "outbound"),
    *("fallback", "migration", "channel", "statistics", "links", "context", "commands", "life", "session", "agenda"),
    *("routes", "register", "resuming", "guest", "endpoint"),
    *("affinity", "dht", "content", "forwarding", "durable"),
]
"""The rooms of the core, lowest first. A room imports only rooms that stand before it."""

PACKAGES = {"stt_core": 0, "stt_backends": 1, "stt_anyio": 2, "stt_trio": 2}
"""The packages and their height; two of the same height don't know each other."""

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
IMPURE_BUILTINS = {"__import__", "breakpoint", "eval", "exec", "hash", "input", "open", "print"}
"""Builtins that reach into the world; ``hash`` because its answer hangs on PYTHONHASHSEED."""


def sources(*tops: str) -> list[Path]:
    """All Python files below these directories of the project, as paths relative to its root."""
    return sorted(path.relative_to(ROOT) for top in tops for path in (ROOT / top).rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def banned() -> set[str]:
    """The standard library's modules that the core may not import: the linter's own list."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    return set(lint["flake8-tidy-imports"]["banned-api"])


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything ``path`` imports, at any depth of the file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room_of(path: Path) -> str:
    """``stt_core/handshake/cookie.py`` is in the room ``handshake``; the package's own ``__init__`` is in none."""
    return Path(path.parts[1]).stem


CORE = sources("stt_core")
SHIPPED = sources(*PACKAGES)
TESTS = sources("tests")


@pytest.mark.parametrize("path", CORE, ids=str)
def test_the_core_imports_only_itself_and_the_harmless_part_of_the_standard_library(path: Path) -> None:
    allowed = ({"stt_core"} | sys.stdlib_module_names) - banned()
    strangers = [f"{path}:{line}: {name}" for line, name in imports(path) if name.split(".")[0] not in allowed]
    assert not strangers


@pytest.mark.parametrize("path", CORE, ids=str)
def test_the_core_calls_no_builtin_that_reaches_into_the_world(path: Path) -> None:
    calls = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))
    names = ((call.lineno, call.func.id) for call in calls if isinstance(call.func, ast.Name))
    assert not [f"{path}:{line}: {name}()" for line, name in names if name in IMPURE_BUILTINS]


def test_every_room_of_the_core_has_a_place_in_the_order() -> None:
    assert {room_of(path) for path in CORE} - {"__init__"} <= set(ROOMS)


@pytest.mark.parametrize("path", [path for path in CORE if room_of(path) != "__init__"], ids=str)
def test_a_room_imports_only_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    below = {room, *ROOMS[: ROOMS.index(room)]}
    upward = []
    for line, name in imports(path):
        package, _, rest = name.partition(".")
        if package == "stt_core" and rest.partition(".")[0] not in below:
            upward.append(f"{path}:{line}: {name}")
    assert not upward


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_a_package_imports_only_packages_below_it(path: Path) -> None:
    own = path.parts[0]
    allowed = {own, *(name for name, height in PACKAGES.items() if height < PACKAGES[own])}
    tops = ((line, name.split(".")[0]) for line, name in imports(path))
    assert not [f"{path}:{line}: {top}" for line, top in tops if top in PACKAGES and top not in allowed]


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.parts[0] in ("stt_core", "stt_backends")], ids=str)
def test_nothing_below_the_adapters_waits(path: Path) -> None:
    waits = (ast.Await, ast.AsyncFor, ast.AsyncWith)
    found = [f"{path}:{node.lineno}" for node in ast.walk(tree(path)) if isinstance(node, waits)]
    assert not found or path.is_relative_to("stt_backends/behaviours")  # which awaits what it is given, see there


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_no_file_is_two_things(path: Path) -> None:
    length = len((ROOT / path).read_text(encoding="utf-8").splitlines())
    assert length <= MAX_FILE_LINES, f"{path} has {length} lines"


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_no_function_is_two_things(path: Path) -> None:
    functions = (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = [
        f"{path}:{function.lineno}: {function.name} has {length} lines"
        for function in functions
        if (length := (function.end_lineno or function.lineno) - function.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_nothing_shipped_is_unfinished(path: Path) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    assert not [f"{path}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if UNFINISHED.search(line)]


@pytest.mark.parametrize("package", [name for name in PACKAGES if (ROOT / name / "__init__.py").exists()])
def test_every_package_is_typed_for_its_users(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


MAY_SKIP = {Path("tests/interop/test_chromium.py"), Path("tests/fleet/server.py")}
"""A browser is not had everywhere, and is a hundred times the size of everything else here; nor is a Redis server."""


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_no_test_sleeps_or_is_skipped(path: Path) -> None:
    forbidden = {("time", "sleep"), ("mark", "skip"), ("mark", "skipif"), ("mark", "xfail"), ("pytest", "skip")}
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if (owner, node.attr) in forbidden:
                found.append(f"{path}:{node.lineno}: {owner}.{node.attr}")
    found += [f"{path}:{line}: {name}" for line, name in imports(path) if tuple(name.split(".")) in forbidden]
    assert not found or path in MAY_SKIP
