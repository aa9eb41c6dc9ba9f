"""The fetch of one content, from the first word to each provider to the last verified byte.

Rule: what a content is made of is learned from one provider at a time, and believed once it gave the name that was
asked for. Then a :class:`Planner` takes over, and from here on nobody is asked for what isn't planned.

The verbs are the endpoint's: tell what happened, then take :meth:`Fetcher.next_event` and
:meth:`Fetcher.next_message` until both give None, and wait until :meth:`Fetcher.next_timer`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from math import inf
from typing import Final, TypeAlias

from stt_core.content.manifest import Manifest, check_size_untrusted
from stt_core.content.planner import Planner, PlannerEvent, ProviderDropped
from stt_core.content.supplier import PATIENCE
from stt_core.content.tree import HASH_SIZE, piece_count
from stt_core.content.wire import (
    MOST_HASHES,
    Answer,
    AskPieces,
    Gained,
    Holding,
    Leaves,
    Pieces,
    Refusal,
    Refused,
    Run,
    Want,
    parse_answer_untrusted,
    unpack_bits_untrusted,
)
from stt_core.errors import Violation, protocol_violation

REASONS: Final = {
    Refusal.UNKNOWN: "it doesn't have this content",
    Refusal.BUSY: "it serves as many as it can",
    Refusal.GONE: "it has this content no longer",
}


@dataclass(frozen=True, slots=True)
class ManifestKnown:
    """What the content is made of was learned: make a planner, and give it to :meth:`Fetcher.plan`."""

    manifest: Manifest


FetchEvent: TypeAlias = ManifestKnown | PlannerEvent


class _Provider:
    """Somebody the content was asked of, until the planner takes over."""

    __slots__ = ("asked", "hashes", "holding", "planned", "since", "size")

    def __init__(self, now: float) -> None:
        self.since = now
        """When it was asked for what it owes, infinite while the question is still here. Only the answer counts: nobody
        waits any longer for who says something else instead."""
        self.asked = 0
        """Hashes of pieces it was asked for last."""
        self.size = 0
        self.holding: bytearray | None = None
        """A byte for each piece, once it said what it has."""
        self.hashes = bytearray()
        self.planned = False


class Fetcher:
    """Fetches the content named ``content_id``; ``manifest`` where that is known already.

    Providers are known by any hashable ``key``: add them when a stream to them is open.
    """

    __slots__ = ("_content_id", "_events", "_manifest", "_outbox", "_planner", "_providers", "_source")

    def __init__(self, content_id: bytes, manifest: Manifest | None = None) -> None:
        self._content_id = content_id
        self._manifest = manifest
        self._planner: Planner | None = None
        self._providers: dict[Hashable, _Provider] = {}
        self._source: Hashable = None
        """Whom the hashes of the pieces are asked of."""
        self._outbox: deque[tuple[Hashable, bytes]] = deque()
        self._events: deque[FetchEvent] = deque()

    @property
    def manifest(self) -> Manifest | None:
        """What the content is made of, once that is known."""
        return self._manifest

    @property
    def complete(self) -> bool:
        """Whether everything that was planned is here."""
        return self._planner is not None and self._planner.complete

    @property
    def rates(self) -> dict[Hashable, float]:
        """Bytes a second that each provider brought lately."""
        return self._planner.providers if self._planner is not None else {}

    def plan(self, planner: Planner, now: float) -> None:
        """Go on with ``planner``, which is for the manifest that is known."""
        self._planner = planner
        for key in list(self._providers):
            self._join(key, now)

    # --- providers

    def add_provider(self, key: Hashable, now: float) -> None:
        """There is a stream to ``key`` now."""
        self._providers[key] = _Provider(now)
        self._outbox.append((key, Want(self._content_id).encode()))

    def remove_provider(self, key: Hashable) -> None:
        """``key`` went away: what it was asked for is asked elsewhere."""
        if self._providers.pop(key, None) is None:
            return
        if self._planner is not None:
            self._planner.remove_provider(key)
        self._outbox = deque(item for item in self._outbox if item[0] != key)
        if self._source == key:
            self._source = None
            self._ask_for_pieces()

    def receive_message(self, key: Hashable, message: bytes, now: float) -> None:
        """What ``key`` said. Where that breaks the rules or is a refusal, it is dropped: an event tells of it."""
        provider = self._providers.get(key)
        if provider is None:
            return
        try:
            self._take(key, provider, parse_answer_untrusted(message), now)
        except Violation as wrong:
            self._drop(key, wrong.reason, lied=True)

    def _take(self, key: Hashable, provider: _Provider, answer: Answer, now: float) -> None:
        if isinstance(answer, Refused):
            self._drop(key, REASONS[answer.refusal], lied=False)
        elif isinstance(answer, Holding):
            self._take_holding(key, provider, answer, now)
        elif isinstance(answer, Pieces):
            self._take_pieces(key, provider, answer)
        elif isinstance(answer, Gained):
            self._take_gained(key, provider, answer)
        elif not provider.planned or self._planner is None:
            raise protocol_violation("it answers what it wasn't asked")
        elif isinstance(answer, Leaves):
            self._planner.receive_leaves(key, answer, now)
        elif isinstance(answer, Run):
            self._planner.receive_run(key, answer, now)

    def _take_holding(self, key: Hashable, provider: _Provider, answer: Holding, now: float) -> None:
        if provider.holding is not None:
            raise protocol_violation("it says twice what it holds")
        check_size_untrusted(answer.size)
        if self._manifest is not None and answer.size != self._manifest.size:
            raise protocol_violation(f"it says that the content has {answer.size} bytes, not {self._manifest.size}")
        provider.size = answer.size
        provider.holding = unpack_bits_untrusted(answer.pieces, piece_count(answer.size))
        self._ask_for_pieces()
        self._join(key, now)

    def _take_gained(self, key: Hashable, provider: _Provider, answer: Gained) -> None:
        if provider.planned and self._planner is not None:
            self._planner.gained(key, answer.piece)
        elif provider.holding is None or answer.piece >= len(provider.holding):
            raise protocol_violation(f"it claims piece {answer.piece} before it said how many there are, or beyond")
        else:
            provider.holding[answer.piece] = 1

    # --- the manifest

    def _ask_for_pieces(self) -> None:
        """Ask somebody for the next hashes of pieces, unless they are known or somebody was asked."""
        if self._manifest is not None or self._source is not None:
            return
        for key, provider in self._providers.items():
            if provider.holding is not None:
                self._source = key
                self._ask_for_more(key, provider)
                return

    def _ask_for_more(self, key: Hashable, provider: _Provider) -> None:
        first = len(provider.hashes) // HASH_SIZE
        provider.asked = min(piece_count(provider.size) - first, MOST_HASHES)
        provider.since = inf
        self._outbox.append((key, AskPieces(first, provider.asked).encode()))

    def _take_pieces(self, key: Hashable, provider: _Provider, answer: Pieces) -> None:
        if key != self._source or answer.first != len(provider.hashes) // HASH_SIZE:
            raise protocol_violation("it sends hashes of pieces that it wasn't asked for")
        if len(answer.hashes) != provider.asked * HASH_SIZE:  # by one each time it could keep us for days
            raise protocol_violation("it sends other hashes of pieces than it was asked for")
        provider.hashes += answer.hashes
        count = piece_count(provider.size)
        if len(provider.hashes) < count * HASH_SIZE:
            self._ask_for_more(key, provider)
            return
        self._manifest = Manifest.parse_untrusted(self._content_id, provider.size, bytes(provider.hashes))
        self._source = None
        for other in self._providers.values():
            other.hashes.clear()
        self._events.append(ManifestKnown(self._manifest))

    def _join(self, key: Hashable, now: float) -> None:
        """Let the planner ask ``key``, where both are ready."""
        provider = self._providers[key]
        if self._planner is None or provider.holding is None:
            return
        if provider.size != self._planner.manifest.size:
            self._drop(key, f"it says that the content has {provider.size} bytes", lied=True)
        elif not self._planner.add_provider(key, provider.holding, now):
            self._drop(key, "there are enough others", lied=False)
        else:
            provider.planned = True
            provider.holding = bytearray()  # the planner's affair from now on

    # --- time

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`, monotonic seconds; None for never."""
        waiting = (provider.since + PATIENCE for key, provider in self._providers.items() if self._owes(key, provider))
        at = min(waiting, default=inf)
        planned = self._planner.next_timer() if self._planner is not None else None
        at = at if planned is None else min(at, planned)
        return None if at == inf else at

    def handle_timer(self, now: float) -> None:
        """See who has been silent for too long; harmless where nobody has."""
        for key, provider in list(self._providers.items()):
            if self._owes(key, provider) and provider.since + PATIENCE <= now:
                self._drop(key, f"it said nothing for {PATIENCE:g} s", lied=False)
        if self._planner is not None:
            self._planner.handle_timer(now)

    def excuse(self, now: float) -> None:
        """Nobody listened until ``now``: silence before that is held against no provider."""
        for provider in self._providers.values():
            provider.since = now
        if self._planner is not None:
            self._planner.excuse(now)

    def _owes(self, key: Hashable, provider: _Provider) -> bool:
        """Whether it has yet to answer something the planner knows nothing of."""
        return provider.holding is None or key == self._source

    # --- what to do

    def next_event(self) -> FetchEvent | None:
        """The oldest event not yet taken, or None."""
        if self._events:
            return self._events.popleft()
        event = self._planner.next_event() if self._planner is not None else None
        if isinstance(event, ProviderDropped):
            self.remove_provider(event.key)
        return event

    def next_message(self, now: float) -> tuple[Hashable, bytes] | None:
        """Whom to send what next; None where all have enough to do."""
        if self._outbox:
            key, question = self._outbox.popleft()
            self._providers[key].since = now
            return key, question
        found = self._planner.next_question(now) if self._planner is not None else None
        return None if found is None else (found[0], found[1].encode())

    def _drop(self, key: Hashable, reason: str, *, lied: bool) -> None:
        self.remove_provider(key)
        self._events.append(ProviderDropped(key, reason, lied))
