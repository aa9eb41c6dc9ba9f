"""What the documents show works: programs run, commands exist. The convention is in tests/docs/markdown.py."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.docs.markdown import PAGES, ROOT, Block, blocks, programs, source

LANGUAGES = {"console", "ini", "json", "mermaid", "python", "text", "toml", "yaml"}
SHELL_TOOLS = {"cat", "cd", "cmp", "cp", "diff", "echo", "export", "git", "head", "ls", "mkdir", "openssl", "printf"}
SHELL_TOOLS |= {"psql", "redis-cli"}
SHELL_TOOLS |= {"pip", "pipx", "pre-commit", "python", "python3", "python3.11", "sha256sum", "source", "umask"}
EVERY_BLOCK = [block for page in PAGES for block in blocks(page)]
EVERY_PROGRAM = programs()


def commands(block: Block) -> list[list[str]]:
    """The simple commands of a ``console`` block, as words: pipelines and lists taken apart, assignments dropped."""
    found: list[list[str]] = []
    lines = iter(block.text.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            continue
        command = line[2:]
        while command.endswith("\\"):
            command = command[:-1] + " " + next(lines).removeprefix(">")
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();&|"):
                if words:
                    found.append(words)
                words = []
            elif words or not re.match(r"\w+=", word):
                words.append(word)
    return found


EVERY_COMMAND = [(block, words) for block in EVERY_BLOCK if block.language == "console" for words in commands(block)]


def command_named(name: str) -> list[tuple[Block, list[str]]]:
    return [(block, words) for block, words in EVERY_COMMAND if Path(words[0]).name == name]


def environment() -> dict[str, str]:
    """Ours, less what would configure the programs, plus the way to the packages."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STT_")}
    return {**inherited, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("program", EVERY_PROGRAM, ids=[program[0].name for program in EVERY_PROGRAM])
def test_a_python_example_runs(program: list[Block], tmp_path: Path) -> None:
    script = tmp_path / f"{program[0].page.stem}.py"
    script.write_text(source(program), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_every_block_names_a_language_that_is_looked_after() -> None:
    assert not [f"{block.name}: {block.language!r}" for block in EVERY_BLOCK if block.language not in LANGUAGES]


def test_a_block_with_commands_is_a_console_block() -> None:
    prompted = [block for block in EVERY_BLOCK if re.search(r"^\$ ", block.text, re.MULTILINE)]
    assert not [block.name for block in prompted if block.language != "console"]


def test_every_command_shown_is_one_that_is_looked_after() -> None:
    known = SHELL_TOOLS | {"make", "stt"}
    assert not [f"{block.name}: {words[0]}" for block, words in EVERY_COMMAND if Path(words[0]).name not in known]


def test_every_make_target_shown_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {target for line in re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE) for target in line.split()}
    shown = [(block, word) for block, words in command_named("make") for word in words[1:] if "=" not in word]
    assert not [f"{block.name}: make {word}" for block, word in shown if word not in targets]


def test_everything_run_by_python_exists() -> None:
    missing = []
    for block, words in [pair for name in ("python", "python3", "python3.11") for pair in command_named(name)]:
        if "-m" in words:
            module = words[words.index("-m") + 1]
            place = ROOT / module.replace(".", "/")
            exists = module in {"pip", "pytest", "venv"} or place.is_dir() or place.with_suffix(".py").exists()
        else:
            exists = all((ROOT / word).exists() for word in words if word.endswith(".py"))
        if not exists:
            missing.append(f"{block.name}: {shlex.join(words)}")
    assert not missing


@cache
def help_of(subcommand: tuple[str, ...]) -> str:
    """What ``stt … --help`` prints; it exits with 0 for a subcommand that exists."""
    start = "import sys; from stt_anyio.cli import main; sys.argv[0] = 'stt'; sys.exit(main())"
    run = subprocess.run(
        [sys.executable, "-c", start, *subcommand, "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


STT_COMMANDS = command_named("stt")


@pytest.mark.parametrize(("block", "words"), STT_COMMANDS, ids=[shlex.join(words) for _, words in STT_COMMANDS])
def test_every_stt_command_shown_exists_with_its_options(block: Block, words: list[str]) -> None:
    subcommand = tuple(word for word in words[1:2] if not word.startswith("-"))
    offered = help_of(()) + help_of(subcommand)
    options = [word.split("=")[0] for word in words[1:] if word.startswith("--")]
    assert not [option for option in options if option not in offered], block.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nobody_is_told_to_install_the_speech_library_of_the_same_name(page: Path) -> None:
    assert not re.search(r"pip3? install (-\S+ )*['\"]?stt(?![-\w])", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [target.partition("#")[0] for target in targets if not re.match(r"\w+:", target)]
    assert not [target for target in local if target and not (page.parent / target).exists()]
