"""Targets: what fetchers and providers of a content say to each other."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from fuzz.entropy import entropy_of
from stt_core.content.fetcher import Fetcher, ManifestKnown
from stt_core.content.manifest import Manifest
from stt_core.content.planner import Planner, Verified
from stt_core.content.serving import MOST_QUESTIONS, Questions
from stt_core.content.tree import TreeBuilder
from stt_core.content.wire import (
    Gained,
    Leaves,
    Run,
    pack_bits,
    parse_answer_untrusted,
    parse_question_untrusted,
    unpack_bits_untrusted,
)
from stt_core.errors import Violation

_CONTENT: Final = bytes(range(250)) * 6


def _manifest() -> Manifest:
    builder = TreeBuilder()
    builder.update(_CONTENT)
    return Manifest.from_builder(builder)


_MANIFEST: Final = _manifest()


def target_content_messages(data: bytes) -> None:
    """There is one way to write each message."""
    with suppress(Violation):
        assert parse_question_untrusted(data).encode() == data
    with suppress(Violation):
        assert parse_answer_untrusted(data).encode() == data
    with suppress(Violation):
        count = 8 * len(data) - (data[-1] & 7 if data else 0)
        assert pack_bits(unpack_bits_untrusted(data, count)) == data


def target_content_manifest(data: bytes) -> None:
    """Whatever a provider says, only the content that was asked for comes of it."""
    size = int.from_bytes(data[:8], "big")
    with suppress(Violation):
        manifest = Manifest.parse_untrusted(_MANIFEST.content_id, size, data[8:])
        assert manifest == _MANIFEST


def target_content_fetch(data: bytes) -> None:
    """Two providers say anything in any order from the first word on: no wrong byte comes of it, and no exception."""
    fetcher = Fetcher(_MANIFEST.content_id)
    now = 0.0
    for key in (0, 1):
        fetcher.add_provider(key, now)
    while len(data) >= 2:
        key, size = data[0] >> 7, int.from_bytes(data[:2], "big") & 0x7FFF
        message, data = data[2 : 2 + size], data[2 + size :]
        now += 0.25
        fetcher.receive_message(key, message, now)
        fetcher.handle_timer(now)
        while fetcher.next_message(now) is not None:
            continue
        while (event := fetcher.next_event()) is not None:
            if isinstance(event, Verified):
                assert _CONTENT[event.offset : event.offset + len(event.data)] == event.data
            elif isinstance(event, ManifestKnown):
                assert event.manifest == _MANIFEST
                fetcher.plan(Planner(event.manifest, entropy_of("fetch")), now)


def target_content_exchange(data: bytes) -> None:
    """Two providers say anything in any order, and a fetcher asks anything: bounded, and never a wrong byte."""
    planner = Planner(_MANIFEST, entropy_of("fetch"))
    questions = Questions()
    now = 0.0
    for key in (0, 1):
        planner.add_provider(key, b"\1", now)
    while len(data) >= 2:
        size = int.from_bytes(data[:2], "big")
        message, data = data[2 : 2 + size], data[2 + size :]
        now += 0.25
        with suppress(Violation):
            questions.receive_untrusted(message)
        assert len(questions) <= MOST_QUESTIONS
        with suppress(Violation):
            answer = parse_answer_untrusted(message)
            if isinstance(answer, Leaves):
                planner.receive_leaves(size & 1, answer, now)
            elif isinstance(answer, Run):
                planner.receive_run(size & 1, answer, now)
            elif isinstance(answer, Gained):
                planner.gained(size & 1, answer.piece)
        planner.handle_timer(now)
        while planner.next_question(now) is not None:
            continue
        while (event := planner.next_event()) is not None:
            if isinstance(event, Verified):
                assert _CONTENT[event.offset : event.offset + len(event.data)] == event.data
