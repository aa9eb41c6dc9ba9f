"""Providers of a content that hold up its fetch without ever sending what is wrong: by drips, and by idle talk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from stt_core.content.fetcher import Fetcher, ManifestKnown
from stt_core.content.planner import Planner, ProviderDropped, Verified
from stt_core.content.supplier import PATIENCE
from stt_core.content.tree import HASH_SIZE, LEAF, PIECE
from stt_core.content.wire import (
    AskBlock,
    AskLeaves,
    AskPieces,
    Gained,
    Holding,
    Leaves,
    Pieces,
    Question,
    Run,
    Want,
    pack_bits,
    parse_question_untrusted,
)
from tests.content.swarm import Content
from tests.core.pair import entropy_of

CONTENT = Content(2 * PIECE + 1)
MANIFEST = CONTENT.manifest
Answering = Callable[[Question], Iterator[bytes]]


def honest(question: Question) -> Iterator[bytes]:
    if isinstance(question, Want):
        yield Holding(MANIFEST.size, pack_bits(bytes([1] * len(MANIFEST.pieces)))).encode()
    elif isinstance(question, AskPieces):
        part = slice(question.first * HASH_SIZE, (question.first + question.count) * HASH_SIZE)
        yield Pieces(question.first, MANIFEST.hashes[part]).encode()
    elif isinstance(question, AskLeaves | AskBlock):
        for answer in CONTENT.answer(question):
            yield answer.encode()


def dripping(question: Question) -> Iterator[bytes]:
    """One hash for an answer, whatever was asked for."""
    if isinstance(question, AskPieces):
        yield Pieces(question.first, MANIFEST.hashes[question.first * HASH_SIZE :][:HASH_SIZE]).encode()
    else:
        yield from honest(question)


def hold_back(*kinds: type[Question]) -> Answering:
    """Honest, but for questions of these kinds."""

    def answering(question: Question) -> Iterator[bytes]:
        if not isinstance(question, kinds):
            yield from honest(question)

    return answering


LAST = len(CONTENT.leaves) - 1
TALK = {
    "pieces gained": Gained(0).encode(),
    "leaf hashes nobody asked for": Leaves(1, tuple(CONTENT.leaves[256:512])).encode(),
    "runs of nothing": Run(0, b"").encode(),
    "a byte of what is there": Run(LAST, CONTENT.data[LAST * LEAF :]).encode(),
}


def fetch(hostile: Answering, talk: bytes = b"", *, hostile_first: bool = True) -> tuple[float, list[str]]:
    """How long the fetch from an honest provider and two hostile ones took, and who was dropped, at an answer each
    tenth of a second and idle talk by the hostile each second."""
    fetcher = Fetcher(MANIFEST.content_id)
    now, verified, dropped = 0.0, 0, []
    answers = {"mallory": hostile, "malvina": hostile, "honest": honest}
    for key in answers if hostile_first else reversed(answers):
        fetcher.add_provider(key, now)
    while not fetcher.complete:
        said: list[tuple[str, bytes]] = []
        while (found := fetcher.next_message(now)) is not None:
            key = str(found[0])
            said += [(key, answer) for answer in answers[key](parse_question_untrusted(found[1]))]
        now = round(now + 0.1, 1)
        for key, answer in said:
            fetcher.receive_message(key, answer, now)
        if talk and now % 1 == 0:
            fetcher.receive_message("mallory", talk, now)
            fetcher.receive_message("malvina", talk, now)
        fetcher.handle_timer(now)
        while (event := fetcher.next_event()) is not None:
            if isinstance(event, ManifestKnown):
                fetcher.plan(Planner(event.manifest, entropy_of("planner")), now)
            elif isinstance(event, ProviderDropped):
                dropped.append(str(event.key))
            elif isinstance(event, Verified):
                verified += len(event.data)
        assert now < 1000, "it would go on for ever"
    assert verified == MANIFEST.size
    return now, dropped


def test_hashes_by_drips_end_at_the_first() -> None:
    took, dropped = fetch(dripping)
    assert dropped == ["mallory", "malvina"]
    assert took < 5


@pytest.mark.parametrize("talk", TALK.values(), ids=TALK)
def test_who_talks_instead_of_saying_what_the_content_is_made_of_is_not_waited_for(talk: bytes) -> None:
    took, dropped = fetch(hold_back(AskPieces), talk)
    assert set(dropped) == {"mallory", "malvina"}
    assert took < 3 * PATIENCE


@pytest.mark.parametrize("talk", TALK.values(), ids=TALK)
def test_who_talks_instead_of_sending_what_it_was_asked_for_holds_up_nobody(talk: bytes) -> None:
    """Two that do so are all that a block is asked of at the end."""
    took, _ = fetch(hold_back(AskBlock), talk)
    assert took < 8 * PATIENCE
