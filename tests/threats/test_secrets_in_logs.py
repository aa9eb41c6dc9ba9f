"""Whoever reads the logs, a crash report or a debugger's display of any object learns no seed and no key."""

from __future__ import annotations

import base64
import gc
import logging
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType, FunctionType, ModuleType
from typing import Any

import anyio
import pytest

from stt_anyio import ConfigurationError, STTError, STTNode
from stt_core import keys
from stt_core.config import EndpointConfig

pytestmark = pytest.mark.anyio

SEED = b"the quick brown seed jumps over"
OTHER_SEED = b"the lazy dog has a seed as well"
SHORT_SEED = b"sh0rt!"
ALICE = bytes(range(100, 132))
BOB = bytes(range(200, 232))
LIMIT = 20.0


def spellings(secret: bytes) -> Iterator[str]:
    """How a secret may look in a text."""
    yield secret.decode("utf-8", "backslashreplace")
    yield repr(secret)[2:-1]
    yield repr(bytearray(secret))[12:-2]
    yield repr(list(secret))[1:-1]
    yield secret.hex()
    yield secret.hex().upper()
    yield base64.b64encode(secret).decode().rstrip("=")
    yield str(int.from_bytes(secret, "big"))


def leaks(text: str, secrets: Iterable[bytes]) -> list[str]:
    return [found for secret in secrets for found in spellings(secret) if found in text]


def reprs_of_everything_below(*roots: object) -> str:
    """The displays of all of the library's objects that can be reached from ``roots``."""
    seen: dict[int, Any] = {}
    waiting: list[Any] = list(roots)
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type | ModuleType | FunctionType | FrameType):
            continue
        seen[id(item)] = item
        waiting += gc.get_referents(item)
    ours = [item for item in seen.values() if type(item).__module__.startswith("stt_")]
    assert len(ours) > 50
    return "\n".join(repr(item) for item in ours)


def trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """Every key that is derived while the test runs."""
    found: set[bytes] = set()
    expand = keys.expand

    def noting(prk: bytes, label: str, context: bytes = b"", length: int = 32) -> bytes:
        key = expand(prk, label, context, length)
        found.update((prk, key))
        return key

    monkeypatch.setattr(keys, "expand", noting)
    return found


def node(**settings: Any) -> STTNode:
    return STTNode(bind_address="127.0.0.1", **settings)


async def test_a_whole_life_tells_no_secret(caplog: pytest.LogCaptureFixture, derived: set[bytes]) -> None:
    def fail(*details: object) -> None:
        raise ZeroDivisionError(repr(details))

    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    with anyio.fail_after(LIMIT):
        async with (
            node(shared_seed=SEED, node_seed=ALICE, node_id=b"Alice") as alice,
            node(shared_seed=SEED, node_seed=BOB, node_id=b"Bob") as bob,
            node(shared_seed=OTHER_SEED) as mallory,
        ):
            bob.on_session_established(fail)
            bob.on_session_closed(fail)
            address = ("127.0.0.1", bob.port)
            here = await alice.connect(address)
            there = await bob.accept()
            ours = here.open_stream(purpose="talk")
            await ours.send(b"x", timeout=10)
            theirs = await there.accept_stream()
            attempts: list[dict[str, Any]] = [{"peer_node_id": b"Carol"}, {"peer_key": bytes(32)}]
            for attempt in attempts:
                with pytest.raises(STTError) as refused:
                    await alice.connect(address, **attempt)
                told.append(trace(refused.value))
            with pytest.raises(STTError) as rejected:
                await mallory.connect(address)
            told.append(trace(rejected.value))
            told.append(reprs_of_everything_below(alice, bob, mallory, here, there, ours, theirs))
            await here.close()
            await there.wait_closed()
            with pytest.raises(STTError) as over:
                await theirs.send(b"x")
            told.append(trace(over.value))
            told.append(f"{here.statistics()} {alice.statistics()} {alice!s} {here!s} {ours!s}")
        told.append(reprs_of_everything_below(alice, bob, mallory, here))
    assert len(derived) > 20
    assert caplog.records
    assert leaks(caplog.text + "\n".join(told), {SEED, OTHER_SEED, ALICE, BOB} | derived) == []


async def test_a_weak_seed_is_warned_of_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with node(shared_seed=SHORT_SEED):
        pass
    assert "seed is weak" in caplog.text
    assert leaks(caplog.text, [SHORT_SEED]) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"shared_seed": SEED * 40},
        {"shared_seed": SEED, "node_seed": SHORT_SEED},
        {"shared_seed": SEED, "node_seed": ALICE, "max_sessions": 0},
    ],
)
def test_a_setting_that_is_refused_is_not_shown_where_it_is_a_secret(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        EndpointConfig(node_id=b"Alice", **settings)
    secrets = {value for value in settings.values() if isinstance(value, bytes)} | {SEED}
    assert leaks(trace(caught.value), secrets) == []


def test_the_search_finds_what_it_looks_for() -> None:
    for text in (f"seed={SEED!r}", SEED.decode(), f"{ALICE!r}", ALICE.hex(), f"{list(ALICE)}", f"{bytearray(SEED)!r}"):
        assert leaks(text, [SEED, ALICE]) != []
