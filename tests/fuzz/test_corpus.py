"""The committed corpus and some hundred seeded mutations of it hold, with no fuzzer installed."""

from __future__ import annotations

import ast
import sys
from itertools import islice
from pathlib import Path
from types import FrameType

import pytest

import stt_core
from fuzz.mutate import mutations
from fuzz.registry import CORPUS, corpus, targets

CORE = Path(stt_core.__file__).parent
MUTATIONS = 500
SEED = 20_240_301
SUFFIX = "_untrusted"


@pytest.mark.parametrize("name", list(targets()))
def test_the_corpus_holds(name: str) -> None:
    for path in sorted((CORPUS / name).iterdir()):
        try:
            targets()[name](path.read_bytes())
        except Exception as error:
            error.add_note(f"python -m fuzz --replay {path} {name}")
            raise


@pytest.mark.parametrize("name", list(targets()))
def test_mutations_of_the_corpus_hold(name: str) -> None:
    for data in islice(mutations(corpus(name), SEED), MUTATIONS):
        try:
            targets()[name](data)
        except Exception as error:
            error.add_note(f"{name} broke on {data.hex()}")
            raise


def test_the_corpus_is_small_and_complete() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(targets())
    assert len(files) <= 7 * len(targets())
    assert max(path.stat().st_size for path in files) < 2048


def untrusted() -> set[tuple[str, str]]:
    """(file, function) of all that reads bytes of strangers, by its name."""
    return {
        (str(path.relative_to(CORE)), node.name)
        for path in CORE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.endswith(SUFFIX)
    }


def test_every_untrusted_function_is_reached_by_a_target() -> None:
    reached: set[tuple[str, str]] = set()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name.endswith(SUFFIX) and code.co_filename.startswith(str(CORE)):
            reached.add((str(Path(code.co_filename).relative_to(CORE)), code.co_name))

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        for name, target in targets().items():
            for data in corpus(name):
                target(data)
    finally:
        sys.setprofile(previous)
    assert len(reached) > 20
    assert untrusted() - reached == set()


def test_mutations_repeat_with_their_seed() -> None:
    seeds = corpus("frames")
    assert list(islice(mutations(seeds, 1), 50)) == list(islice(mutations(seeds, 1), 50))
    assert list(islice(mutations(seeds, 1), 50)) != list(islice(mutations(seeds, 2), 50))
