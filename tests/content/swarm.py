"""Providers under virtual time: each sends at its rate, and behaves or doesn't."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from itertools import count

from stt_core.content.manifest import Manifest
from stt_core.content.planner import PieceDone, Planner, ProviderDropped, Verified
from stt_core.content.serving import Questions
from stt_core.content.tree import LEAF, PIECE, PIECE_LEAVES, TreeBuilder, hash_leaf, leaf_count, leaves_in
from stt_core.content.wire import (
    BLOCK_LEAVES,
    RUN_LEAVES,
    Answer,
    AskBlock,
    AskLeaves,
    Leaves,
    Run,
    Want,
    parse_answer_untrusted,
)


class Content:
    """A content and all its hashes."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self.data = random.Random(seed).randbytes(size)
        builder = TreeBuilder()
        builder.update(self.data)
        self.manifest = Manifest.from_builder(builder)
        last = leaf_count(size) - 1
        self.leaves = [
            hash_leaf(self.data[n * LEAF : (n + 1) * LEAF], n, last=n == last) for n in range(leaf_count(size))
        ]

    def answer(self, question: AskLeaves | AskBlock) -> Iterator[Answer]:
        """What an honest provider says."""
        first = question.piece * PIECE_LEAVES
        many = leaves_in(self.manifest.size, question.piece)
        if isinstance(question, AskLeaves):
            yield Leaves(question.piece, tuple(self.leaves[first : first + many]))
            return
        start = question.block * BLOCK_LEAVES
        for leaf in range(start, min(start + BLOCK_LEAVES, many), RUN_LEAVES):
            stop = min(leaf + RUN_LEAVES, start + BLOCK_LEAVES, many)
            yield Run(first + leaf, self.data[(first + leaf) * LEAF : (first + stop) * LEAF])


class Provider:
    """Answers at ``rate`` bytes a second; subclasses misbehave."""

    def __init__(self, content: Content, rate: float, holding: list[int] | None = None) -> None:
        self.content = content
        self.rate = rate
        pieces = range(len(content.manifest.pieces))
        self.holding = bytearray(piece in pieces if holding is None else piece in holding for piece in pieces)
        self.questions = Questions()
        self.questions.receive_untrusted(Want(content.manifest.content_id).encode())
        self.free_at = 0.0
        self.sent = 0

    def answers(self, question: AskLeaves | AskBlock) -> Iterator[Answer]:
        return self.content.answer(question)


class Silent(Provider):
    """Takes questions and says nothing."""

    def answers(self, question: AskLeaves | AskBlock) -> Iterator[Answer]:
        return iter(())


class Liar(Provider):
    """Sends leaves with one byte changed."""

    def answers(self, question: AskLeaves | AskBlock) -> Iterator[Answer]:
        for answer in super().answers(question):
            if isinstance(answer, Run):
                yield Run(answer.leaf, answer.data[:-1] + bytes((answer.data[-1] ^ 1,)))
            else:
                yield answer


class HashLiar(Provider):
    """Sends leaf hashes that are not the piece's."""

    def answers(self, question: AskLeaves | AskBlock) -> Iterator[Answer]:
        for answer in super().answers(question):
            if isinstance(answer, Leaves):
                yield Leaves(answer.piece, (bytes(32), *answer.hashes[1:]))
            else:
                yield answer


class Flooder(Provider):
    """Sends everything four times."""

    def answers(self, question: AskLeaves | AskBlock) -> Iterator[Answer]:
        for answer in super().answers(question):
            yield from [answer] * 4


class Fetch:
    """Runs a planner against providers until all is here, or nobody is left, or ``until`` has passed."""

    def __init__(self, planner: Planner, providers: dict[str, Provider], latency: float = 0.02) -> None:
        self.planner = planner
        self.providers = providers
        self.latency = latency
        self.now = 0.0
        self.got = bytearray(planner.manifest.size)
        self.handed_out = 0
        self.pieces: list[int] = []
        self.dropped: dict[object, ProviderDropped] = {}
        self._arrivals: list[tuple[float, int, str, bytes]] = []
        self._numbers = count()
        for key, provider in providers.items():
            planner.add_provider(key, provider.holding, self.now)

    def run(self, until: float = 1000.0) -> Fetch:
        while not self.planner.complete and self.now < until:
            self._take_events()
            self._ask()
            timer = self.planner.next_timer()
            arrival = self._arrivals[0][0] if self._arrivals else None
            if arrival is not None and (timer is None or arrival <= timer):
                self.now, _, key, message = heapq.heappop(self._arrivals)
                answer = parse_answer_untrusted(message)
                if isinstance(answer, Leaves):
                    self.planner.receive_leaves(key, answer, self.now)
                elif isinstance(answer, Run):
                    self.planner.receive_run(key, answer, self.now)
            elif timer is not None:
                self.now = max(self.now, timer)
                self.planner.handle_timer(self.now)
            else:
                break
        self._take_events()
        return self

    def _ask(self) -> None:
        while (found := self.planner.next_question(self.now)) is not None:
            key, question = found
            assert isinstance(key, str)
            provider = self.providers[key]
            provider.questions.receive_untrusted(question.encode())
            while (asked := provider.questions.next()) is not None:
                assert isinstance(asked, AskLeaves | AskBlock)
                assert provider.holding[asked.piece], "it was asked for what it hasn't"
                for answer in provider.answers(asked):
                    message = answer.encode()
                    start = max(provider.free_at, self.now + self.latency)
                    provider.free_at = start + len(message) / provider.rate
                    provider.sent += len(message)
                    arrives = provider.free_at + self.latency
                    heapq.heappush(self._arrivals, (arrives, next(self._numbers), key, message))

    def _take_events(self) -> None:
        while (event := self.planner.next_event()) is not None:
            if isinstance(event, Verified):
                self.got[event.offset : event.offset + len(event.data)] = event.data
                self.handed_out += len(event.data)
            elif isinstance(event, PieceDone):
                start, stop = event.piece * PIECE, (event.piece + 1) * PIECE
                content = next(iter(self.providers.values())).content
                assert self.got[start:stop] == content.data[start:stop], "a piece was called done too early"
                self.pieces.append(event.piece)
            else:
                self.dropped[event.key] = event
