"""Messages between fetchers and providers: one way to write each, and nothing else is one."""

from __future__ import annotations

import pytest

from stt_core.content.serving import MOST_QUESTIONS, Questions, UploadBudget
from stt_core.content.tree import LEAF
from stt_core.content.wire import (
    MOST_HASHES,
    Answer,
    AskBlock,
    AskLeaves,
    AskPieces,
    Cancel,
    Gained,
    Holding,
    Leaves,
    Pieces,
    Question,
    Refusal,
    Refused,
    Run,
    Want,
    pack_bits,
    parse_answer_untrusted,
    parse_question_untrusted,
    unpack_bits_untrusted,
)
from stt_core.errors import Violation

NAME = bytes(range(32))
QUESTIONS: list[Question] = [Want(NAME), AskPieces(3, MOST_HASHES), AskLeaves(2**32 - 1), AskBlock(7, 15), Cancel(7, 0)]
ANSWERS: list[Answer] = [
    Holding(2**40, b"\xff\x80"),
    Pieces(5, NAME * 3),
    Leaves(1, (NAME, bytes(32))),
    Run(9, b"data"),
    Run(0, b""),
    Gained(4),
    *(Refused(refusal) for refusal in Refusal),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=repr)
def test_questions_cross_the_wire(question: Question) -> None:
    assert parse_question_untrusted(question.encode()) == question
    with pytest.raises(Violation):
        parse_answer_untrusted(question.encode())


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
def test_answers_cross_the_wire(answer: Answer) -> None:
    assert parse_answer_untrusted(answer.encode()) == answer
    with pytest.raises(Violation):
        parse_question_untrusted(answer.encode())


@pytest.mark.parametrize("question", QUESTIONS, ids=repr)
def test_a_question_cut_or_stretched_is_none(question: Question) -> None:
    message = question.encode()
    for wrong in (message + b"\0", *(message[:stop] for stop in range(len(message)))):
        with pytest.raises(Violation):
            parse_question_untrusted(wrong)


@pytest.mark.parametrize(
    "message",
    [
        AskBlock(0, 16).encode(),
        AskPieces(0, 0).encode(),
        AskPieces(0, MOST_HASHES + 1).encode(),
    ],
)
def test_a_question_out_of_range_is_none(message: bytes) -> None:
    with pytest.raises(Violation):
        parse_question_untrusted(message)


@pytest.mark.parametrize(
    "message",
    [
        Run(0, bytes(4 * LEAF + 1)).encode(),
        Pieces(0, b"").encode(),
        Pieces(0, bytes(33)).encode(),
        Pieces(0, bytes(32 * (MOST_HASHES + 1))).encode(),
        Leaves(0, ()).encode(),
        Leaves(0, (bytes(31),)).encode(),
        Leaves(0, (bytes(32),) * 257).encode(),
        Holding(1, b"").encode()[:8],
        b"\x86\x09",
        b"\x85\0\0\0",
    ],
)
def test_an_answer_out_of_shape_is_none(message: bytes) -> None:
    with pytest.raises(Violation):
        parse_answer_untrusted(message)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64, 1000])
def test_bits_cross_the_wire(count: int) -> None:
    flags = bytearray(n % 3 == 0 for n in range(count))
    assert unpack_bits_untrusted(pack_bits(flags), count) == flags


def test_bits_of_another_length_or_beyond_the_end_are_refused() -> None:
    for bits, count in [(b"", 1), (b"\0\0", 8), (b"\x01", 7), (b"\x80", 0)]:
        with pytest.raises(Violation):
            unpack_bits_untrusted(bits, count)


def test_a_fetcher_names_its_content_first_and_once() -> None:
    questions = Questions()
    with pytest.raises(Violation, match="before it says"):
        questions.receive_untrusted(AskLeaves(0).encode())
    questions.receive_untrusted(Want(NAME).encode())
    assert questions.content_id == NAME
    with pytest.raises(Violation, match="second content"):
        questions.receive_untrusted(Want(NAME).encode())


def test_questions_wait_in_order_and_cancelled_ones_not_at_all() -> None:
    questions = Questions()
    questions.receive_untrusted(Want(NAME).encode())
    for question in (AskLeaves(1), AskBlock(1, 0), AskBlock(1, 1), Cancel(1, 0), Cancel(9, 9)):
        questions.receive_untrusted(question.encode())
    assert [questions.next(), questions.next(), questions.next()] == [AskLeaves(1), AskBlock(1, 1), None]


def test_a_fetcher_can_only_ask_so_far_ahead() -> None:
    questions = Questions()
    questions.receive_untrusted(Want(NAME).encode())
    for _ in range(MOST_QUESTIONS):
        questions.receive_untrusted(AskBlock(1, 0).encode())
    with pytest.raises(Violation, match="questions wait"):
        questions.receive_untrusted(AskBlock(1, 0).encode())
    assert len(questions) == MOST_QUESTIONS


def test_uploads_are_kept_to_their_rate_over_time() -> None:
    budget = UploadBudget(1000.0)
    assert [budget.reserve(500, 10.0) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert budget.reserve(500, 20.0) == 0.0, "what was not used is not saved up"
    assert UploadBudget(None).reserve(10**9, 0.0) == 0.0
