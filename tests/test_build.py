"""Which build of the core runs here: the source as it stands, or the compiled one (``make compiled``), as asked for.

``make compiled`` sets STT_BUILD, so that a run over it that met the source instead would fail, and a run over the
source, as any other is, does where something compiled is found.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import pytest

import stt_core
from tests.sim.test_determinism import history

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HOOK = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
LISTED = set(HOOK["modules"])
COMPILED = os.environ.get("STT_BUILD") == "compiled"
MODULES = sorted(module.name for module in walk_packages(stt_core.__path__, "stt_core."))


@pytest.mark.parametrize("name", MODULES)
def test_each_module_is_of_the_build_that_was_asked_for(name: str) -> None:
    file = import_module(name).__file__
    assert file is not None
    assert file.endswith(".py") is not (COMPILED and name in LISTED)


def test_the_list_names_modules_that_exist() -> None:
    assert set(MODULES) > LISTED


def test_nobody_gets_a_compiled_wheel_unasked() -> None:
    assert HOOK["enable-by-default"] is False


def test_the_source_sends_the_same_bytes_at_the_same_times_as_what_runs_here() -> None:
    """Run over the compiled build, this is the proof that compiling changes nothing that anybody can see."""
    program = (
        "import stt_core.channel as channel; from tests.sim.test_determinism import history\n"
        "assert channel.__file__.endswith('channel.py'), channel.__file__\n"
        "print([history(seed) for seed in (7, 11)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert done.stdout.strip() == str([history(seed) for seed in (7, 11)])
