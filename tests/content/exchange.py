"""A fetcher and its providers in one place: what one says, the other hears at once."""

from __future__ import annotations

from collections.abc import Iterator

from stt_core.content.fetcher import Fetcher, ManifestKnown
from stt_core.content.manifest import Manifest
from stt_core.content.planner import Planner, ProviderDropped, Verified
from stt_core.content.wire import (
    Answer,
    AskBlock,
    AskLeaves,
    AskPieces,
    Holding,
    Pieces,
    Want,
    pack_bits,
    parse_question_untrusted,
)
from tests.content.swarm import Content, Provider


class Exchange:
    """Fetches ``content`` from ``providers``. ``said`` holds what each was asked, in order."""

    def __init__(self, content: Content, providers: dict[str, Provider], manifest: Manifest | None = None) -> None:
        self.content = content
        self.providers = providers
        self.fetcher = Fetcher(content.manifest.content_id, manifest)
        self.now = 0.0
        self.got = bytearray(content.manifest.size)
        self.said: dict[str, list[object]] = {key: [] for key in providers}
        self.dropped: dict[object, ProviderDropped] = {}
        self.learned: list[Manifest] = []
        self.silent: set[str] = set()
        for key in providers:
            self.fetcher.add_provider(key, self.now)
        if manifest is not None:
            self._plan(manifest)

    def _plan(self, manifest: Manifest) -> None:
        self.fetcher.plan(Planner(manifest, bytes), self.now)

    def run(self, turns: int = 10_000) -> Exchange:
        """Until nobody has anything to say."""
        for _ in range(turns):
            self.take_events()
            found = self.fetcher.next_message(self.now)
            if found is None:
                break
            key, message = found
            assert isinstance(key, str)
            question = parse_question_untrusted(message)
            self.said[key].append(question)
            if key not in self.silent:
                for answer in self.answers(self.providers[key], question):
                    self.hear(key, answer)
        self.take_events()
        return self

    def hear(self, key: str, answer: Answer) -> None:
        self.fetcher.receive_message(key, answer.encode(), self.now)

    def wait(self, seconds: float) -> Exchange:
        self.now += seconds
        self.fetcher.handle_timer(self.now)
        return self.run()

    def take_events(self) -> None:
        while (event := self.fetcher.next_event()) is not None:
            if isinstance(event, Verified):
                self.got[event.offset : event.offset + len(event.data)] = event.data
            elif isinstance(event, ProviderDropped):
                self.dropped[event.key] = event
            elif isinstance(event, ManifestKnown):
                self.learned.append(event.manifest)
                self._plan(event.manifest)

    def answers(self, provider: Provider, question: object) -> Iterator[Answer]:
        manifest = provider.content.manifest
        if isinstance(question, Want):
            yield Holding(manifest.size, pack_bits(provider.holding))
        elif isinstance(question, AskPieces):
            yield Pieces(question.first, b"".join(manifest.pieces[question.first : question.first + question.count]))
        elif isinstance(question, AskLeaves | AskBlock):
            yield from provider.answers(question)
